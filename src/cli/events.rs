//! `worker-node events`: what has happened to a worker's actors, from the files in its state folder. So it needs no worker: it
//! tells the story after a crash, and a follower sees the crash and the next start go by. How a line looks is `line`'s.

pub(super) mod line;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    args::EventsArgs,
    page::{self, Paper},
    words,
};
use crate::{
    exit::Exit,
    ports::clock::{Clock, SystemClock},
    telemetry::history::{self, Book, Follower, HistoryEvent},
};

/// The arguments of `worker-node events`, checked.
#[derive(Debug, PartialEq)]
pub struct EventsCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    book: Book,
    actor: Option<String>,
    since: Option<Duration>,
    format: Format,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// When the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Now,
    WhenInterrupted,
}

impl EventsCommand {
    pub(super) fn new(args: EventsArgs, folder: PathBuf) -> Self {
        Self {
            folder,
            book: match args.audit {
                true => Book::Audit,
                false => Book::Lifecycle,
            },
            actor: args.actor,
            since: args.since,
            format: match args.json {
                true => Format::Json,
                false => Format::Text,
            },
            end: match args.follow {
                true => End::WhenInterrupted,
                false => End::Now,
            },
        }
    }

    fn wanted(&self) -> Wanted {
        let now = Timestamp::try_from(SystemClock.now()).unwrap_or_default();
        Wanted {
            actor: self.actor.clone(),
            // A time before the earliest timestamp is that one.
            since: self
                .since
                .map(|since| now.checked_sub(since).unwrap_or(Timestamp::MIN)),
        }
    }
}

/// Prints the events that are asked for.
pub fn perform(command: &EventsCommand) -> Exit {
    let wanted = command.wanted();
    let told = match command.end {
        End::Now => tell(command, &wanted),
        End::WhenInterrupted => follow(command, &wanted),
    };
    match told {
        Ok(()) => Exit::Clean,
        Err(Trouble::Output(error)) => page::unwritten(&error),
        Err(Trouble::History(error)) => unread(&command.folder, &error),
    }
}

enum Trouble {
    History(io::Error),
    Output(io::Error),
}

fn tell(command: &EventsCommand, wanted: &Wanted) -> Result<(), Trouble> {
    // A state folder that is missing has no history; one that is there may have an empty one.
    std::fs::read_dir(&command.folder).map_err(Trouble::History)?;
    let mut events = history::read(&command.folder, command.book)
        .map_err(Trouble::History)?
        .filter(|event| wanted.holds(event))
        .peekable();
    let mut paper = Paper::standard();
    while events.peek().is_some() {
        let some: Vec<_> = events.by_ref().take(BATCH).collect();
        put(&mut paper, command.format, &some)?;
    }
    Ok(())
}

fn follow(command: &EventsCommand, wanted: &Wanted) -> Result<(), Trouble> {
    let mut follower = Follower::open(&command.folder, command.book).map_err(Trouble::History)?;
    let mut paper = Paper::standard();
    loop {
        let mut events = follower.more().map_err(Trouble::History)?;
        events.retain(|event| wanted.holds(event));
        put(&mut paper, command.format, &events)?;
    }
}

/// How many events are written at once.
const BATCH: usize = 1_000;

fn put(
    paper: &mut Paper<io::Stdout>,
    format: Format,
    events: &[HistoryEvent],
) -> Result<(), Trouble> {
    let mut text = String::new();
    for event in events {
        text.push_str(&match format {
            Format::Text => line::text(event),
            Format::Json => line::json(event),
        });
        text.push('\n');
    }
    paper.put(&text).map_err(Trouble::Output)
}

fn unread(folder: &Path, error: &io::Error) -> Exit {
    let folder = words::foreign(&folder.to_string_lossy(), 1_024);
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            eprintln!(
                "error: no worker has run on the state folder {folder}; give the --state-dir of one"
            );
            Exit::NotRunning
        }
        io::ErrorKind::PermissionDenied => {
            eprintln!(
                "error: the history in {folder} is another user's; run this as the worker's user"
            );
            Exit::Permission
        }
        _ => {
            eprintln!("error: the history in {folder} cannot be read: {error}");
            Exit::Unexpected
        }
    }
}

/// Which events are asked for.
#[derive(Debug, Default)]
struct Wanted {
    actor: Option<String>,
    since: Option<Timestamp>,
}

impl Wanted {
    fn holds(&self, event: &HistoryEvent) -> bool {
        let of_actor = self
            .actor
            .as_ref()
            .is_none_or(|name| event.actor == *name || event.actor == format!("task({name})"));
        let in_time = self.since.is_none_or(|since| {
            // An event of an unknown time is not one of the last minutes.
            event.ts.parse::<Timestamp>().is_ok_and(|at| at >= since)
        });
        of_actor && in_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(actor: &str, ts: &str) -> HistoryEvent {
        HistoryEvent {
            ts: ts.into(),
            actor: actor.into(),
            ..HistoryEvent::default()
        }
    }

    #[test]
    fn an_actor_is_meant_by_its_name_and_a_task_by_its_id() {
        let wanted = Wanted {
            actor: Some("a".into()),
            ..Wanted::default()
        };

        assert!(wanted.holds(&event("a", "")));
        assert!(wanted.holds(&event("task(a)", "")));
        assert!(!wanted.holds(&event("ab", "")));
    }

    #[test]
    fn the_last_minutes_begin_at_their_first_moment() {
        let wanted = Wanted {
            since: Some("2026-11-23T18:00:00Z".parse().unwrap()),
            ..Wanted::default()
        };

        assert!(wanted.holds(&event("a", "2026-11-23T18:00:00Z")));
        assert!(wanted.holds(&event("a", "2026-11-23T18:00:00.000001Z")));
        assert!(!wanted.holds(&event("a", "2026-11-23T17:59:59.999Z")));
        assert!(!wanted.holds(&event("a", "yesterday")));
    }
}
