//! `worker-node logs`: a task's log as its container wrote it, with the worker's own lines, while it runs and after. The log is
//! read from the state folder, so this works without a worker, beside one that hangs, and costs a running one nothing. `show` makes
//! the text for a terminal.

mod show;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use self::show::{Show, Style};
use super::{args::LogsArgs, ask, page, state::unread, words};
use crate::{
    domain::id::TaskId,
    exit::Exit,
    ports::{
        clock::{Clock, SystemClock},
        spool::{LogCursor, LogEnd, LogRange, RawItem, Start, Streams},
    },
};

/// The arguments of `worker-node logs`, checked.
#[derive(Debug, PartialEq)]
pub struct LogsCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    task: String,
    tail: Option<u64>,
    since: Option<Duration>,
    streams: Streams,
    follow: bool,
    timestamps: bool,
    raw: bool,
}

/// Opens a task's log at a range; `None`: there is none.
pub type Log<'a> = &'a dyn Fn(&TaskId, LogRange) -> io::Result<Option<Box<dyn LogCursor>>>;

impl LogsCommand {
    pub(super) fn new(args: LogsArgs, folder: PathBuf) -> Self {
        Self {
            folder,
            task: args.task,
            tail: args.tail,
            since: args.since,
            streams: match (args.stdout, args.stderr) {
                (true, _) => Streams::Stdout,
                (_, true) => Streams::Stderr,
                _ => Streams::Both,
            },
            follow: args.follow,
            timestamps: args.timestamps,
            raw: args.raw,
        }
    }

    fn range(&self) -> LogRange {
        let start = match (self.tail, self.since) {
            (Some(lines), _) => Start::LastLines(lines),
            // A time before 1970 is 1970.
            (None, Some(since)) => {
                Start::Since(SystemClock.now().checked_sub(since).unwrap_or(UNIX_EPOCH))
            }
            (None, None) => Start::First,
        };
        LogRange {
            start,
            streams: self.streams,
        }
    }

    fn style(&self, is_terminal: bool) -> Style {
        match self.raw {
            true => Style::Raw,
            false => Style::Readable {
                timestamps: self.timestamps,
                escaped: is_terminal,
            },
        }
    }
}

enum Trouble {
    Log(io::Error),
    Output(io::Error),
}

/// Prints the log.
pub fn perform(command: &LogsCommand, log: Log<'_>) -> Exit {
    let opened = TaskId::new(command.task.as_str())
        .ok()
        .map_or(Ok(None), |task| log(&task, command.range()));
    let cursor = match opened {
        Ok(Some(cursor)) => cursor,
        Ok(None) => return unknown(&command.task),
        Err(error) => return unread(&command.folder, &error),
    };
    let out = io::stdout();
    let show = Show::new(command.style(out.is_terminal()));
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    match runtime.block_on(print(command, cursor, show, out.lock())) {
        Ok(()) => Exit::Clean,
        Err(Trouble::Output(error)) => page::unwritten(&error),
        Err(Trouble::Log(error)) => broken(&command.folder, &command.task, &error),
    }
}

async fn print(
    command: &LogsCommand,
    mut cursor: Box<dyn LogCursor>,
    mut show: Show,
    mut out: impl Write,
) -> Result<(), Trouble> {
    let mut put = |bytes: &[u8]| {
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(Trouble::Output)
    };
    loop {
        match cursor.next_bytes().await.map_err(Trouble::Log)? {
            RawItem::Bytes(stretch) => put(&show.stretch(&stretch))?,
            RawItem::CaughtUp if command.follow => cursor.grown().await,
            RawItem::CaughtUp => return put(&show.finish(None)),
            RawItem::End(LogEnd { trailer, .. }) => return put(&show.finish(Some(&trailer))),
        }
    }
}

/// The last lines of a log, each on one line and of at most `limit` bytes.
///
/// # Errors
/// The log cannot be read on.
pub(super) async fn last_lines(
    mut cursor: Box<dyn LogCursor>,
    limit: usize,
) -> io::Result<Vec<String>> {
    let mut show = Show::new(Style::Readable {
        timestamps: false,
        escaped: true,
    });
    let mut text = Vec::new();
    loop {
        let trailer = match cursor.next_bytes().await? {
            RawItem::Bytes(stretch) => {
                text.extend(show.stretch(&stretch));
                continue;
            }
            RawItem::CaughtUp => None,
            RawItem::End(LogEnd { trailer, .. }) => Some(trailer),
        };
        text.extend(show.finish(trailer.as_deref()));
        let text = String::from_utf8_lossy(&text);
        return Ok(text
            .lines()
            .map(|line| words::foreign(line, limit))
            .collect());
    }
}

fn unknown(task: &str) -> Exit {
    let task = words::foreign(task, 1_024);
    eprintln!(
        "error: there is no log of a task {task}: it was never accepted here, it has not begun, or its retention is over; \
         `worker-node tasks {task}` says what became of it"
    );
    Exit::Usage
}

fn broken(folder: &Path, task: &str, error: &io::Error) -> Exit {
    let folder = words::foreign(&folder.to_string_lossy(), 1_024);
    let task = words::foreign(task, 1_024);
    eprintln!("error: the log of {task} in {folder} cannot be read on: {error}");
    Exit::Unexpected
}
