//! One line in the log every ten minutes about what has happened since the last; none if nothing has. Details are in the metrics:
//! the log has a line only for each task that comes and that ends.

use std::{convert::Infallible, time::Duration};

use log::info;
use tokio::time::{Instant, interval_at};

use super::tree::Tree;
use crate::{
    metrics::Tally,
    ports::status::{EngineContact, MasterContact},
};

/// The time from one line to the next.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// The figures at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// Tasks that have not ended.
    pub(super) running: usize,
    /// Results that the master has not taken.
    pub(super) waiting: usize,
    /// What was counted since the process began.
    pub(super) tally: Tally,
    pub(super) engine: String,
    pub(super) master: String,
}

/// Writes the lines. Never returns.
pub(super) async fn attend(tree: &Tree) -> Infallible {
    tell(|| tree.moment(), |line| info!("{line}")).await
}

async fn tell(look: impl Fn() -> Moment, say: impl Fn(String)) -> Infallible {
    let mut turns = interval_at(Instant::now() + EVERY, EVERY);
    let mut last = look();
    loop {
        turns.tick().await;
        let now = look();
        if let Some(line) = line(&last, &now) {
            say(line);
        }
        last = now;
    }
}

fn line(last: &Moment, now: &Moment) -> Option<String> {
    if last == now {
        return None;
    }
    let since = |count: fn(&Tally) -> u64| count(&now.tally) - count(&last.tally);
    let mut ended = vec![
        format!("{} ended well", since(|tally| tally.succeeded)),
        format!("{} failed", since(|tally| tally.failed)),
    ];
    let cancelled = since(|tally| tally.cancelled);
    if cancelled > 0 {
        ended.push(format!("{cancelled} were cancelled"));
    }
    Some(format!(
        "in the last 10m: {} tasks taken, {}; {} running, {} results wait; engine {}; master {}",
        since(|tally| tally.taken),
        ended.join(", "),
        now.running,
        now.waiting,
        now.engine,
        now.master,
    ))
}

/// The engine's state in words, without figures that change all the time.
pub(super) fn engine(contact: &EngineContact) -> String {
    match (&contact.version, &contact.failure) {
        (Some(version), None) => version.clone(),
        (Some(version), Some(_)) => format!("{version}, unfit"),
        (None, _) => "away".to_owned(),
    }
}

/// The master's state in words, likewise.
pub(super) fn master(contact: &MasterContact) -> String {
    let stands = match (contact.failing_for, contact.registered_for) {
        (Some(_), _) => "takes nothing",
        (None, Some(_)) => "well",
        (None, None) => "not registered",
    };
    format!("{} {stands}", contact.address)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::timeout;

    use super::*;

    fn moment(taken: u64, failed: u64) -> Moment {
        Moment {
            running: 3,
            tally: Tally {
                taken,
                failed,
                ..Tally::default()
            },
            engine: "20.10.24".into(),
            master: "m:1 well".into(),
            ..Moment::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hour_has_no_summary_and_one_with_tasks_has_what_came_since_the_last() {
        let (said, taken) = (RefCell::new(Vec::new()), Cell::new(0));
        let look = || moment(taken.get(), taken.get() / 10);
        let telling = tell(look, |line| said.borrow_mut().push(line));
        tokio::pin!(telling);

        let idle = timeout(6 * EVERY, &mut telling).await;
        assert!(idle.is_err() && said.borrow().is_empty(), "{said:?}");
        for count in [30, 50] {
            taken.set(count);
            let busy = timeout(2 * EVERY, &mut telling).await;
            assert!(busy.is_err(), "it goes on");
        }

        let rest = "3 running, 0 results wait; engine 20.10.24; master m:1 well";
        assert_eq!(
            *said.borrow(),
            [
                format!("in the last 10m: 30 tasks taken, 0 ended well, 3 failed; {rest}"),
                format!("in the last 10m: 20 tasks taken, 0 ended well, 2 failed; {rest}"),
            ]
        );
    }

    #[test]
    fn a_master_that_goes_away_is_something_that_has_happened() {
        let away = MasterContact {
            address: "m:1".into(),
            failing_for: Some(Duration::from_secs(1)),
            ..MasterContact::default()
        };
        let (last, mut now) = (moment(1, 0), moment(1, 0));
        assert_eq!(line(&last, &now), None);

        now.master = master(&away);

        let told = line(&last, &now).unwrap();
        assert!(told.ends_with("; master m:1 takes nothing"), "{told}");
    }
}
