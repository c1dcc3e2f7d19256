//! How loudly something that happens again and again is said: pure, so that no log is flooded and no test has to wait.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use log::Level;
use tokio::time::Instant;

/// Decides how loudly a heartbeat is said.
#[derive(Debug, Default)]
pub struct HeartbeatVoice {
    /// One was sent.
    begun: bool,
    outage: Outage,
}

impl HeartbeatVoice {
    /// A heartbeat has reached the master: shown is the first one, and the first after a failure.
    pub fn sent(&mut self) -> Level {
        let back = self.outage.over();
        match std::mem::replace(&mut self.begun, true) && !back {
            true => Level::Debug,
            false => Level::Info,
        }
    }

    /// A heartbeat has not: the first of a row is a warning.
    pub fn failed(&mut self) -> Level {
        self.outage.again()
    }
}

/// Says a lasting trouble once, and its end once.
#[derive(Debug, Default)]
pub struct Outage {
    lasts: bool,
}

impl Outage {
    /// It is there, or still there: a warning the first time.
    pub fn again(&mut self) -> Level {
        if std::mem::replace(&mut self.lasts, true) {
            Level::Debug
        } else {
            Level::Warn
        }
    }

    /// It is not there: true if it was until now.
    pub fn over(&mut self) -> bool {
        std::mem::take(&mut self.lasts)
    }
}

/// A trouble that lasts: said once by whoever meets it first, and once when it is over, with how long it took.
#[derive(Debug, Default)]
pub struct Trouble {
    since: Option<Instant>,
}

impl Trouble {
    /// It is there, or still there: a warning the first time.
    pub fn again(&mut self, now: Instant) -> Level {
        if self.since.is_some() {
            return Level::Debug;
        }
        self.since = Some(now);
        Level::Warn
    }

    /// It is not there: how long it lasted, if it did until now. In whole seconds, as people tell it.
    pub fn over(&mut self, now: Instant) -> Option<Duration> {
        let lasted = now.saturating_duration_since(self.since.take()?);
        Some(Duration::from_secs(lasted.as_secs()))
    }
}

/// What was said of late, so that it is not said again: at most so many things, the oldest forgotten first.
#[derive(Debug)]
pub struct Said<K> {
    limit: usize,
    order: VecDeque<K>,
    known: HashSet<K>,
}

impl<K: Clone + Eq + Hash> Said<K> {
    /// Remembers `limit` things.
    #[must_use]
    pub fn of(limit: usize) -> Self {
        Self {
            limit,
            order: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// Whether this is to be said: not if it has been.
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

/// How many refusals are remembered, so that each is said once.
const REFUSALS: usize = 4_096;

/// So many new refusals are said in [`REFUSALS_IN`]; a caller who makes up tasks gets no more of our log.
const REFUSALS_SHOWN: u64 = 60;

/// See [`REFUSALS_SHOWN`].
const REFUSALS_IN: Duration = Duration::from_secs(60);

/// Decides how loudly a refused offer is said: once per task and cause, and only so many in a minute.
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
    /// An offer of `task` was refused. The cause is the reason up to its first colon: the figures behind it change. Also, how many
    /// were kept quiet in the time that is over.
    pub fn refused(&mut self, task: &str, reason: &str, now: Instant) -> (Level, u64) {
        let cause = reason.split(':').next().unwrap_or(reason);
        // A digest: an id and a reason may be long.
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
