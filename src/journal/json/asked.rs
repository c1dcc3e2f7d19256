//! Writes the settings that a task asks for as JSON text for the journal, and reads them back: by the keys of the configuration
//! file, without settings that are not set. Times are in milliseconds.

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};

use super::{Garbled, parse, string};
use crate::domain::{
    privileges::{Capability, Ulimit},
    task_settings::{Port, Source, TaskSettings, Variable, Volume, reading},
};

pub(in crate::journal) fn asked_to_text(asked: &TaskSettings) -> String {
    let millis = |time: Option<Duration>| {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    let volumes = asked.volumes.as_ref();
    let variables = asked.environment.iter();
    let variables = variables.map(|(name, value)| (name.clone(), variable(value)));
    let all = json!({
        "environment": variables.collect::<Map<_, _>>(),
        "volumes": volumes.map(|all| all.iter().map(volume).collect::<Vec<_>>()),
        "network": asked.network,
        "ports": texts(asked.ports.as_deref()),
        "workdir": asked.workdir,
        "user": asked.user,
        "hostname": asked.hostname,
        "extra_hosts": asked.extra_hosts,
        "timeout": millis(asked.timeout),
        "stop_signal": asked.stop_signal,
        "stop_grace": millis(asked.stop_grace),
        "shm_size": asked.shm_size,
        "ulimits": texts(asked.ulimits.as_deref()),
        "runtime": asked.runtime,
        "read_only_root": asked.read_only_root,
        "cap_add": names(&asked.cap_add),
        "cap_drop": names(&asked.cap_drop),
        "entrypoint": asked.entrypoint.map(|what| what.word()),
    });
    let said = match all {
        Value::Object(all) => all.into_iter().filter(|(_, value)| !value.is_null()),
        _ => unreachable!("it is an object"),
    };
    Value::Object(said.collect()).to_string()
}

pub(in crate::journal) fn asked_from_text(text: &str) -> Result<TaskSettings, Garbled> {
    let stored = parse(text)?;
    let own = |key: &'static str| optional(&stored, key, |value| Some(value.as_str()?.to_owned()));
    let millis = |key: &'static str| {
        optional(&stored, key, |value| {
            value.as_u64().map(Duration::from_millis)
        })
    };
    Ok(TaskSettings {
        environment: match stored["environment"].as_object() {
            Some(variables) => {
                let variables = variables.iter();
                let read = |(name, value): (&String, &Value)| {
                    let value = read_variable(value).ok_or(Garbled("environment"))?;
                    Ok((name.clone(), value))
                };
                variables.map(read).collect::<Result<_, _>>()?
            }
            None => return Err(Garbled("environment")),
        },
        volumes: list(&stored, "volumes", |value| read_volume(value).ok())?,
        network: own("network")?,
        ports: list(&stored, "ports", |value| Port::read(value.as_str()?).ok())?,
        workdir: own("workdir")?,
        user: own("user")?,
        hostname: own("hostname")?,
        extra_hosts: list(&stored, "extra_hosts", |value| {
            Some(value.as_str()?.to_owned())
        })?,
        timeout: millis("timeout")?,
        stop_signal: own("stop_signal")?,
        stop_grace: millis("stop_grace")?,
        shm_size: optional(&stored, "shm_size", Value::as_u64)?,
        ulimits: list(&stored, "ulimits", |value| {
            Ulimit::read(value.as_str()?).ok()
        })?,
        runtime: own("runtime")?,
        read_only_root: optional(&stored, "read_only_root", Value::as_bool)?,
        cap_add: list(&stored, "cap_add", |value| {
            Capability::read(value.as_str()?).ok()
        })?,
        cap_drop: list(&stored, "cap_drop", |value| {
            Capability::read(value.as_str()?).ok()
        })?,
        entrypoint: optional(&stored, "entrypoint", |value| {
            reading::entrypoint(value.as_str()?).ok()
        })?,
    })
}

fn names(list: &Option<Vec<Capability>>) -> Option<Vec<&str>> {
    let list = list.as_ref()?;
    Some(list.iter().map(Capability::name).collect())
}

fn texts<T: ToString>(list: Option<&[T]>) -> Option<Vec<String>> {
    list.map(|list| list.iter().map(ToString::to_string).collect())
}

fn variable(variable: &Variable) -> Value {
    match variable {
        Variable::Text(text) => json!(text),
        Variable::File(path) => json!({ "file": path.to_string_lossy() }),
        Variable::Lost => Value::Null,
    }
}

fn read_variable(stored: &Value) -> Option<Variable> {
    match stored {
        Value::Null => Some(Variable::Lost),
        Value::String(text) => Some(Variable::Text(text.clone())),
        other => Some(Variable::File(PathBuf::from(other["file"].as_str()?))),
    }
}

fn volume(volume: &Volume) -> Value {
    let (kind, source) = match &volume.source {
        Source::Named(name) => ("volume", json!(name)),
        Source::Bind(path) => ("bind", json!(path)),
        Source::Memory(most) => ("tmpfs", json!(most)),
    };
    json!({ kind: source, "target": volume.target, "read_only": volume.read_only })
}

fn read_volume(stored: &Value) -> Result<Volume, Garbled> {
    let source = match (&stored["volume"], &stored["bind"], &stored["tmpfs"]) {
        (Value::String(name), ..) => Source::Named(name.clone()),
        (_, Value::String(path), _) => Source::Bind(path.clone()),
        (_, _, most) => Source::Memory(most.as_u64().ok_or(Garbled("tmpfs"))?),
    };
    Ok(Volume {
        source,
        target: string(stored, "target")?,
        read_only: stored["read_only"].as_bool().ok_or(Garbled("read_only"))?,
    })
}

fn optional<T>(
    stored: &Value,
    key: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Garbled> {
    match &stored[key] {
        Value::Null => Ok(None),
        value => read(value).map(Some).ok_or(Garbled(key)),
    }
}

fn list<T>(
    stored: &Value,
    key: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<Vec<T>>, Garbled> {
    optional(stored, key, |value| {
        value.as_array()?.iter().map(&read).collect()
    })
}
