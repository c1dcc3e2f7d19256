//! What the worker tells about itself: log lines, the lines that operators know, the history of its actors, and the state of the
//! machine. Any part of the worker may call it; it knows no actor, and decides nothing.

mod filter;
mod journald;
mod levels;
mod line;
mod sink;

pub mod errors;
pub mod history;
pub mod machine;
pub mod operator;
pub mod program;
pub mod voice;

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
    time::Duration,
};

use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{Level, Log, Metadata, Record};
use thiserror::Error;
use tokio::time::Instant;

use self::{filter::Filter, levels::Levels, line::Reader, sink::Sink};
use crate::ports::{
    admin::{LogLevel, LogOrder},
    clock::{Clock, SystemClock},
};

/// How long the end of the process waits for the log's last lines to be read; then they are lost.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the log cannot be set up.
#[derive(Debug, Error)]
pub enum InstallError {
    /// A logger has been set up in this process before.
    #[error(transparent)]
    Twice(#[from] log::SetLoggerError),
    /// The log's thread cannot be started.
    #[error("the log has no thread: {0}")]
    Thread(#[from] io::Error),
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, where, what, `key=value`.
    Text,
    /// For machines: one object per line with the same keys.
    Json,
}

/// Sends everything that is logged from now on to standard error, by a thread of its own, so that no caller waits for a slow
/// reader of it. At the end of the process [`log::Log::flush`] waits for the last lines, a second at most. Parts of `RUST_LOG`
/// that cannot be understood are warned of.
///
/// # Errors
/// There is a logger already, or no thread can be started.
pub fn install(format: LogFormat) -> Result<(), InstallError> {
    let reader = reader();
    let sink = Sink::to(io::stderr(), move |dropped| {
        dropped_line(format, reader, dropped)
    })?;
    let target = sink.clone();
    let (levels, complaints) = Levels::new(
        &env::var("RUST_LOG").unwrap_or_default(),
        move |directives| {
            let target = Target::Pipe(Box::new(target.clone()));
            logger(format, directives, reader, target)
        },
    );
    let levels = LEVELS.get_or_init(|| levels);
    log::set_boxed_logger(Box::new(Queued { levels, sink }))?;
    for complaint in complaints {
        log::warn!("RUST_LOG: {complaint}");
    }
    Ok(())
}

/// The levels in force. One per process, like the logger itself.
static LEVELS: OnceLock<Levels> = OnceLock::new();

/// Carries out an operator's order on which lines are shown, and returns what is in force then.
pub fn order(order: LogOrder) -> LogLevel {
    let Some(levels) = LEVELS.get() else {
        return LogLevel {
            faults: vec!["this process has no log of its own".into()],
            ..LogLevel::default()
        };
    };
    levels.order(order, Instant::now())
}

/// A logger into any target, without colours. `filter` is as in `RUST_LOG`; `None` means the default.
#[must_use]
pub fn logger_into(format: LogFormat, filter: Option<&str>, target: Target) -> Logger {
    let filter = Filter::read(filter.unwrap_or_default());
    logger(format, &filter.directives, Reader::Anybody, target)
}

/// The process's logger: writes lines into the queue.
struct Queued {
    levels: &'static Levels,
    sink: Sink,
}

impl Log for Queued {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.levels.enabled(metadata) || errors::is_wanted(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        errors::note(record);
        self.levels.log(record);
    }

    fn flush(&self) {
        self.sink.flush_within(FAREWELL);
    }
}

fn logger(format: LogFormat, directives: &str, reader: Reader, target: Target) -> Logger {
    Builder::new()
        .parse_filters(directives)
        .target(target)
        // The format below makes the final line: env_logger must neither add colours nor strip them.
        .write_style(WriteStyle::Always)
        .format(move |out, record| out.write_all(shown(format, reader, record).as_bytes()))
        .build()
}

fn shown(format: LogFormat, reader: Reader, record: &Record<'_>) -> String {
    let now = line::timestamp(SystemClock.now());
    match format {
        LogFormat::Text => line::text(&now, record, reader),
        LogFormat::Json => line::json(&now, record, reader),
    }
}

/// The line about dropped lines. It does not go through the log, whose queue had no room.
fn dropped_line(format: LogFormat, reader: Reader, dropped: u64) -> String {
    let record = &mut Record::builder();
    let record = record.level(Level::Warn).target(module_path!());
    let pairs = [("dropped", dropped)];
    shown(
        format,
        reader,
        &record
            .key_values(&pairs)
            .args(format_args!(
                "{dropped} log lines were dropped: nobody read standard error"
            ))
            .build(),
    )
}

/// Who reads standard error. Colours are for people only: on a terminal, unless NO_COLOR or TERM=dumb forbid them.
fn reader() -> Reader {
    if journald::reads(io::stderr()) {
        return Reader::Journal;
    }
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    match io::stderr().is_terminal() && !refused {
        true => Reader::Terminal,
        false => Reader::Anybody,
    }
}
