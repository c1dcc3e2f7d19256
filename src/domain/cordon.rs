//! An operator's order to take no new tasks: kept as a setting, so that it outlives the process.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The name of the setting that holds the order; its value is empty where there is none.
pub const SETTING: &str = "cordon";

/// An operator's order to take no new tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cordon {
    /// Who gave the order.
    pub by: String,
    /// When the order was given.
    pub since: SystemTime,
    /// When the tasks that still run are stopped; `None`: they may run to their end.
    pub stop_at: Option<SystemTime>,
}

impl Cordon {
    /// The setting's value: two times in milliseconds since the Unix epoch (`-` for no `stop_at`), and who gave the order.
    #[must_use]
    pub fn to_setting(&self) -> String {
        let stop_at = self
            .stop_at
            .map_or_else(|| "-".to_owned(), |at| millis(at).to_string());
        format!("{} {stop_at} {}", millis(self.since), self.by)
    }

    /// Reads the setting's value; `None`: it is empty or damaged.
    #[must_use]
    pub fn from_setting(text: &str) -> Option<Self> {
        let (since, rest) = text.split_once(' ')?;
        let (stop_at, by) = rest.split_once(' ')?;
        Some(Self {
            by: by.to_owned(),
            since: time(since)?,
            stop_at: match stop_at {
                "-" => None,
                at => Some(time(at)?),
            },
        })
    }

    /// How long until the tasks that still run are stopped; zero: now; `None`: they may run to their end.
    #[must_use]
    pub fn stops_after(&self, now: SystemTime) -> Option<Duration> {
        let stop_at = self.stop_at?;
        Some(stop_at.duration_since(now).unwrap_or_default())
    }
}

/// Why an offer is refused.
impl fmt::Display for Cordon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this worker is cordoned by {}: it takes no new tasks until `worker-node uncordon`",
            self.by
        )
    }
}

fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}

fn time(millis: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_setting_holds_all_of_it() {
        for stop_at in [None, Some(at(9_000))] {
            let cordon = Cordon {
                by: "ann (user 1000)".into(),
                since: at(1_234),
                stop_at,
            };

            assert_eq!(Cordon::from_setting(&cordon.to_setting()), Some(cordon));
        }
        for garbage in ["", "1", "1 2", "x - root", "1 x root"] {
            assert_eq!(Cordon::from_setting(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn tasks_are_stopped_at_a_time_and_at_once_behind_it() {
        let cordon = Cordon {
            by: "root".into(),
            since: at(0),
            stop_at: Some(at(5_000)),
        };

        assert_eq!(cordon.stops_after(at(2_000)), Some(Duration::from_secs(3)));
        assert_eq!(cordon.stops_after(at(9_000)), Some(Duration::ZERO));
    }
}
