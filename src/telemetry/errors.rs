//! The last errors that the worker logged, for `status`: whoever looks later finds them without searching the log.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use log::{Level, Metadata, Record};
use tokio::time::Instant;

use super::line;
use crate::{domain::text::truncate, ports::status::LoggedError};

/// How many errors are remembered; one more takes the place of the oldest.
const ERRORS: usize = 3;

/// Bytes of an error's text that are remembered.
const TEXT: usize = 256;

/// The errors of this process, the oldest first.
static ERRORS_OF_THIS_PROCESS: Errors = Errors(Mutex::new(VecDeque::new()));

/// What is remembered. See the module.
struct Errors(Mutex<VecDeque<(Instant, String)>>);

impl Errors {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, record: &Record<'_>, now: Instant) {
        let text = line::words(record);
        let mut errors = self.lock();
        if errors.len() == ERRORS {
            errors.pop_front();
        }
        errors.push_back((now, truncate(&text, TEXT).to_owned()));
    }

    fn told(&self, now: Instant) -> Vec<LoggedError> {
        let errors = self.lock();
        let told = errors.iter().rev().map(|(at, text)| LoggedError {
            ago: now.saturating_duration_since(*at),
            text: text.clone(),
        });
        told.collect()
    }
}

/// Whether a line is remembered: whatever level is shown.
pub(super) fn is_wanted(metadata: &Metadata<'_>) -> bool {
    metadata.level() == Level::Error
}

/// Remembers a line that is wanted.
pub(super) fn note(record: &Record<'_>) {
    if is_wanted(record.metadata()) {
        ERRORS_OF_THIS_PROCESS.note(record, Instant::now());
    }
}

/// The last errors of this process, the newest first.
#[must_use]
pub fn last() -> Vec<LoggedError> {
    ERRORS_OF_THIS_PROCESS.told(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_three_are_told_with_their_age_the_newest_first() {
        let errors = Errors(Mutex::default());
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        for n in 0..5 {
            let pair = ("task", n);
            let args = format_args!("trouble {n}\n");
            let record = Record::builder()
                .level(Level::Error)
                .target("worker_node::actors::outbox")
                .key_values(&pair)
                .args(args)
                .build();
            errors.note(&record, begin + n * second);
        }

        let told = errors.told(begin + 10 * second);

        let told: Vec<_> = told
            .iter()
            .map(|error| (error.ago.as_secs(), error.text.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (6, "outbox: trouble 4\\n task=4"),
                (7, "outbox: trouble 3\\n task=3"),
                (8, "outbox: trouble 2\\n task=2")
            ]
        );
    }
}
