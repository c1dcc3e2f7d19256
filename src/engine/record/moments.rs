//! Where moments lie in a record of output: which line is the first one after each, and how busy its source was before.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

use crate::ports::engine::Beyond;

/// What came last before a moment counts as just before it when it is not older than this: the moment is when the end of an
/// engine was noticed, not when it came.
const RECENT: Duration = Duration::from_secs(1);

/// What was written within about this much time before is told.
const STRETCH: SignedDuration = SignedDuration::from_millis(20);

/// Moments in one source's record; bounds as the engine writes times, so that their texts can be compared.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    bounds: Vec<Bound>,
    /// The first one that is not passed.
    next: usize,
    /// When the present stretch of time began, what was written within it, and within the one before.
    stretch: Timestamp,
    present: u64,
    before: u64,
}

/// A moment, and how long before it something is old.
#[derive(Debug, Clone)]
struct Bound {
    recent: String,
    at: String,
}

impl Bound {
    fn new(at: SystemTime) -> Self {
        let text = |time| format!("{:.9}", Timestamp::try_from(time).unwrap_or_default());
        Self {
            recent: text(at - RECENT),
            at: text(at),
        }
    }
}

impl Moments {
    /// The same for both sources; `None` where there are none, and so no times are needed.
    pub(super) fn new(moments: &[SystemTime]) -> Option<Box<[Self; 2]>> {
        let its = Self {
            bounds: moments.iter().copied().map(Bound::new).collect(),
            next: 0,
            stretch: Timestamp::UNIX_EPOCH,
            present: 0,
            before: 0,
        };
        (!moments.is_empty()).then(|| Box::new([its.clone(), its]))
    }

    /// Takes a line's time in, and its length; tells which moment it is the first one beyond.
    pub(super) fn pass(&mut self, time: &[u8], length: usize) -> Option<Beyond> {
        if time <= self.bounds.get(self.next)?.recent.as_bytes() {
            return None;
        }
        let passed = self.bounds[self.next..].iter();
        let passed = passed
            .take_while(|bound| time > bound.at.as_bytes())
            .count();
        if passed > 0 {
            let just_before = self.before + self.present;
            (self.before, self.present, self.stretch) = (0, 0, Timestamp::UNIX_EPOCH);
            self.next += passed;
            let moment = self.next - 1;
            self.count(time, length);
            return Some(Beyond {
                moment,
                just_before,
            });
        }
        self.count(time, length);
        None
    }

    fn count(&mut self, time: &[u8], length: usize) {
        let time = std::str::from_utf8(time).ok();
        let Some(time) = time.and_then(|time| time.parse::<Timestamp>().ok()) else {
            return;
        };
        let age = time.duration_since(self.stretch);
        if age > STRETCH {
            let follows = age <= STRETCH * 2;
            self.before = if follows { self.present } else { 0 };
            (self.stretch, self.present) = (time, 0);
        }
        self.present += length as u64;
    }
}
