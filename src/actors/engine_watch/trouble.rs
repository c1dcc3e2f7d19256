//! Troubles of an engine that is there and yet does not do what it is asked: each cause is said once, and so is its end,
//! however many wait for it. And how long to wait until the engine is asked again: the longer, the longer it has lasted.

use std::{collections::HashMap, time::Duration};

use log::{debug, info, warn};
use tokio::time::{Instant, sleep};

use super::EngineView;
use crate::ports::engine::EngineError;

/// Between two asks at first.
const SOON: Duration = Duration::from_millis(500);

/// And at last.
const LATE: Duration = Duration::from_secs(30);

/// A wait is this part of the time for which a trouble has lasted.
const SHARE: u32 = 4;

/// A trouble that nobody has met for this long is over: everybody who waits asks more often.
const OVER: Duration = Duration::from_secs(75);

/// Causes that are remembered at most; more are not told apart from news.
const CAUSES: usize = 256;

/// Hexadecimal digits in a row that are somebody's id and no part of a cause.
const ID_DIGITS: usize = 12;

/// What lasts.
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
    /// Somebody has met it: whether that is news, and how long to wait until the next ask.
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

    /// Those that nobody meets any more, and how long each has lasted.
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
    /// Says which troubles are over. For whoever looks at the engine regularly.
    pub(super) fn troubles_over(&self) {
        for (cause, lasted) in self.troubles().over(Instant::now()) {
            info!(cause, lasted:?; "the engine has not failed at that any more");
        }
    }
}

/// Waits out an answer of the engine that leaves it unknown what happened, or says that it failed: until it is there again,
/// at least a moment.
pub async fn ride_out(view: &EngineView, error: &EngineError) {
    let (is_new, wait) = view.troubles().meet(cause(error), Instant::now());
    match error {
        // Whoever watches the engine says that it is away.
        EngineError::Away(_) => debug!(error:%; "the engine's answer is missing; asking again"),
        EngineError::Deadline(_) if is_new => {
            warn!(error:%; "the engine is slow to answer; it is asked again until it does");
        }
        _ if is_new => warn!(error:%; "the engine failed; it is asked again until it does not"),
        _ => debug!(error:%, wait:?; "the engine failed again"),
    }
    let wait = match error {
        // Its return is waited for, and then there is nothing to spare it.
        EngineError::Away(_) => SOON,
        _ => wait,
    };
    sleep(wait).await;
    view.here().await;
}

/// An error without the ids in it: the same trouble of two containers is one.
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
