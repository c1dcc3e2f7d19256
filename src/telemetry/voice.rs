//! How loudly something that happens again and again is said: pure, so that no log is flooded and no test has to wait.

use std::time::Duration;

use log::Level;
use tokio::time::Instant;

/// While all is well, one heartbeat in this time is shown to everybody.
const SHOWN_EVERY: Duration = Duration::from_secs(60);

/// Decides how loudly a heartbeat is said.
#[derive(Debug, Default)]
pub struct HeartbeatVoice {
    shown: Option<Instant>,
    outage: Outage,
}

impl HeartbeatVoice {
    /// A heartbeat has reached the master: shown is the first one, the first after a failure, and one a minute.
    pub fn sent(&mut self, now: Instant) -> Level {
        let back = self.outage.over();
        let due = self
            .shown
            .is_none_or(|shown| now.saturating_duration_since(shown) >= SHOWN_EVERY);
        if !back && !due {
            return Level::Debug;
        }
        self.shown = Some(now);
        Level::Info
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_heartbeat_a_minute_is_shown() {
        let mut voice = HeartbeatVoice::default();
        let start = Instant::now();

        let shown: Vec<u64> = (0..30)
            .map(|beat| beat * 5)
            .filter(|seconds| voice.sent(start + Duration::from_secs(*seconds)) == Level::Info)
            .collect();

        assert_eq!(shown, [0, 60, 120]);
    }

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        let mut voice = HeartbeatVoice::default();
        let now = Instant::now();
        voice.sent(now);

        assert_eq!(voice.failed(), Level::Warn);
        assert_eq!(voice.failed(), Level::Debug);
        assert_eq!(voice.sent(now), Level::Info);
        assert_eq!(voice.sent(now), Level::Debug);
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
}
