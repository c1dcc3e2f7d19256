//! Troubles of an engine that is there but fails at what it is asked. Each cause is logged once, and so is its end, however many
//! tasks wait for it. The longer a trouble has lasted, the longer the wait until the engine is asked again.

use std::{collections::HashMap, time::Duration};

use log::{debug, info, warn};
use tokio::time::{Instant, sleep};

use super::EngineView;
use crate::ports::engine::EngineError;

/// The shortest wait until the engine is asked again.
const SOON: Duration = Duration::from_millis(500);

/// The longest wait until the engine is asked again.
const LATE: Duration = Duration::from_secs(30);

/// The wait is one quarter of the time that the trouble has lasted.
const SHARE: u32 = 4;

/// A trouble that was not met for this long is over: every task that waits asks more often.
const OVER: Duration = Duration::from_secs(75);

/// Most causes that are remembered. Further ones are not logged.
const CAUSES: usize = 256;

/// A row of at least this many hexadecimal digits is an id, and not part of a cause.
const ID_DIGITS: usize = 12;

/// The troubles that last, by their cause.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    lasting: HashMap<String, Lasting>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    met: Instant,
}

impl Troubles {
    /// A trouble was met: whether it is new, and how long to wait until the engine is asked again.
    fn meet(&mut self, cause: String, now: Instant) -> (bool, Duration) {
        if self.lasting.len() >= CAUSES && !self.lasting.contains_key(&cause) {
            return (false, LATE);
        }
        let mut is_new = false;
        let lasting = self.lasting.entry(cause).or_insert_with(|| {
            is_new = true;
            Lasting {
                since: now,
                met: now,
            }
        });
        lasting.met = now;
        let lasted = now.saturating_duration_since(lasting.since);
        (is_new, (lasted / SHARE).clamp(SOON, LATE))
    }

    /// Removes and returns the troubles that are over, each with how long it lasted.
    fn over(&mut self, now: Instant) -> Vec<(String, Duration)> {
        let gone = |lasting: &Lasting| now.saturating_duration_since(lasting.met) >= OVER;
        let over = self.lasting.extract_if(|_, lasting| gone(lasting));
        over.map(|(cause, lasting)| {
            let lasted = lasting.met.saturating_duration_since(lasting.since);
            (cause, lasted)
        })
        .collect()
    }
}

impl EngineView {
    /// Logs which troubles are over. Called after each listing.
    pub(super) fn troubles_over(&self) {
        for (cause, lasted) in self.troubles().over(Instant::now()) {
            info!(cause, lasted:?; "the engine has not failed at that any more");
        }
    }
}

/// Waits after an error of the engine that may pass or leaves the outcome unknown: for a moment at least, and until the engine is
/// there.
pub async fn ride_out(view: &EngineView, error: &EngineError) {
    let (is_new, wait) = view.troubles().meet(cause(error), Instant::now());
    match error {
        // The engine's watch logs that the engine is away.
        EngineError::Away(_) => debug!(error:%; "the engine's answer is missing; asking again"),
        EngineError::Deadline(_) if is_new => {
            warn!(error:%; "the engine is slow to answer; it is asked again until it does");
        }
        _ if is_new => warn!(error:%; "the engine failed; it is asked again until it does not"),
        _ => debug!(error:%, wait:?; "the engine failed again"),
    }
    let wait = match error {
        // A returned engine needs no pause: its return is waited for below.
        EngineError::Away(_) => SOON,
        _ => wait,
    };
    sleep(wait).await;
    view.here().await;
}

/// An error's text without the ids in it, so that the same trouble of two containers counts as one.
fn cause(error: &EngineError) -> String {
    let text = error.to_string();
    let mut cause = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (part, shown) = match digits {
            0 => (first.len_utf8(), &rest[..first.len_utf8()]),
            ID_DIGITS.. => (digits, "…"),
            _ => (digits, &rest[..digits]),
        };
        cause.push_str(shown);
        rest = &rest[part..];
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(container: &str) -> EngineError {
        EngineError::Failed(format!("container {container}: device or resource busy"))
    }

    #[test]
    fn a_lasting_trouble_of_many_containers_is_said_once_and_its_end_once() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let ids = ["0123456789ab", "ba9876543210", &"f".repeat(64)];

        let news = (0..600)
            .filter(|second| {
                let id = ids[*second as usize % ids.len()];
                let now = start + Duration::from_secs(*second);
                troubles.meet(cause(&busy(id)), now).0
            })
            .count();

        assert_eq!(news, 1);
        assert_eq!(troubles.over(start + Duration::from_secs(610)), []);
        let over = troubles.over(start + Duration::from_secs(599) + OVER);
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].1, Duration::from_secs(599));
        assert_eq!(troubles.over(start + 2 * Duration::from_secs(599)), []);
    }

    #[test]
    fn other_causes_are_news_of_their_own() {
        let mut troubles = Troubles::default();
        let now = Instant::now();

        for error in [
            busy("c"),
            EngineError::Failed("no space left on device".into()),
            EngineError::Deadline("list"),
        ] {
            assert!(troubles.meet(cause(&error), now).0, "{error}");
            assert!(!troubles.meet(cause(&error), now).0, "{error}");
        }
    }

    #[test]
    fn the_longer_it_lasts_the_longer_are_the_waits_up_to_a_bound_below_its_end() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let mut wait = |seconds| {
            let now = start + Duration::from_secs(seconds);
            troubles.meet(cause(&busy("c")), now).1
        };

        assert_eq!(wait(0), SOON);
        assert_eq!(wait(40), Duration::from_secs(10));
        assert_eq!(wait(86_400), LATE);
        assert!(2 * LATE < OVER);
    }
}
