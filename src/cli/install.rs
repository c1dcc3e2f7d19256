//! `worker-node install` and `uninstall`: the worker as a service of systemd, without a package. Every file that is written, kept or
//! removed is named, and so is what to type next. No service is started or stopped here: that is the administrator's.

mod files;

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, ValueHint};

use self::files::{
    CONFIGURATION, ENABLED, Force, Laid, Laying, Machine, PROGRAM, STATE, UNIT, USER, beside,
};
use super::{args::FolderArgs, ask, tasks::Stories, words};
use crate::{
    exit::Exit,
    ports::state::{LockFacts, TaskStory, Wanted},
};

/// The arguments of `install`.
#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// Run the service as this user, who gets the group docker; without it as root.
    #[arg(long, value_name = "USER", value_parser = user_name)]
    user: Option<String>,
    /// Say what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace a unit that differs from this version's (the configuration never is).
    #[arg(long)]
    force: bool,
    /// Install below this folder: the image of another machine. Nothing is asked of systemd then.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
}

/// The arguments of `uninstall`.
#[derive(Debug, Args)]
pub(super) struct UninstallArgs {
    /// Remove configuration and state too.
    #[arg(long)]
    purge: bool,
    /// Do it although tasks have not ended, or the unit was edited.
    #[arg(long)]
    force: bool,
    /// Uninstall below this folder: the image of another machine. Nothing is asked of systemd then.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// The arguments of `install`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct InstallCommand {
    machine: Machine,
    user: Option<String>,
    force: Force,
    laying: Laying,
}

/// The arguments of `uninstall`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct UninstallCommand {
    /// The worker's state folder, seen from here.
    pub folder: PathBuf,
    machine: Machine,
    force: Force,
    rest: Rest,
}

/// What becomes of the configuration, the state and the output folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// They stay.
    Left,
    /// They are removed too.
    Purged,
}

/// Why nothing, or no more, was done, and the exit code for it.
#[derive(Debug)]
struct Refusal {
    exit: Exit,
    why: String,
}

impl InstallCommand {
    pub(super) fn new(args: InstallArgs) -> Self {
        Self {
            machine: Machine { root: args.root },
            user: args.user,
            force: force(args.force),
            laying: match args.dry_run {
                true => Laying::Tried,
                false => Laying::Done,
            },
        }
    }
}

impl UninstallCommand {
    pub(super) fn new(args: UninstallArgs, folder: &Path) -> Self {
        let machine = Machine { root: args.root };
        Self {
            folder: machine.at(folder),
            machine,
            force: force(args.force),
            rest: match args.purge {
                true => Rest::Purged,
                false => Rest::Left,
            },
        }
    }
}

fn force(given: bool) -> Force {
    match given {
        true => Force::Replace,
        false => Force::Keep,
    }
}

/// A user's name of letters, digits, `_`, `-` and `.`, below 32 bytes, as systemd takes it: it becomes a line of a unit.
fn user_name(text: &str) -> Result<String, &'static str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    match begins && text.len() < 32 && text.bytes().all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("it is no name of a user"),
    }
}

/// Installs, and says what was done.
pub fn install(command: &InstallCommand) -> Exit {
    finish(|told| {
        if command.laying == Laying::Done {
            as_root(&command.machine, "worker-node install")?;
        }
        without_package(&command.machine)?;
        has_user(command)?;
        for item in files::items(command.user.as_deref())? {
            let laid = item.lay(&command.machine, command.force, command.laying)?;
            told.push_str(&line(&item.at(&command.machine), &laid, command.laying));
        }
        if command.laying == Laying::Done {
            reload(&command.machine)?;
            told.push_str(&next(command));
        }
        Ok(())
    })
}

/// Uninstalls, and says what was done; `stories` reads what the journal knows of tasks.
pub fn uninstall(command: &UninstallCommand, stories: Stories<'_>) -> Exit {
    finish(|told| {
        as_root(&command.machine, "worker-node uninstall")?;
        without_package(&command.machine)?;
        at_rest(command, stories)?;
        for path in removable(command, told)? {
            if files::remove(&path)? {
                let _ = writeln!(told, "removed     {}", path.display());
            }
        }
        remove_rest(command, told)?;
        reload(&command.machine)
    })
}

/// Performs `work` and prints the text that it built up, also where it failed half-way.
fn finish(work: impl FnOnce(&mut String) -> Result<(), Refusal>) -> Exit {
    let mut told = String::new();
    let done = work(&mut told);
    match (ask::put(&told), done) {
        (Exit::Clean, Err(refusal)) => {
            ask::complain(&refusal.why);
            refusal.exit
        }
        (exit, _) => exit,
    }
}

fn as_root(machine: &Machine, typed: &str) -> Result<(), Refusal> {
    if machine.root.is_some() || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let why = format!("only root can do this; type: sudo {typed}");
    Err(Refusal {
        exit: Exit::Permission,
        why,
    })
}

fn without_package(machine: &Machine) -> Result<(), Refusal> {
    match machine.has_package() {
        true => Err(configuration(
            "the package worker-node is installed here and looks after the service; for this command, remove it first: apt remove worker-node",
        )),
        false => Ok(()),
    }
}

fn has_user(command: &InstallCommand) -> Result<(), Refusal> {
    let Some(user) = command
        .user
        .as_ref()
        .filter(|_| command.machine.root.is_none())
    else {
        return Ok(());
    };
    match Command::new("id").arg(user).output() {
        Ok(output) if !output.status.success() => Err(configuration(format!(
            "there is no user {user} here; type: useradd --system --no-create-home --shell /usr/sbin/nologin {user}"
        ))),
        // Where `id` cannot be run, systemd finds out at the start.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The line about one file: `wrote      /usr/bin/worker-node`
fn line(path: &Path, laid: &Laid, laying: Laying) -> String {
    let path = path.display();
    let wrote = match laying {
        Laying::Done => "wrote",
        Laying::Tried => "would write",
    };
    match laid {
        Laid::Written => format!("{wrote:<11} {path}\n"),
        Laid::Unchanged => format!("{:<11} {path}\n", "unchanged"),
        Laid::Theirs => format!("{:<11} {path}\n", "kept"),
        Laid::Beside(beside) => format!(
            "{:<11} {path}: it differs from this version's (--force replaces it)\n{wrote:<11} {}\n",
            "kept",
            beside.display()
        ),
    }
}

/// What to type next. A worker that runs as another user answers to that user alone, whose home is not where its state is.
fn next(command: &InstallCommand) -> String {
    let (machine, user) = (&command.machine, command.user.as_deref());
    let ask = |what: &str| match user {
        Some(user) => format!("sudo -u {user} worker-node {what} --state-dir {STATE}"),
        None => format!("worker-node {what}"),
    };
    let start = match is_active(machine) {
        true => "systemctl restart worker-node",
        false => "systemctl enable --now worker-node",
    };
    format!(
        "\nnext:\n  edit {}: its name, where the master is, where it reaches this machine\n  {}\n  {start}\n  {}\n",
        machine.at(CONFIGURATION).display(),
        ask("doctor"),
        ask("status"),
    )
}

/// Refuses while the service runs, a worker holds the folder, or tasks have not ended: they would be lost sight of.
fn at_rest(command: &UninstallCommand, stories: Stories<'_>) -> Result<(), Refusal> {
    if is_active(&command.machine) {
        return Err(later(
            "the service runs; type: worker-node drain --wait; systemctl disable --now worker-node",
        ));
    }
    let (lock, tasks) = match stories(&Wanted::Unfinished) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if command.force == Force::Replace => return Ok(()),
        Err(error) => {
            let folder = command.folder.display();
            return Err(later(format!(
                "whether tasks run cannot be read in {folder}: {error}; --force does it all the same"
            )));
        }
    };
    match (lock, tasks.len(), command.force) {
        (LockFacts::Held(_), _, _) => Err(later(format!(
            "a worker runs on {}; stop it first",
            command.folder.display()
        ))),
        (LockFacts::Free, 0, _) | (_, _, Force::Replace) => Ok(()),
        (LockFacts::Free, _, Force::Keep) => Err(later(format!(
            "{}; start the worker and type: worker-node drain --wait (--force leaves them behind)",
            waiting(&tasks)
        ))),
    }
}

/// `2 of its tasks have not ended, or the master does not have their results: a, b`
fn waiting(tasks: &[TaskStory]) -> String {
    let names = tasks.iter().filter_map(|story| match story {
        TaskStory::Kept { record, .. } => Some(words::foreign(&record.spec.id.to_string(), 64)),
        TaskStory::Retired { .. } | TaskStory::Unreadable(_) => None,
    });
    let names = names.take(10).collect::<Vec<_>>().join(", ");
    format!(
        "{} of its tasks have not ended, or the master does not have their results: {names}",
        tasks.len()
    )
}

/// The files that an installation left; an edited unit is among them by force alone.
fn removable(command: &UninstallCommand, told: &mut String) -> io::Result<Vec<PathBuf>> {
    let machine = &command.machine;
    let unit = machine.at(UNIT);
    let mut paths: Vec<_> = [ENABLED, USER, PROGRAM]
        .iter()
        .map(|path| machine.at(path))
        .collect();
    paths.push(beside(&unit));
    match files::unit().differs(machine)? && command.force == Force::Keep {
        true => {
            let _ = writeln!(
                told,
                "kept        {}: it was edited (--force removes it)",
                unit.display()
            );
        }
        false => paths.push(unit),
    }
    Ok(paths)
}

/// Removes configuration and state with `--purge`; else names what is left of them.
fn remove_rest(command: &UninstallCommand, told: &mut String) -> io::Result<()> {
    let configuration = command.machine.at(CONFIGURATION);
    if command.rest == Rest::Purged {
        files::remove(&configuration)?;
        files::remove_tree(&command.folder)?;
    }
    for file in [&configuration, &command.machine.at(USER)] {
        files::leave_no_empty_folder_of(file);
    }
    for path in [&configuration, &command.folder] {
        if path.exists() {
            let _ = writeln!(told, "left        {} (--purge removes it)", path.display());
        }
    }
    Ok(())
}

fn is_active(machine: &Machine) -> bool {
    let ask = || {
        Command::new("systemctl")
            .args(["is-active", "--quiet", "worker-node"])
            .status()
    };
    machine.runs_systemd() && ask().is_ok_and(|status| status.success())
}

/// Has systemd read its units again; does nothing where none runs.
fn reload(machine: &Machine) -> Result<(), Refusal> {
    if !machine.runs_systemd() {
        return Ok(());
    }
    let asked = Command::new("systemctl").arg("daemon-reload").output();
    match asked {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) | Err(_) => Err(later(
            "systemd did not read its units anew; type: systemctl daemon-reload",
        )),
    }
}

fn later(why: impl Into<String>) -> Refusal {
    Refusal {
        exit: Exit::TryLater,
        why: why.into(),
    }
}

fn configuration(why: impl Into<String>) -> Refusal {
    Refusal {
        exit: Exit::Configuration,
        why: why.into(),
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self {
            exit: match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Exit::Permission
                }
                _ => Exit::Unexpected,
            },
            why: error.to_string(),
        }
    }
}
