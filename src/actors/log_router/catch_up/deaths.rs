//! When engines died under a container, and how busy its output was just before: an engine that dies loses what it had read
//! and neither sent nor written down, so where it died under a source that was busy, bytes may be missing.

use std::time::{Duration, SystemTime};

/// So many are remembered for one container.
const LIMIT: usize = 16;

/// What came last before a death counts as just before it when it is not older than this: a death is noticed later than it
/// comes.
const RECENT: Duration = Duration::from_secs(1);

/// What was written within about this much time before is counted.
const STRETCH: Duration = Duration::from_millis(20);

/// A source that wrote this much within that time was busy: some of it may not have been written down.
pub(super) const BUSY: usize = 16 * 1024;

/// The deaths, by this machine's clock. The last one may be that of a stream alone.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    at: Vec<SystemTime>,
    /// About so many of them there is nothing more to say, of each source.
    said: [usize; 2],
}

impl Deaths {
    pub(super) fn add(&mut self, at: SystemTime) {
        if self.at.len() == LIMIT {
            self.at.remove(0);
            self.said = self.said.map(|said| said.saturating_sub(1));
        }
        self.at.push(at);
    }

    /// Whether nothing has been said of the last one.
    pub(super) fn is_last_new(&self) -> bool {
        self.said.iter().all(|said| *said < self.at.len())
    }

    /// Whether nothing has been said of one.
    pub(super) fn is_any_new(&self) -> bool {
        (0..2).any(|source| self.first_new(source).is_some())
    }

    /// The first one of which nothing has been said beside a source.
    pub(super) fn first_new(&self, source: usize) -> Option<SystemTime> {
        self.at.get(self.said[source]).copied()
    }

    /// The last one was none.
    pub(super) fn forget_last(&mut self) {
        self.at.pop();
    }

    /// There is nothing more to say of any until now.
    pub(super) fn all_said(&mut self) {
        self.said = [self.at.len(); 2];
    }

    /// Whether this is to be said where a source's new output begins beyond a death; it counts as said then.
    pub(super) fn is_to_be_said(&mut self, source: usize, passed: Passed) -> bool {
        self.is_news(source, passed) && passed.just_before >= BUSY
    }

    /// Takes note that the death before a source's output has been said; whether it had not.
    pub(super) fn is_news(&mut self, source: usize, passed: Passed) -> bool {
        let is_news = passed.deaths > self.said[source];
        self.said[source] = self.said[source].max(passed.deaths);
        is_news
    }
}

/// That some output is the first beyond a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    /// The deaths that lie before it.
    deaths: usize,
    /// Bytes that the source wrote last before the first of them.
    just_before: usize,
}

/// One source's output along the deaths.
#[derive(Debug)]
pub(super) struct Pace {
    passed: usize,
    /// When the present stretch of time began, what was written within it, and within the one before.
    stretch: SystemTime,
    present: usize,
    before: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            passed: 0,
            stretch: SystemTime::UNIX_EPOCH,
            present: 0,
            before: 0,
        }
    }
}

impl Pace {
    /// Takes some output in.
    pub(super) fn go_on(
        &mut self,
        deaths: &Deaths,
        time: Option<SystemTime>,
        bytes: usize,
    ) -> Option<Passed> {
        let (time, next) = (time?, *deaths.at.get(self.passed)?);
        if time + RECENT <= next {
            return None;
        }
        let later = deaths.at[self.passed..].iter();
        let passed = later.take_while(|death| time > **death).count();
        let passed = (passed > 0).then(|| self.pass(self.passed + passed));
        let age = time.duration_since(self.stretch).unwrap_or_default();
        if age > STRETCH {
            let follows = age <= STRETCH * 2;
            self.before = if follows { self.present } else { 0 };
            (self.stretch, self.present) = (time, 0);
        }
        self.present += bytes;
        passed
    }

    /// There is no more output yet: what comes will be beyond all deaths.
    pub(super) fn stop(&mut self, deaths: &Deaths) -> Option<Passed> {
        let all = deaths.at.len();
        (self.passed < all).then(|| self.pass(all))
    }

    fn pass(&mut self, deaths: usize) -> Passed {
        let just_before = self.before + self.present;
        *self = Self {
            passed: deaths,
            ..Self::default()
        };
        Passed {
            deaths,
            just_before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_millis(100_000 + millis))
    }

    fn deaths(millis: &[u64]) -> Deaths {
        let mut deaths = Deaths::default();
        for millis in millis {
            deaths.add(at(*millis).unwrap());
        }
        deaths
    }

    #[test]
    fn what_was_written_just_before_a_death_is_told_at_the_first_output_beyond_it() {
        let deaths = deaths(&[1_000, 2_000]);
        let mut pace = Pace::default();

        let told = [0, 100, 990, 1_500, 1_600, 2_100, 2_200]
            .map(|millis| pace.go_on(&deaths, at(millis), 12 + millis as usize));

        let passed = |deaths, just_before| {
            Some(Passed {
                deaths,
                just_before,
            })
        };
        let none = None;
        assert_eq!(
            told,
            [
                none,
                none,
                none,
                passed(1, 1_002),
                none,
                passed(2, 1_612),
                none
            ]
        );
    }

    #[test]
    fn output_that_stops_before_a_death_is_beyond_it_next() {
        let deaths = deaths(&[1_000]);
        let mut pace = Pace::default();
        assert_eq!(pace.go_on(&deaths, at(999), 7), None);

        let stopped = pace.stop(&deaths);

        let passed = Passed {
            deaths: 1,
            just_before: 7,
        };
        assert_eq!(stopped, Some(passed));
        assert_eq!(pace.go_on(&deaths, at(1_001), 7), None);
        assert_eq!(pace.stop(&deaths), None);
    }

    #[test]
    fn the_first_death_that_is_not_said_is_told_of_each_source() {
        let mut deaths = deaths(&[1_000, 2_000]);
        assert_eq!(deaths.first_new(0), at(1_000));

        deaths.is_news(
            0,
            Passed {
                deaths: 1,
                just_before: 0,
            },
        );

        assert_eq!(deaths.first_new(0), at(2_000));
        assert_eq!(deaths.first_new(1), at(1_000));
        assert!(deaths.is_any_new());
        deaths.all_said();
        assert_eq!((deaths.first_new(0), deaths.first_new(1)), (None, None));
        assert!(!deaths.is_any_new());
    }

    #[test]
    fn a_death_is_said_once_of_each_source_that_was_busy() {
        let mut deaths = deaths(&[1_000]);
        let passed = |just_before| Passed {
            deaths: 1,
            just_before,
        };

        assert!(!deaths.is_to_be_said(1, passed(100)));
        assert!(!deaths.is_to_be_said(1, passed(BUSY)));
        assert!(deaths.is_to_be_said(0, passed(BUSY)));
        assert!(!deaths.is_to_be_said(0, passed(BUSY)));
    }
}
