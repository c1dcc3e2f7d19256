//! The level at which recurring events are logged, so that no log is flooded. Pure: the time is an argument.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use log::Level;
use tokio::time::Instant;

/// Decides at which level a heartbeat is logged.
#[derive(Debug, Default)]
pub struct HeartbeatVoice {
    /// Whether a heartbeat has reached the master before.
    begun: bool,
    outage: Outage,
}

impl HeartbeatVoice {
    /// A heartbeat has reached the master: info for the first one and the first after a failure, else debug.
    pub fn sent(&mut self) -> Level {
        let back = self.outage.over();
        match std::mem::replace(&mut self.begun, true) && !back {
            true => Level::Debug,
            false => Level::Info,
        }
    }

    /// A heartbeat has failed: a warning for the first in a row, else debug.
    pub fn failed(&mut self) -> Level {
        self.outage.again()
    }
}

/// A lasting trouble, of which the beginning and the end are logged.
#[derive(Debug, Default)]
pub struct Outage {
    lasts: bool,
}

impl Outage {
    /// The trouble is here: a warning the first time, else debug.
    pub fn again(&mut self) -> Level {
        if std::mem::replace(&mut self.lasts, true) {
            Level::Debug
        } else {
            Level::Warn
        }
    }

    /// The trouble is gone: true if it was here until now.
    pub fn over(&mut self) -> bool {
        std::mem::take(&mut self.lasts)
    }
}

/// A lasting trouble whose beginning and end are logged, the end with how long it took.
#[derive(Debug, Default)]
pub struct Trouble {
    since: Option<Instant>,
}

impl Trouble {
    /// The trouble is here: a warning the first time, else debug.
    pub fn again(&mut self, now: Instant) -> Level {
        if self.since.is_some() {
            return Level::Debug;
        }
        self.since = Some(now);
        Level::Warn
    }

    /// The trouble is gone: how long it lasted in whole seconds, or `None` if there was none.
    pub fn over(&mut self, now: Instant) -> Option<Duration> {
        let lasted = now.saturating_duration_since(self.since.take()?);
        Some(Duration::from_secs(lasted.as_secs()))
    }
}

/// Things that were logged lately, so that they are not logged again: `limit` of them at most, the oldest forgotten first.
#[derive(Debug)]
pub struct Said<K> {
    limit: usize,
    order: VecDeque<K>,
    known: HashSet<K>,
}

impl<K: Clone + Eq + Hash> Said<K> {
    /// Remembers up to `limit` things.
    #[must_use]
    pub fn of(limit: usize) -> Self {
        Self {
            limit,
            order: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// Whether the thing is new. It is remembered from then on.
    pub fn is_new(&mut self, thing: K) -> bool {
        if !self.known.insert(thing.clone()) {
            return false;
        }
        self.order.push_back(thing);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// Refusals that are remembered, so that each is logged once.
const REFUSALS: usize = 4_096;

/// Most new refusals that are shown within [`REFUSALS_IN`]; a caller who makes up tasks gets no more of the log.
const REFUSALS_SHOWN: u64 = 60;

/// The time that [`REFUSALS_SHOWN`] is for.
const REFUSALS_IN: Duration = Duration::from_secs(60);

/// Decides at which level a refused offer is logged: info once per task and cause, and at most 60 times in a minute; else debug.
#[derive(Debug)]
pub struct RefusalVoice {
    said: Said<u64>,
    since: Option<Instant>,
    in_this_time: u64,
}

impl Default for RefusalVoice {
    fn default() -> Self {
        Self {
            said: Said::of(REFUSALS),
            since: None,
            in_this_time: 0,
        }
    }
}

impl RefusalVoice {
    /// An offer of `task` was refused: the level, and how many refusals were not shown in the minute that is over. The cause is
    /// the reason up to its first colon, since the figures behind it change.
    pub fn refused(&mut self, task: &str, reason: &str, now: Instant) -> (Level, u64) {
        let cause = reason.split(':').next().unwrap_or(reason);
        // Remember a digest: an id and a reason may be long.
        let mut hasher = DefaultHasher::new();
        (task, cause).hash(&mut hasher);
        if !self.said.is_new(hasher.finish()) {
            return (Level::Debug, 0);
        }
        let mut quiet = 0;
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= REFUSALS_IN)
        {
            quiet = self.in_this_time.saturating_sub(REFUSALS_SHOWN);
            self.since = Some(now);
            self.in_this_time = 0;
        }
        self.in_this_time += 1;
        let level = if self.in_this_time > REFUSALS_SHOWN {
            Level::Debug
        } else {
            Level::Info
        };
        (level, quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_heartbeat_is_shown_and_no_more_while_all_is_well() {
        let mut voice = HeartbeatVoice::default();

        let shown = (0..1_000).filter(|_| voice.sent() == Level::Info);

        assert_eq!(shown.count(), 1);
    }

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        let mut voice = HeartbeatVoice::default();
        voice.sent();

        assert_eq!(voice.failed(), Level::Warn);
        assert_eq!(voice.failed(), Level::Debug);
        assert_eq!(voice.sent(), Level::Info);
        assert_eq!(voice.sent(), Level::Debug);
        assert_eq!(voice.failed(), Level::Warn, "a new row of failures");
    }

    #[test]
    fn an_outage_that_never_was_is_not_over() {
        let mut outage = Outage::default();

        assert!(!outage.over());
        assert_eq!(outage.again(), Level::Warn);
        assert!(outage.over());
        assert!(!outage.over());
    }

    #[test]
    fn a_trouble_is_told_once_and_its_end_with_its_length() {
        let mut away = Trouble::default();
        let start = Instant::now();

        assert_eq!(away.over(start), None);
        assert_eq!(away.again(start), Level::Warn);
        assert_eq!(away.again(start + Duration::from_secs(5)), Level::Debug);
        let over = start + Duration::from_millis(120_900);
        assert_eq!(away.over(over), Some(Duration::from_secs(120)));
        assert_eq!(away.over(over), None);
        assert_eq!(away.again(over), Level::Warn);
    }

    #[test]
    fn the_same_thing_is_said_once_while_it_is_remembered() {
        let mut said = Said::of(2);

        assert!(said.is_new("a"));
        assert!(!said.is_new("a"));
        assert!(said.is_new("b") && said.is_new("c"));
        assert!(!said.is_new("c"));
        assert!(said.is_new("a"), "forgotten for the others");
        assert_eq!(said.known.len(), 2);
    }

    #[test]
    fn a_refusal_is_told_once_per_task_and_cause() {
        let mut voice = RefusalVoice::default();
        let now = Instant::now();
        let mut level = |task, reason| voice.refused(task, reason, now).0;

        assert_eq!(level("a", "no room: cpu 1 asked, 0.5 free"), Level::Info);
        assert_eq!(level("a", "no room: cpu 1 asked, 0.3 free"), Level::Debug);
        assert_eq!(level("a", "the worker is stopping"), Level::Info);
        assert_eq!(level("b", "no room: cpu 1 asked, 0.5 free"), Level::Info);
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_told_one_by_one() {
        let mut voice = RefusalVoice::default();
        let start = Instant::now();
        let mut level = |number: u32, at| voice.refused(&number.to_string(), "no room", at);

        let shown = (0..10_000).filter(|number| level(*number, start).0 == Level::Info);
        assert_eq!(shown.count() as u64, REFUSALS_SHOWN);
        let later = start + REFUSALS_IN;
        assert_eq!(level(10_000, later), (Level::Info, 10_000 - REFUSALS_SHOWN));
        assert_eq!(level(10_001, later), (Level::Info, 0));
        assert!(voice.said.known.len() <= REFUSALS);
    }
}
