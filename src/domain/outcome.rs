//! How a task ended, in which words the master is told, and the trailer line that carries what its messages have no field for.

use std::{fmt, time::Duration};

use super::{text::truncate, usage::Usage};

/// How a task ended. One per task; durable before anybody hears of it, and never changed after it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The container ended by itself with exit code 0.
    Succeeded,
    /// The task failed; says why.
    Failed(Failure),
    /// The master or an operator asked for its end before its result was sealed.
    Cancelled,
}

/// Why a task failed. The text of each is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Exit code other than 0.
    ExitCode(i64),
    /// Ended by a signal (exit code over 128) that we did not send.
    Signal(i64),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// The task ran over its time.
    TimedOut,
    /// It has written more than it may: how much, in words.
    OverStorage(String),
    /// The image could not be had: the registry's words.
    Pull(String),
    /// The container could not be created: the engine's words.
    Create(String),
    /// The container could not be started: the engine's words.
    Start(String),
    /// The task was impossible from the beginning: why.
    Impossible(String),
    /// The task's end is not known: the container is gone, or the engine lost it.
    EngineLost(String),
    /// Stopped by the engine, with its worker or by somebody else, whatever its exit code says: by whom, in words.
    StoppedByOther(String),
    /// The worker itself failed at it.
    Internal(String),
}

/// The contract's words for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusWord {
    /// Ended well.
    Success,
    /// The task failed.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl StatusWord {
    /// The word in a TaskResult.
    #[must_use]
    pub fn in_report(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The word in the last chunk of a log stream; the master writes it into its database as it is.
    #[must_use]
    pub fn in_log(self) -> &'static str {
        match self {
            Self::Success => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Outcome {
    /// The contract's word for this outcome.
    #[must_use]
    pub fn word(&self) -> StatusWord {
        match self {
            Self::Succeeded => StatusWord::Success,
            Self::Failed(_) => StatusWord::Failed,
            Self::Cancelled => StatusWord::Cancelled,
        }
    }
}

impl Failure {
    /// Cuts the words in it to `limit` bytes: they may be an engine's or a registry's.
    pub fn cut(&mut self, limit: usize) {
        match self {
            Self::Pull(why)
            | Self::Create(why)
            | Self::Start(why)
            | Self::Impossible(why)
            | Self::EngineLost(why)
            | Self::StoppedByOther(why)
            | Self::OverStorage(why)
            | Self::Internal(why) => why.truncate(truncate(why, limit).len()),
            Self::ExitCode(_) | Self::Signal(_) | Self::OutOfMemory | Self::TimedOut => {}
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Pull(why) => write!(f, "the image could not be pulled: {why}"),
            Self::Create(why) => write!(f, "the container could not be created: {why}"),
            Self::Start(why) => write!(f, "the container could not be started: {why}"),
            Self::Impossible(why) => write!(f, "impossible on this worker: {why}"),
            Self::EngineLost(why) => write!(f, "its end is not known: {why}"),
            Self::StoppedByOther(why) | Self::OverStorage(why) => f.write_str(why),
            Self::Internal(why) => write!(f, "internal error of the worker: {why}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// The exit code of a process that was ended by signal 9, as the kernel's out-of-memory killer sends it.
const KILLED: i64 = 128 + 9;

/// What is known of a container's end, from `wait` or `inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// The exit code as the engine tells it; 128 + n after signal n.
    pub code: i64,
    /// Whether the kernel's out-of-memory killer was at work on something in the container: not necessarily on the process whose
    /// exit code this is.
    pub oom_killed: bool,
    /// The time from the container's start to its end, by the engine's clock; zero where that makes no sense.
    pub duration: Duration,
    /// What the container used of the machine, where that was seen.
    pub usage: Option<Usage>,
}

impl Exit {
    /// The outcome of an end that nobody asked for.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.code {
            KILLED if self.oom_killed => Outcome::Failed(Failure::OutOfMemory),
            0 => Outcome::Succeeded,
            code @ 129..=192 => Outcome::Failed(Failure::Signal(code - 128)),
            code => Outcome::Failed(Failure::ExitCode(code)),
        }
    }
}

/// The last line of every task's log: what a TaskResult has no field for.
#[derive(Debug, Clone, Copy)]
pub struct Trailer<'a> {
    /// How the task ended.
    pub outcome: &'a Outcome,
    /// How its container ended, if one ran.
    pub exit: Option<&'a Exit>,
    /// Further remarks: outputs skipped, an upload that failed, bytes of log left out.
    pub notes: &'a [String],
}

impl fmt::Display for Trailer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[worker-node] ")?;
        match (self.outcome, self.exit) {
            // A failure that the exit says anyway is not said twice.
            (
                Outcome::Failed(Failure::ExitCode(_) | Failure::Signal(_) | Failure::OutOfMemory),
                Some(_),
            ) => f.write_str("failed")?,
            (outcome, _) => write!(f, "{outcome}")?,
        }
        if let Some(exit) = self.exit {
            write_exit(f, exit, self.outcome)?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

fn write_exit(f: &mut fmt::Formatter<'_>, exit: &Exit, outcome: &Outcome) -> fmt::Result {
    write!(f, "; exit code {}", exit.code)?;
    if (129..=192).contains(&exit.code) {
        write!(f, ", signal {}", exit.code - 128)?;
    }
    let of_memory = *outcome == Outcome::Failed(Failure::OutOfMemory);
    if of_memory {
        f.write_str(", out of memory")?;
    }
    write!(f, ", duration {:.3} s", exit.duration.as_secs_f64())?;
    match &exit.usage {
        Some(usage) => {
            let cpu = usage.cpu.as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
            let peak = usage.peak_memory as f64 / 1_048_576.0;
            write!(f, ", cpu time {cpu:.2} s, peak memory {peak:.1} MiB")?;
        }
        None => f.write_str(", cpu time and peak memory unknown")?,
    }
    if exit.oom_killed && !of_memory {
        f.write_str("; something in it ran out of memory")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_as_people_read_it() {
        let code = |code| Exit {
            code,
            ..Exit::default()
        };

        assert_eq!(code(0).outcome(), Outcome::Succeeded);
        assert_eq!(code(3).outcome(), Outcome::Failed(Failure::ExitCode(3)));
        assert_eq!(code(137).outcome(), Outcome::Failed(Failure::Signal(9)));
        assert_eq!(code(255).outcome(), Outcome::Failed(Failure::ExitCode(255)));
        let oom = Exit {
            code: 137,
            oom_killed: true,
            ..Exit::default()
        };
        assert_eq!(oom.outcome(), Outcome::Failed(Failure::OutOfMemory));
    }

    #[test]
    fn a_lack_of_memory_within_a_task_is_a_remark_and_no_reason() {
        let told = |code| {
            let exit = Exit {
                code,
                oom_killed: true,
                ..Exit::default()
            };
            let trailer = Trailer {
                outcome: &exit.outcome(),
                exit: Some(&exit),
                notes: &[],
            };
            (exit.outcome(), trailer.to_string())
        };
        let remark = ", duration 0.000 s, cpu time and peak memory unknown; something in it ran out of memory";

        let (outcome, trailer) = told(0);
        assert_eq!(outcome, Outcome::Succeeded);
        assert_eq!(
            trailer,
            format!("[worker-node] succeeded; exit code 0{remark}")
        );
        let (outcome, trailer) = told(3);
        assert_eq!(outcome, Outcome::Failed(Failure::ExitCode(3)));
        assert_eq!(
            trailer,
            format!("[worker-node] failed; exit code 3{remark}")
        );
        let (outcome, trailer) = told(143);
        assert_eq!(outcome, Outcome::Failed(Failure::Signal(15)));
        assert_eq!(
            trailer,
            format!("[worker-node] failed; exit code 143, signal 15{remark}")
        );
    }

    #[test]
    fn who_stopped_a_task_is_said_in_their_own_words() {
        let stopped = Outcome::Failed(Failure::StoppedByOther(
            "killed from outside (signal 9)".into(),
        ));

        assert_eq!(
            stopped.to_string(),
            "failed: killed from outside (signal 9)"
        );
    }

    #[test]
    fn the_trailer_is_one_line_with_all_that_the_report_has_no_field_for() {
        let exit = Exit {
            code: 137,
            oom_killed: true,
            duration: Duration::from_millis(1_234),
            usage: Some(Usage {
                cpu: Duration::from_millis(520),
                peak_memory: 64 << 20,
                ..Usage::default()
            }),
        };
        let trailer = Trailer {
            outcome: &exit.outcome(),
            exit: Some(&exit),
            notes: &["1 file skipped".into()],
        };

        assert_eq!(
            trailer.to_string(),
            "[worker-node] failed; exit code 137, signal 9, out of memory, duration 1.234 s, cpu time 0.52 s, \
             peak memory 64.0 MiB; 1 file skipped"
        );
    }
}
