//! The flags about what every task's container gets beside what the task asks for: what its processes may do.

use super::{args::RunArgs, check::Check, choice::read_privileges};
use crate::domain::privileges::{Capability, Privileges, Ulimit};

/// The fewest processes and threads that may be set: the engine's init, a shell, a command, and what the engine starts beside them
/// to ask them to end need about as many.
const LEAST_PIDS: u32 = 16;

/// The most that may be set: no kernel has more.
const MOST_PIDS: u32 = 1 << 22;

/// What every task's container gets beside what the task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerConfig {
    /// How many processes and threads may run in it at once.
    pub pids: u32,
    /// Its capabilities, and whether a program may have more than the process that starts it.
    pub privileges: Privileges,
    /// Limits of each process; no two of one name.
    pub ulimits: Vec<Ulimit>,
}

pub(super) fn container(args: &RunArgs, check: &mut Check) -> Option<ContainerConfig> {
    let pids = check.value("--task-pids", &args.task_pids, |text| {
        let number = text.parse::<u32>().ok();
        number
            .filter(|number| (LEAST_PIDS..=MOST_PIDS).contains(number))
            .ok_or_else(|| format!("is no number from {LEAST_PIDS} to {MOST_PIDS}"))
    });
    let (privileges, ulimits) = (privileges(args, check), ulimits(args, check));
    Some(ContainerConfig {
        pids: pids?,
        privileges: privileges?,
        ulimits: ulimits?,
    })
}

fn privileges(args: &RunArgs, check: &mut Check) -> Option<Privileges> {
    let base = check.value("--privileges", &args.privileges, read_privileges);
    let add = each("--cap-add", &args.cap_add, Capability::read, check)?;
    let drop = args.cap_drop.iter().map(|text| {
        check.value("--cap-drop", text, |text| {
            let capability = Capability::read(text)?;
            match add.contains(&capability) {
                true => Err("is given by --cap-add; leave one of the two away".into()),
                false => Ok(capability),
            }
        })
    });
    let drop: Vec<_> = drop.collect::<Option<_>>()?;
    Some(Privileges::new(base?, &add, &drop))
}

fn ulimits(args: &RunArgs, check: &mut Check) -> Option<Vec<Ulimit>> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in &args.ulimits {
        let limit = check.value("--ulimit", text, |text| {
            let limit = Ulimit::read(text)?;
            match limits.iter().any(|other| other.name == limit.name) {
                true => Err(format!(
                    "is a second one for {}; leave one of the two away",
                    limit.name
                )),
                false => Ok(limit),
            }
        });
        limits.push(limit?);
    }
    if !limits.iter().any(|limit| limit.name == "core") {
        limits.push(Ulimit::no_core());
    }
    Some(limits)
}

fn each<T>(
    name: &'static str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
    check: &mut Check,
) -> Option<Vec<T>> {
    let values = texts.iter().map(|text| check.value(name, text, &read));
    values.collect()
}
