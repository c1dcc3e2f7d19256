//! Converts the settings that a master asks for from the wire and back. They are read by the same functions as the operator's own
//! settings, within limits of their own; where one is over a limit or no valid value, the error says so and none of them is kept.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;

use crate::{
    domain::{
        limits,
        privileges::{Capability, Ulimit},
        task_settings::{
            Entrypoint, Port, Source, TaskSettings, Variable, Volume,
            reading::{self, LONGEST, LONGEST_VALUE},
        },
        text::escape,
    },
    proto::{self, mount},
};

/// How much of an asked value is shown in an error, in bytes; the rest is cut.
const SHOWN: usize = 60;

/// The error names the field first, then what is wrong with its value.
type Read<T> = Result<T, String>;

/// The settings of a message; `None`: no field of it is set.
///
/// # Errors
/// The first field that is over a limit or has no valid value.
pub(super) fn read(asked: proto::TaskSettings) -> Read<Option<TaskSettings>> {
    check_size(&asked)?;
    let settings = TaskSettings {
        environment: environment(&asked.environment)?,
        volumes: volumes(&asked.mounts)?,
        network: text("network", &asked.network, reading::network)?,
        ports: list("ports", &asked.ports, Port::read)?,
        workdir: text("workdir", &asked.workdir, reading::path)?,
        user: text("user", &asked.user, reading::user)?,
        hostname: text("hostname", &asked.hostname, reading::host)?,
        extra_hosts: list("extra_hosts", &asked.extra_hosts, reading::extra_host)?,
        timeout: timeout(asked.timeout_seconds)?,
        stop_signal: text("stop_signal", &asked.stop_signal, reading::signal)?,
        stop_grace: stop_grace(asked.stop_grace_seconds)?,
        shm_size: match asked.shm_size_bytes {
            0 => None,
            bytes => Some(memory("shm_size_bytes", bytes)?),
        },
        ulimits: ulimits(&asked.ulimits)?,
        // Only the operator can choose the runtime.
        runtime: None,
        read_only_root: asked.read_only_root,
        cap_add: list("cap_add", &asked.cap_add, Capability::read)?,
        cap_drop: list("cap_drop", &asked.cap_drop, Capability::read)?,
        entrypoint: entrypoint(asked.entrypoint)?,
    };
    if let Some(both) = settings.added_and_dropped() {
        let both = both.name();
        return Err(format!("cap_add has {both}, and cap_drop has it, too"));
    }
    Ok((settings != TaskSettings::default()).then_some(settings))
}

/// Checks the limits of the whole message, before any field is read, so that no more is read than they allow.
fn check_size(asked: &proto::TaskSettings) -> Read<()> {
    let values = asked.environment.values().map(String::len);
    let values: usize = values.sum();
    if values > limits::VALUES {
        let most = limits::VALUES;
        return Err(format!(
            "environment has values of {values} bytes; at most {most} are taken"
        ));
    }
    let rest = asked.encoded_len().saturating_sub(values);
    if rest > limits::ASKED {
        let most = limits::ASKED;
        return Err(format!(
            "all but the values of variables has {rest} bytes; at most {most} are taken"
        ));
    }
    few("environment", asked.environment.len(), limits::VARIABLES)?;
    few("mounts", asked.mounts.len(), limits::ASKED_ENTRIES)
}

fn few(field: &str, entries: usize, most: usize) -> Read<()> {
    match entries > most {
        true => Err(format!(
            "{field} has {entries} entries; at most {most} are taken"
        )),
        false => Ok(()),
    }
}

fn environment(asked: &BTreeMap<String, String>) -> Read<BTreeMap<String, Variable>> {
    let pairs = asked.iter().map(|(name, value)| {
        let of_it = |why: String| format!("environment {}: {why}", shown(name));
        let name = reading::variable_name(name).map_err(of_it)?;
        let value = reading::bounded(value, LONGEST_VALUE).map_err(of_it)?;
        Ok((name, Variable::Text(value.to_owned())))
    });
    pairs.collect()
}

fn volumes(mounts: &[proto::Mount]) -> Read<Option<Vec<Volume>>> {
    if mounts.is_empty() {
        return Ok(None);
    }
    let volumes: Read<Vec<_>> = mounts.iter().map(volume).collect();
    let volumes = reading::volumes(volumes?);
    volumes.map(Some).map_err(|why| format!("mounts {why}"))
}

fn volume(mount: &proto::Mount) -> Read<Volume> {
    let source = match &mount.source {
        Some(mount::Source::Volume(name)) => {
            Source::Named(word("mounts.volume", name, reading::name)?)
        }
        Some(mount::Source::Bind(path)) => Source::Bind(word("mounts.bind", path, reading::bind)?),
        Some(mount::Source::Tmpfs(most)) => Source::Memory(memory("mounts.tmpfs", *most)?),
        None => return Err("mounts has one without volume, bind and tmpfs".into()),
    };
    let target = word("mounts.target", &mount.target, reading::target)?;
    let volume = reading::volume(source, target, mount.read_only);
    volume.map_err(|why| format!("mounts {why}"))
}

fn ulimits(asked: &[String]) -> Read<Option<Vec<Ulimit>>> {
    let limits = list("ulimits", asked, Ulimit::read)?;
    let limits = limits.map(reading::ulimits).transpose();
    limits.map_err(|why| format!("ulimits {why}"))
}

fn timeout(seconds: u64) -> Read<Option<Duration>> {
    let time = Duration::from_secs(seconds);
    match seconds {
        0 => Ok(None),
        _ if reading::TIMEOUT.contains(&time) => Ok(Some(time)),
        _ => Err(out_of_range("timeout_seconds", seconds, "1 to 31536000")),
    }
}

fn stop_grace(seconds: Option<u64>) -> Read<Option<Duration>> {
    let time = seconds.map(Duration::from_secs);
    match (seconds, time) {
        (Some(seconds), Some(time)) if !reading::STOP_GRACE.contains(&time) => {
            Err(out_of_range("stop_grace_seconds", seconds, "0 to 3600"))
        }
        _ => Ok(time),
    }
}

fn memory(field: &str, bytes: u64) -> Read<u64> {
    match reading::MEMORY.contains(&bytes) {
        true => Ok(bytes),
        false => Err(out_of_range(field, bytes, "1 MiB to 1 TiB")),
    }
}

fn out_of_range(field: &str, value: u64, range: &str) -> String {
    format!("{field} is {value}, which is out of range; give {range}")
}

fn entrypoint(number: i32) -> Read<Option<Entrypoint>> {
    match proto::Entrypoint::try_from(number) {
        Ok(proto::Entrypoint::Unspecified) => Ok(None),
        Ok(proto::Entrypoint::Replace) => Ok(Some(Entrypoint::Replace)),
        Ok(proto::Entrypoint::Keep) => Ok(Some(Entrypoint::Keep)),
        Err(_) => Err(format!(
            "entrypoint is {number}, which this worker does not know"
        )),
    }
}

/// Reads a field of text; an empty one is not set.
fn text<T>(field: &str, text: &str, read: impl FnOnce(&str) -> Read<T>) -> Read<Option<T>> {
    match text {
        "" => Ok(None),
        text => word(field, text, read).map(Some),
    }
}

fn list<T>(field: &str, texts: &[String], read: impl Fn(&str) -> Read<T>) -> Read<Option<Vec<T>>> {
    few(field, texts.len(), limits::ASKED_ENTRIES)?;
    let all: Read<Vec<T>> = texts.iter().map(|text| word(field, text, &read)).collect();
    all.map(|all| (!all.is_empty()).then_some(all))
}

fn word<T>(field: &str, text: &str, read: impl FnOnce(&str) -> Read<T>) -> Read<T> {
    let text = reading::bounded(text, LONGEST).map_err(|why| format!("{field} {why}"))?;
    read(text).map_err(|why| format!("{field} '{}' {why}", shown(text)))
}

fn shown(text: &str) -> String {
    escape(text, SHOWN)
}

/// The settings as the message that says the same; values of files, which no task asks for, and lost values are left empty.
pub(super) fn written(settings: &TaskSettings) -> proto::TaskSettings {
    let texts = |list: &Option<Vec<Capability>>| {
        let names = list.iter().flatten();
        names.map(|one| one.name().to_owned()).collect()
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let variables = settings.environment.iter();
    let entrypoint = match settings.entrypoint {
        None => proto::Entrypoint::Unspecified,
        Some(Entrypoint::Replace) => proto::Entrypoint::Replace,
        Some(Entrypoint::Keep) => proto::Entrypoint::Keep,
    };
    proto::TaskSettings {
        environment: variables
            .map(|(name, value)| (name.clone(), value_of(value)))
            .collect(),
        mounts: settings.volumes.iter().flatten().map(mount).collect(),
        network: text(&settings.network),
        ports: shown_all(&settings.ports),
        workdir: text(&settings.workdir),
        user: text(&settings.user),
        hostname: text(&settings.hostname),
        extra_hosts: settings.extra_hosts.clone().unwrap_or_default(),
        timeout_seconds: settings.timeout.map_or(0, |time| time.as_secs()),
        stop_signal: text(&settings.stop_signal),
        stop_grace_seconds: settings.stop_grace.map(|time| time.as_secs()),
        shm_size_bytes: settings.shm_size.unwrap_or_default(),
        ulimits: shown_all(&settings.ulimits),
        read_only_root: settings.read_only_root,
        cap_add: texts(&settings.cap_add),
        cap_drop: texts(&settings.cap_drop),
        entrypoint: entrypoint.into(),
    }
}

fn value_of(variable: &Variable) -> String {
    match variable {
        Variable::Text(text) => text.clone(),
        // No task asks for a file.
        Variable::File(_) | Variable::Lost => String::new(),
    }
}

fn shown_all<T: ToString>(list: &Option<Vec<T>>) -> Vec<String> {
    list.iter().flatten().map(ToString::to_string).collect()
}

fn mount(volume: &Volume) -> proto::Mount {
    let source = match &volume.source {
        Source::Named(name) => mount::Source::Volume(name.clone()),
        Source::Bind(path) => mount::Source::Bind(path.clone()),
        Source::Memory(most) => mount::Source::Tmpfs(*most),
    };
    proto::Mount {
        source: Some(source),
        target: volume.target.clone(),
        read_only: volume.read_only,
    }
}

#[cfg(test)]
pub(super) mod tests;
