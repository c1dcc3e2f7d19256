//! The process's own events in the history: that it started, and that it stopped and why. A process that is killed writes no
//! event. But a living one touches the history's file now and then, so the next process, and a reader in between, can tell when
//! it was last alive.

use std::{fs, io, path::Path};

use memchr::memmem;

use super::{Book, HistoryEvent, lines};

/// The actor's name in the events of the process.
pub const PROCESS: &str = "worker";

/// Event: the process started.
pub const STARTED: &str = "started";

/// Event: the process stopped in good order.
pub const STOPPED: &str = "stopped";

/// Event of the next process: it found that the one before had ended without stopping.
pub const ENDED: &str = "ended";

/// What the history says of the end of the last process, as the rest of a sentence that begins with 'it'; `None` without such an
/// event.
///
/// # Errors
/// A file of the history is there and cannot be read.
pub fn last_words(folder: &Path) -> io::Result<Option<String>> {
    let Some(last) = last(folder)? else {
        return Ok(None);
    };
    let cause = last.cause.unwrap_or_default();
    Ok(Some(match last.event.as_str() {
        STARTED => format!("ended {}", without_a_stop(folder)),
        STOPPED => format!("stopped at {} ({cause})", last.ts),
        _ => format!("ended {cause}"),
    }))
}

/// How the process before this one ended, if neither it nor a later one has told; otherwise `None`. Called once, at the start.
///
/// # Errors
/// As [`last_words`].
pub fn untold_end(folder: &Path) -> io::Result<Option<String>> {
    let last = last(folder)?.filter(|last| last.event == STARTED);
    Ok(last.map(|_| without_a_stop(folder)))
}

fn without_a_stop(folder: &Path) -> String {
    let file = fs::metadata(folder.join(Book::Lifecycle.newer()));
    let alive = file.and_then(|file| file.modified()).ok();
    let alive = alive.and_then(|alive| jiff::Timestamp::try_from(alive).ok());
    match alive {
        Some(alive) => format!("without a stop, last sign of life {alive:.0}"),
        None => "without a stop".to_owned(),
    }
}

/// The last event of a process in the history.
fn last(folder: &Path) -> io::Result<Option<HistoryEvent>> {
    let ours = format!("\"actor\":\"{PROCESS}\"");
    for name in [Book::Lifecycle.newer(), Book::Lifecycle.older()] {
        // Only a few of the tens of thousands of lines are the process's: search for the name, and parse those alone.
        let found = lines(&folder.join(name))?
            .filter(|line| memmem::find(line, ours.as_bytes()).is_some())
            .filter_map(|line| serde_json::from_slice::<HistoryEvent>(&line).ok())
            .filter(|event| event.actor == PROCESS)
            .last();
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::telemetry::history::History;

    fn tell(folder: &Path, actor: &str, event: &str, cause: &str) -> History {
        let history = History::open(folder, Book::Lifecycle).unwrap();
        let event = HistoryEvent {
            ts: "2026-11-23T18:29:22Z".into(),
            actor: actor.into(),
            event: event.into(),
            cause: Some(cause.into()),
            ..HistoryEvent::default()
        };
        history.append(&event).unwrap();
        history
    }

    #[test]
    fn a_process_that_stopped_is_told_with_its_signal() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last_words(folder.path()).unwrap(), None);

        tell(folder.path(), PROCESS, STARTED, "");
        tell(folder.path(), PROCESS, STOPPED, "SIGTERM");
        tell(folder.path(), "journal", STOPPED, "\"actor\":\"worker\"");

        let told = last_words(folder.path()).unwrap().unwrap();
        assert_eq!(told, "stopped at 2026-11-23T18:29:22Z (SIGTERM)");
        assert_eq!(untold_end(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_process_that_was_killed_is_told_with_its_last_sign_of_life_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let history = tell(folder.path(), PROCESS, STARTED, "");
        let alive = UNIX_EPOCH + Duration::from_millis(1_795_458_562_929);
        history.touch(alive).unwrap();

        let end = "without a stop, last sign of life 2026-11-23T18:29:22Z";
        let told = last_words(folder.path()).unwrap().unwrap();
        assert_eq!(told, format!("ended {end}"));
        assert_eq!(untold_end(folder.path()).unwrap().unwrap(), end);

        tell(folder.path(), PROCESS, ENDED, end);
        assert_eq!(untold_end(folder.path()).unwrap(), None);
        assert_eq!(last_words(folder.path()).unwrap(), Some(told));
    }
}
