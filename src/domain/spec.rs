//! The specification of a task, and whether this machine can ever run it. A permanent impossibility is found here, before anything
//! runs; whether there is room right now is decided in `admission`.

use std::fmt;

use thiserror::Error;

use super::{
    id::{NameError, PayloadDigest, TaskId, check_safe_name},
    limits,
    task_settings::TaskSettings,
    text::{truncate, without_login},
};

/// The kernel's limit for one argument (`MAX_ARG_STRLEN`), in bytes, its closing NUL included.
pub const COMMAND_LIMIT: usize = 128 * 1024;

/// Bytes in a GiB, the contract's unit for memory and storage.
pub const GIB: f64 = 1_073_741_824.0;

/// The least memory limit that the engine takes, in bytes; a smaller limit is raised to it.
pub const MEMORY_FLOOR: u64 = 6 * 1024 * 1024;

/// A task as its master describes it, in the master's units.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// The master's id of the task.
    pub id: TaskId,
    /// The image reference as written by the user.
    pub image: String,
    /// The command line for a shell in the container; empty: the image's own command runs.
    pub command: String,
    /// The amounts of the machine that the task wants.
    pub wants: Wants,
    /// The user who submitted the task; may be empty.
    pub user_id: String,
    /// The user's name for the task; may be empty, may hold `/` and `:`.
    pub task_name: String,
    /// The master's class of task; may be empty.
    pub task_type: String,
    /// The master's own planning figure; the worker only passes it on.
    pub sla_multiplier: f64,
    /// When the task was submitted, in Unix seconds.
    pub submitted_at: i64,
    /// The settings that the master asks for (`settings` of the message); `None`: it sent none.
    pub asked: Option<Box<TaskSettings>>,
}

/// Resources wanted; 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wants {
    /// Cores.
    pub cpu: f64,
    /// GiB.
    pub memory: f64,
    /// GiB.
    pub storage: f64,
    /// Number of GPUs.
    pub gpu: f64,
}

/// A task offered, with the digest that tells a repeat from another payload under the same id.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The task, its texts cut to the limits of `domain::limits`.
    pub spec: TaskSpec,
    /// Why the task can never run, where its message was over a limit (and was cut) or held a setting that is no value.
    pub excess: Option<Impossible>,
    /// The hash of the fields that make two offers the same task.
    pub digest: PayloadDigest,
}

/// The amounts that this machine has in all, or can give to tasks in all, in the contract's units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MachineTotals {
    /// Cores.
    pub cpu: f64,
    /// GiB.
    pub memory: f64,
    /// GiB, the size of the file system that holds the state folder.
    pub storage: f64,
    /// Number of GPUs.
    pub gpu: f64,
}

/// The amounts of the machine that are kept for the system, and given to no task.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reserve {
    /// Cores.
    pub cpu: f64,
    /// Bytes.
    pub memory: u64,
}

/// A reserve that leaves nothing for tasks.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "{flag} keeps {kept} {unit} for the system, and this machine has {total}: nothing is left for tasks; give less"
)]
pub struct NothingLeft {
    /// The flag that set the reserve.
    pub flag: &'static str,
    /// The amount that is kept for the system.
    pub kept: f64,
    /// The amount that the machine has.
    pub total: f64,
    /// The unit of both amounts.
    pub unit: &'static str,
}

impl MachineTotals {
    /// The amounts that can be given to tasks: the machine's without the reserve. Of storage and GPUs nothing is kept.
    ///
    /// # Errors
    /// The reserve leaves no cores or no memory for tasks.
    pub fn less(self, reserve: &Reserve) -> Result<Self, NothingLeft> {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
        let memory = reserve.memory as f64 / GIB;
        let left = |flag, unit, total: f64, kept: f64| {
            let nothing = NothingLeft {
                flag,
                kept: round2(kept),
                total: round2(total),
                unit,
            };
            // Where nothing is kept, a total of 0 was not found out: then the flag is not to blame.
            match kept > 0.0 && kept >= total {
                true => Err(nothing),
                false => Ok(total - kept),
            }
        };
        Ok(Self {
            cpu: left("--reserve-cpu", "cores", self.cpu, reserve.cpu)?,
            memory: left("--reserve-memory", "GiB", self.memory, memory)?,
            ..self
        })
    }
}

/// Why a task can never run here. The task is accepted and then fails with this text.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Impossible {
    /// The id cannot be used as a name.
    #[error("the task id {0}")]
    Id(NameError),
    /// The command holds a byte that no argument can hold.
    #[error("the command holds a NUL byte, which no program can be given as an argument")]
    CommandNul,
    /// The command is over the kernel's limit for one argument.
    #[error("the command has {0} bytes; the kernel's limit for one argument is {limit}", limit = COMMAND_LIMIT - 1)]
    CommandTooLong(usize),
    /// The image's name holds a user's name or password, which nobody wants to keep.
    #[error(
        "docker_image holds a user's name or password before its '@'; leave them away: for a registry the worker has its own, \
         in Docker's configuration"
    )]
    ImageLogin,
    /// A text is over its limit.
    #[error("{what} has {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// The field's name in the contract.
        what: &'static str,
        /// The text's length.
        bytes: usize,
        /// The most bytes that are taken.
        limit: usize,
    },
    /// A setting that the task asks for has no valid value: the setting, and why not.
    #[error("settings.{0}")]
    Setting(String),
    /// A figure that is no amount.
    #[error("{what} is {value}, which is no amount; give 0 for no limit or a positive number")]
    NoAmount {
        /// The field's name in the contract.
        what: &'static str,
        /// What was asked for.
        value: f64,
    },
    /// More than the machine can give to tasks, in all.
    #[error("{what} is {wanted}, but this worker has {total} in all")]
    BeyondMachine {
        /// The field's name in the contract.
        what: &'static str,
        /// What was asked for.
        wanted: f64,
        /// The amount that can be given to tasks in all.
        total: f64,
    },
    /// The image's name is not valid.
    #[error("the image name {name:?} is not valid: {reason}")]
    ImageName {
        /// As the user wrote it.
        name: String,
        /// What is wrong by the grammar of image names.
        reason: String,
    },
}

impl TaskSpec {
    /// Cuts every text to its limit, and a login out of the image's name, and returns the first thing that was cut. A task that
    /// was cut must not run.
    pub fn cut_to_limits(&mut self) -> Option<Impossible> {
        let login = without_login(&self.image).map(|image| {
            self.image = image;
            Impossible::ImageLogin
        });
        let command = (self.command.len() >= COMMAND_LIMIT).then(|| {
            let bytes = self.command.len();
            cut(&mut self.command, limits::CUT_COMMAND);
            Impossible::CommandTooLong(bytes)
        });
        [
            ("docker_image", &mut self.image, limits::IMAGE),
            ("user_id", &mut self.user_id, limits::USER),
            ("task_name", &mut self.task_name, limits::NAME),
            ("task_type", &mut self.task_type, limits::NAME),
        ]
        .into_iter()
        .filter(|(_, text, limit)| text.len() > *limit)
        .fold(login.or(command), |first, (what, text, limit)| {
            let bytes = text.len();
            cut(text, limit);
            first.or(Some(Impossible::TooLong { what, bytes, limit }))
        })
    }

    /// Checks the task's id, command and amounts, for which no engine is needed.
    ///
    /// # Errors
    /// The first reason found why the task can never run on this machine.
    pub fn check(&self, totals: &MachineTotals) -> Result<(), Impossible> {
        check_safe_name(self.id.as_str()).map_err(Impossible::Id)?;
        if self.command.contains('\0') {
            return Err(Impossible::CommandNul);
        }
        if self.command.len() >= COMMAND_LIMIT {
            return Err(Impossible::CommandTooLong(self.command.len()));
        }
        self.wants.check(totals)
    }
}

impl Wants {
    fn check(&self, totals: &MachineTotals) -> Result<(), Impossible> {
        check_amount("req_cpu", self.cpu, totals.cpu)?;
        check_amount("req_memory", self.memory, totals.memory)?;
        check_amount("req_storage", self.storage, totals.storage)?;
        check_amount("req_gpu", self.gpu, totals.gpu)
    }

    /// The memory limit in bytes, raised to the engine's least; `None` for no limit.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: a positive amount below the machine's"
        )]
        (self.memory > 0.0).then(|| ((self.memory * GIB) as u64).max(MEMORY_FLOOR))
    }

    /// The CPU limit in billionths of a core, at least a hundredth of a core (the engine's least); `None` for no limit.
    #[must_use]
    pub fn nano_cpus(&self) -> Option<i64> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked: a positive amount below the machine's"
        )]
        (self.cpu > 0.0).then(|| (self.cpu.max(0.01) * 1e9) as i64)
    }
}

fn cut(text: &mut String, limit: usize) {
    text.truncate(truncate(text, limit).len());
    text.shrink_to_fit();
}

fn check_amount(what: &'static str, wanted: f64, total: f64) -> Result<(), Impossible> {
    if !wanted.is_finite() || wanted < 0.0 {
        return Err(Impossible::NoAmount {
            what,
            value: wanted,
        });
    }
    if wanted > total {
        return Err(Impossible::BeyondMachine {
            what,
            wanted,
            total: round2(total),
        });
    }
    Ok(())
}

fn round2(value: f64) -> f64 {
    (value * 100.0).floor() / 100.0
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cpu={} memory={}GiB storage={}GiB gpu={}",
            self.cpu, self.memory, self.storage, self.gpu
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str) -> TaskSpec {
        TaskSpec {
            id: TaskId::new(id).unwrap(),
            image: "busybox".into(),
            command: "true".into(),
            wants: Wants::default(),
            user_id: String::new(),
            task_name: String::new(),
            task_type: String::new(),
            sla_multiplier: 1.0,
            submitted_at: 0,
            asked: None,
        }
    }

    const TOTALS: MachineTotals = MachineTotals {
        cpu: 2.0,
        memory: 4.0,
        storage: 10.0,
        gpu: 0.0,
    };

    #[test]
    fn an_unsafe_id_is_impossible() {
        assert!(matches!(
            spec("../../x").check(&TOTALS),
            Err(Impossible::Id(NameError::Characters))
        ));
    }

    #[test]
    fn a_command_that_no_kernel_takes_is_impossible() {
        let mut nul = spec("a");
        nul.command = "echo \0".into();
        let mut long = spec("a");
        long.command = "x".repeat(COMMAND_LIMIT);
        let mut longest = spec("a");
        longest.command = "x".repeat(COMMAND_LIMIT - 1);

        assert_eq!(nul.check(&TOTALS), Err(Impossible::CommandNul));
        assert_eq!(
            long.check(&TOTALS),
            Err(Impossible::CommandTooLong(COMMAND_LIMIT))
        );
        assert_eq!(longest.check(&TOTALS), Ok(()));
    }

    #[test]
    fn texts_over_their_limits_are_cut_and_the_first_is_named() {
        let mut long = spec("a");
        long.image = "é".repeat(500_000);
        long.user_id = "u".repeat(limits::USER + 1);
        long.command = "x".repeat(COMMAND_LIMIT);

        let excess = long.cut_to_limits().unwrap();

        assert_eq!(excess, Impossible::CommandTooLong(COMMAND_LIMIT));
        assert_eq!(long.image.len(), limits::IMAGE);
        assert_eq!(long.user_id.len(), limits::USER);
        assert_eq!(long.command.len(), limits::CUT_COMMAND);

        let mut longest = spec("a");
        longest.image = "i".repeat(limits::IMAGE);
        longest.command = "x".repeat(COMMAND_LIMIT - 1);
        let before = longest.clone();
        assert_eq!(longest.cut_to_limits(), None);
        assert_eq!(longest, before);
    }

    #[test]
    fn a_login_in_an_images_name_is_impossible_and_not_kept() {
        let mut secret = spec("a");
        secret.image = "ann:hidden@r:5000/a:1".into();

        assert_eq!(secret.cut_to_limits(), Some(Impossible::ImageLogin));

        assert_eq!(secret.image, "***@r:5000/a:1");
    }

    #[test]
    fn amounts_must_be_amounts_and_fit_the_machine() {
        for (cpu, fits) in [
            (0.0, true),
            (2.0, true),
            (2.1, false),
            (-1.0, false),
            (f64::NAN, false),
            (f64::INFINITY, false),
        ] {
            let mut wanting = spec("a");
            wanting.wants.cpu = cpu;

            assert_eq!(wanting.check(&TOTALS).is_ok(), fits, "cpu {cpu}");
        }
        let mut gpu = spec("a");
        gpu.wants.gpu = 1.0;
        assert_eq!(
            gpu.check(&TOTALS).unwrap_err().to_string(),
            "req_gpu is 1, but this worker has 0 in all"
        );
    }

    #[test]
    fn a_reserve_is_taken_off_and_leaves_something() {
        let less = |cpu, memory| TOTALS.less(&Reserve { cpu, memory });

        assert_eq!(TOTALS.less(&Reserve::default()), Ok(TOTALS));
        let left = less(0.5, 1 << 30).unwrap();
        assert_eq!((left.cpu, left.memory, left.storage), (1.5, 3.0, 10.0));
        assert_eq!(
            less(2.0, 0).unwrap_err().to_string(),
            "--reserve-cpu keeps 2 cores for the system, and this machine has 2: nothing is left for tasks; give less"
        );
        assert_eq!(less(0.0, 4 << 30).unwrap_err().flag, "--reserve-memory");
    }

    #[test]
    fn limits_are_raised_to_what_the_engine_takes() {
        let tiny = Wants {
            cpu: 0.000_1,
            memory: 0.000_1,
            ..Wants::default()
        };

        assert_eq!(tiny.memory_bytes(), Some(MEMORY_FLOOR));
        assert_eq!(tiny.nano_cpus(), Some(10_000_000));
        assert_eq!(Wants::default().memory_bytes(), None);
        assert_eq!(Wants::default().nano_cpus(), None);
    }
}
