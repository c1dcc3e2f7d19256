//! What the worker tells about itself: log lines, the lines that operators know, the history of its actors, the state of the
//! machine. Anybody may speak through it; it knows no actor, and decides nothing.

mod line;

pub mod history;
pub mod machine;
pub mod operator;
pub mod voice;

use std::{
    env,
    io::{IsTerminal, Write},
};

use env_logger::{Builder, Logger, Target, WriteStyle};

use self::line::Paint;
use crate::ports::clock::{Clock, SystemClock};

/// What is shown unless `RUST_LOG` says otherwise: our own life, and of the libraries only what went wrong.
const DEFAULT_FILTER: &str = "warn,worker_node=info,lifecycle=info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, where, what, `key=value`.
    Text,
    /// For machines: one object per line with the same keys.
    Json,
}

/// Sends everything that is logged from now on to standard error.
///
/// # Errors
/// Somebody has set up a logger before.
pub fn install(format: LogFormat) -> Result<(), log::SetLoggerError> {
    let logger = logger(
        format,
        env::var("RUST_LOG").ok().as_deref(),
        paint(),
        Target::Stderr,
    );
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(logger))
}

/// A logger into any target, without colours; `filter` as in `RUST_LOG`, `None` for the default one.
#[must_use]
pub fn logger_into(format: LogFormat, filter: Option<&str>, target: Target) -> Logger {
    logger(format, filter, Paint::Plain, target)
}

fn logger(format: LogFormat, filter: Option<&str>, paint: Paint, target: Target) -> Logger {
    let filter = filter.filter(|filter| !filter.trim().is_empty());
    Builder::new()
        .parse_filters(filter.unwrap_or(DEFAULT_FILTER))
        .target(target)
        // The line is final as it is written below: nothing is to be added or taken away.
        .write_style(WriteStyle::Always)
        .format(move |out, record| {
            let now = line::timestamp(SystemClock.now());
            let line = match format {
                LogFormat::Text => line::text(&now, record, paint),
                LogFormat::Json => line::json(&now, record),
            };
            out.write_all(line.as_bytes())
        })
        .build()
}

/// Colours are for people who look: on a terminal, and not where NO_COLOR asks for none.
fn paint() -> Paint {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    if std::io::stderr().is_terminal() && !refused {
        Paint::Colours
    } else {
        Paint::Plain
    }
}
