//! The last line of a task's log, read back: the master's messages have no field for what it says.

/// What a trailer tells of the container.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Told {
    /// The exit code, if a container ran.
    pub(super) exit: Option<i64>,
    /// How long it ran, in seconds.
    pub(super) seconds: Option<f64>,
}

/// Reads a trailer; a fact that it does not have is `None`.
pub(super) fn read(trailer: &str) -> Told {
    // Skipped: the outcome before the first semicolon may have an exit code too, and a reason in anybody's words.
    let facts = trailer.split("; ").skip(1);
    let mut facts = facts.flat_map(|fact| fact.split(", "));
    let exit = facts.find_map(|fact| fact.strip_prefix("exit code ")?.parse().ok());
    let seconds = facts.find_map(|fact| {
        fact.strip_prefix("duration ")?
            .strip_suffix(" s")?
            .parse()
            .ok()
    });
    Told { exit, seconds }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::outcome::{Exit, Outcome, Trailer};

    fn told(outcome: &Outcome, exit: Option<&Exit>) -> Told {
        let trailer = Trailer {
            outcome,
            exit,
            notes: &["exit code 9; duration 9 s".to_owned()],
        };
        read(&trailer.to_string())
    }

    #[test]
    fn a_trailer_is_read_as_it_is_written() {
        let exit = |code| Exit {
            code,
            duration: Duration::from_millis(1_500),
            ..Exit::default()
        };
        for code in [0, 3, 143] {
            let exit = exit(code);

            let told = told(&exit.outcome(), Some(&exit));

            assert_eq!((told.exit, told.seconds), (Some(code), Some(1.5)));
        }
    }

    #[test]
    fn what_did_not_run_has_no_exit_code() {
        let cancelled = Trailer {
            outcome: &Outcome::Cancelled,
            exit: None,
            notes: &[],
        };

        assert_eq!(read(&cancelled.to_string()), Told::default());
        assert_eq!(read(""), Told::default());
    }
}
