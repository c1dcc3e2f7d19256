//! What the worker tells about itself: log lines, the lines that operators know, the history of its actors, the state of the
//! machine. Anybody may speak through it; it knows no actor, and decides nothing.

mod filter;
mod journald;
mod levels;
mod line;
mod sink;

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

/// How long the end of the process waits for who reads the log.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why nothing can be logged.
#[derive(Debug, Error)]
pub enum InstallError {
    /// Somebody has set up a logger before.
    #[error(transparent)]
    Twice(#[from] log::SetLoggerError),
    /// There is no thread for it.
    #[error("the log has no thread: {0}")]
    Thread(#[from] io::Error),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, where, what, `key=value`.
    Text,
    /// For machines: one object per line with the same keys.
    Json,
}

/// Sends everything that is logged from now on to standard error, by a thread of its own: nobody who logs waits for who reads.
/// At the end of the process [`log::Log::flush`] waits for the rest, a second at most. What of `RUST_LOG` is not understood is
/// warned of.
///
/// # Errors
/// Nothing can be logged.
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

/// Like the logger itself, there is one in a process.
static LEVELS: OnceLock<Levels> = OnceLock::new();

/// Which lines are shown from now on, or at this moment, by an operator's order.
pub fn order(order: LogOrder) -> LogLevel {
    let Some(levels) = LEVELS.get() else {
        return LogLevel {
            faults: vec!["this process has no log of its own".into()],
            ..LogLevel::default()
        };
    };
    levels.order(order, Instant::now())
}

/// A logger into any target, without colours; `filter` as in `RUST_LOG`, `None` for the default one.
#[must_use]
pub fn logger_into(format: LogFormat, filter: Option<&str>, target: Target) -> Logger {
    let filter = Filter::read(filter.unwrap_or_default());
    logger(format, &filter.directives, Reader::Anybody, target)
}

/// Writes lines into the queue.
struct Queued {
    levels: &'static Levels,
    sink: Sink,
}

impl Log for Queued {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.levels.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
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
        // The line is final as it is written below: nothing is to be added or taken away.
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

/// Not by way of the log: that is where there was no room.
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

/// Colours are for people who look: on a terminal, and not where NO_COLOR asks for none.
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
