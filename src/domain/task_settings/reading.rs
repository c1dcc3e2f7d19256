//! Reads the settings of tasks, one by one, from text: the checks that the configuration file and a master's message share. An
//! error is the end of a sentence that begins with the text that was written.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use super::{Entrypoint, Source, Volume, is_at_or_above, is_plain_path};
use crate::domain::privileges::Ulimit;

/// The longest text of a setting, in bytes; the value of a variable has a limit of its own.
pub const LONGEST: usize = 4_096;

/// The longest value of a variable, in bytes.
pub const LONGEST_VALUE: usize = 32_768;

/// The timeouts that a task can be given.
pub const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

/// The times that a task can be given to end by itself after its stop signal, before it is killed.
pub const STOP_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);

/// The sizes that `/dev/shm` and a tmpfs can be given, in bytes.
pub const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 40;

/// The folder of a task's output files in its container: no volume may be put there.
const OUTPUT: &str = "/output";

/// The engine's usual sockets: a task that reaches one of them can do anything on the machine.
const ENGINE_SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

type Read<T> = Result<T, String>;

/// The text itself, if it has at most `longest` bytes.
///
/// # Errors
/// The text is longer, or holds a NUL.
pub fn bounded(text: &str, longest: usize) -> Read<&str> {
    match text.len() > longest {
        true => Err(format!("has {} bytes; give at most {longest}", text.len())),
        false if text.contains('\0') => Err("holds a NUL".into()),
        false => Ok(text),
    }
}

/// Reads the name of a variable.
///
/// # Errors
/// No shell would take the name, or the worker sets this variable itself.
pub fn variable_name(name: &str) -> Read<String> {
    let is_fit = name.bytes().enumerate().all(|(at, byte)| {
        byte.is_ascii_alphabetic() || byte == b'_' || at > 0 && byte.is_ascii_digit()
    });
    if !is_fit || name.is_empty() || name.len() > LONGEST {
        return Err("is no variable's name".into());
    }
    match name {
        "TINI_KILL_PROCESS_GROUP" => Err("is the worker's own: a stop needs it".into()),
        _ => Ok(name.to_owned()),
    }
}

/// Reads a name that the engine takes for a thing of its own, such as a volume or a runtime.
///
/// # Errors
/// The engine would not take it; the error says which characters it takes.
pub fn name(text: &str) -> Read<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    match begins && text.len() <= 128 && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("is no name; give letters, digits, '_', '.' and '-', at most 128".into()),
    }
}

/// Reads a network's name. Whether the engine has a network of that name shows only when a container is made.
///
/// # Errors
/// The text can be no network's name.
pub fn network(text: &str) -> Read<String> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b':');
    match !text.is_empty() && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(
            "is no network's name; give one that `docker network ls` shows, or leave it away"
                .into(),
        ),
    }
}

/// Reads an absolute path without `.`, `..` and doubled slashes.
///
/// # Errors
/// The text is no such path.
pub fn path(text: &str) -> Read<String> {
    match is_plain_path(text) {
        true => Ok(text.to_owned()),
        false => Err("is no whole path; begin with / and leave //, . and .. away".into()),
    }
}

/// Reads the path of a file or folder of the engine's machine.
///
/// # Errors
/// The text is no absolute path, or the engine's socket lies there or below.
pub fn bind(text: &str) -> Read<String> {
    let path = path(text)?;
    let mut sockets = ENGINE_SOCKETS.into_iter();
    match sockets.find(|socket| is_at_or_above(&path, socket)) {
        Some(socket) => Err(format!(
            "holds the engine's socket {socket}, by which a task would rule this machine"
        )),
        None => Ok(path),
    }
}

/// Reads the place of a volume within a container.
///
/// # Errors
/// The text is no absolute path, or a volume there would hide the task's output files.
pub fn target(text: &str) -> Read<String> {
    let path = path(text)?;
    match is_at_or_above(&path, OUTPUT) || is_at_or_above(OUTPUT, &path) {
        true => Err(format!(
            "would hide {OUTPUT}, where the task's files are taken from"
        )),
        false => Ok(path),
    }
}

/// A volume of these parts.
///
/// # Errors
/// The volume is a tmpfs that is read-only: it would stay empty.
pub fn volume(source: Source, target: String, read_only: bool) -> Read<Volume> {
    if read_only && matches!(source, Source::Memory(_)) {
        return Err("has a tmpfs that is read_only, and so for ever empty".into());
    }
    Ok(Volume {
        source,
        target,
        read_only,
    })
}

/// The volumes themselves, if each has a target of its own.
///
/// # Errors
/// Two volumes have the same target.
pub fn volumes(volumes: Vec<Volume>) -> Read<Vec<Volume>> {
    for (at, volume) in volumes.iter().enumerate() {
        let target = &volume.target;
        if volumes[..at].iter().any(|other| other.target == *target) {
            return Err(format!("has two at {target}"));
        }
    }
    Ok(volumes)
}

/// The ulimits themselves, if each has a name of its own.
///
/// # Errors
/// Two ulimits have the same name.
pub fn ulimits(limits: Vec<Ulimit>) -> Read<Vec<Ulimit>> {
    for (at, limit) in limits.iter().enumerate() {
        if limits[..at].iter().any(|other| other.name == limit.name) {
            return Err(format!("has two for {}", limit.name));
        }
    }
    Ok(limits)
}

/// Reads the user that a task runs as: a name or number, with an optional group behind a colon.
///
/// # Errors
/// The text is no user.
pub fn user(text: &str) -> Read<String> {
    let is_one = |word: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        !word.is_empty() && !word.starts_with('-') && word.bytes().all(allowed)
    };
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    match is_one(user) && is_one(group) {
        true => Ok(text.to_owned()),
        false => Err("is no user; give a name or a number, and a group behind a colon".into()),
    }
}

/// Reads a host's name.
///
/// # Errors
/// The text is no host's name of at most 64 bytes.
pub fn host(text: &str) -> Read<String> {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let edges = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && !edges && label.bytes().all(allowed)
    };
    match text.len() <= 64 && text.split('.').all(is_label) {
        true => Ok(text.to_owned()),
        false => Err("is no host's name of at most 64 letters, digits, '-' and '.'".into()),
    }
}

/// Reads `NAME:ADDRESS`; the address is an IP address or `host-gateway`.
///
/// # Errors
/// The text is not of that form.
pub fn extra_host(text: &str) -> Read<String> {
    let parts = text.split_once(':');
    let is_one = parts.is_some_and(|(name, address)| {
        let is_address = address == "host-gateway" || address.parse::<IpAddr>().is_ok();
        host(name).is_ok() && is_address
    });
    match is_one {
        true => Ok(text.to_owned()),
        false => Err("is no host with its address; write NAME:ADDRESS".into()),
    }
}

/// Reads a signal's name, with or without `SIG`, and returns it with `SIG`.
///
/// # Errors
/// The text is no signal's name.
pub fn signal(text: &str) -> Read<String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    match SIGNALS.contains(&name) {
        true => Ok(format!("SIG{name}")),
        false => Err("is no signal; give a name such as SIGINT".into()),
    }
}

/// Reads what becomes of an image's entrypoint, as [`Entrypoint::word`] writes it.
///
/// # Errors
/// The text is neither of the two words.
pub fn entrypoint(text: &str) -> Read<Entrypoint> {
    let known = [Entrypoint::Replace, Entrypoint::Keep];
    let found = known.into_iter().find(|known| known.word() == text);
    found.ok_or_else(|| "is neither 'replace' nor 'keep'".into())
}
