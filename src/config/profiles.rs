//! Writes the settings of tasks as a configuration file has them: each setting that is set, by its key, with its value; reading
//! them back gives the same settings. Pure.

use std::fmt;

use super::{
    amount::{Bytes, Time},
    written::Value,
};
use crate::domain::{
    privileges::Capability,
    profile::{Matching, Profiles, TextPattern},
    task_settings::{Source, TaskSettings, Variable, Volume},
};

/// A setting's value as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// One value, or a list of values.
    One(Value),
    /// A table.
    Table(Row),
    /// A list of tables.
    Tables(Vec<Row>),
}

/// The entries of a table.
type Row = Vec<(&'static str, Value)>;

/// Every setting that is set, by its key; each variable has a key of its own.
#[must_use]
pub fn told(settings: &TaskSettings) -> Vec<(String, Told)> {
    let variables = settings.environment.iter();
    let variables = variables.map(|(name, variable)| {
        let value = match variable {
            Variable::Text(text) => Told::One(Value::Text(text.clone())),
            Variable::File(path) => {
                let path = path.to_string_lossy().into_owned();
                Told::Table(vec![("file", Value::Text(path))])
            }
            // A file cannot say that a value is lost: only a task that was read back from labels has such variables.
            Variable::Lost => Told::Table(Vec::new()),
        };
        (format!("environment.{name}"), value)
    });
    let rest = rest(settings).into_iter();
    let rest = rest.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    variables.chain(rest).collect()
}

fn rest(settings: &TaskSettings) -> [(&'static str, Option<Told>); 17] {
    let text = |text: &Option<String>| one(text.clone());
    let time = |time: Option<_>| one(time.map(|time| Time(time).to_string()));
    let volumes = settings.volumes.as_ref();
    let volumes = volumes.map(|volumes| Told::Tables(volumes.iter().map(row).collect()));
    let limits = settings.ulimits.as_ref();
    let limits = limits.map(|limits| limits.iter().map(ToString::to_string).collect());
    let capabilities = |list: &Option<Vec<Capability>>| {
        let list = list.as_ref();
        list.map(|list| list.iter().map(|one| one.name().to_owned()).collect())
    };
    let root = settings.read_only_root.map(Value::Switch).map(Told::One);
    let ports = settings.ports.as_ref();
    let ports = ports.map(|ports| ports.iter().map(ToString::to_string).collect());
    [
        ("volumes", volumes),
        ("network", text(&settings.network)),
        ("ports", list(ports)),
        ("workdir", text(&settings.workdir)),
        ("user", text(&settings.user)),
        ("hostname", text(&settings.hostname)),
        ("extra_hosts", list(settings.extra_hosts.clone())),
        ("timeout", time(settings.timeout)),
        ("stop_signal", text(&settings.stop_signal)),
        ("stop_grace", time(settings.stop_grace)),
        (
            "shm_size",
            one(settings.shm_size.map(|size| Bytes(size).to_string())),
        ),
        ("ulimits", list(limits)),
        ("runtime", text(&settings.runtime)),
        ("read_only_root", root),
        ("cap_add", list(capabilities(&settings.cap_add))),
        ("cap_drop", list(capabilities(&settings.cap_drop))),
        (
            "entrypoint",
            one(settings.entrypoint.map(|what| what.word().to_owned())),
        ),
    ]
}

fn one(text: Option<String>) -> Option<Told> {
    text.map(Value::Text).map(Told::One)
}

fn list(texts: Option<Vec<String>>) -> Option<Told> {
    texts.map(Value::List).map(Told::One)
}

fn row(volume: &Volume) -> Row {
    let source = match &volume.source {
        Source::Named(name) => ("volume", name.clone()),
        Source::Bind(path) => ("bind", path.clone()),
        Source::Memory(most) => ("tmpfs", Bytes(*most).to_string()),
    };
    let target = ("target", volume.target.clone());
    let rows = [source, target].map(|(key, text)| (key, Value::Text(text)));
    let read_only = volume.read_only;
    let read_only = read_only.then_some(("read_only", Value::Switch(true)));
    rows.into_iter().chain(read_only).collect()
}

/// The `match` of a profile: the tasks that it is for.
#[must_use]
pub fn matching(matching: &Matching) -> Told {
    let text =
        |pattern: &Option<TextPattern>| pattern.as_ref().map(|pattern| pattern.text().to_owned());
    let all = [
        ("image", matching.image.as_ref().map(ToString::to_string)),
        ("task_type", text(&matching.task_type)),
        ("user", text(&matching.user)),
        ("task_name", text(&matching.task_name)),
    ];
    let given = all.into_iter();
    Told::Table(
        given
            .filter_map(|(key, text)| Some((key, Value::Text(text?))))
            .collect(),
    )
}

/// The part of a configuration file that has these defaults and profiles; empty where there are none.
#[must_use]
pub fn written(profiles: &Profiles) -> String {
    let lines = |settings: &TaskSettings| -> String {
        let lines = told(settings).into_iter();
        lines
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    };
    let mut text = String::new();
    if profiles.defaults != TaskSettings::default() {
        text.push_str("\n[task_defaults]\n");
        text.push_str(&lines(&profiles.defaults));
    }
    for profile in &profiles.profiles {
        let name = Value::Text(profile.name.clone());
        let which = matching(&profile.matching);
        text.push_str(&format!("\n[[profile]]\nname = {name}\nmatch = {which}\n"));
        text.push_str(&lines(&profile.settings));
    }
    text
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(value) => value.fmt(f),
            Self::Table(row) => table(row, f),
            Self::Tables(rows) => {
                f.write_str("[")?;
                for (at, row) in rows.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    table(row, f)?;
                }
                f.write_str("]")
            }
        }
    }
}

fn table(row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, (key, value)) in row.iter().enumerate() {
        f.write_str(if at == 0 { "{ " } else { ", " })?;
        write!(f, "{key} = {value}")?;
    }
    f.write_str(if row.is_empty() { "{}" } else { " }" })
}

/// The part of the sample file that is about profiles.
pub(super) const SAMPLE: &str = r#"
# (reload) What every task gets beside what its master asks for. Lists are taken whole from the first place that has one: the
# profile, else here; variables are taken one by one.
#[task_defaults]
#environment = { TZ = "UTC" }

# (reload) What some tasks get: the first profile whose `match` fits wins over [task_defaults], setting by setting. All that a
# `match` gives must fit; `*` stands for any text, and an image is matched in its full form. Any number of these may follow.
# `worker-node profiles test --image IMAGE` shows what a task would get.
#[[profile]]
#name = "training"
#match = { image = "*/train*", task_type = "train", user = "alice", task_name = "nightly-*" }
#environment = { MODE = "fast", TOKEN = { file = "/etc/worker-node/token" } }
#volumes = [
#  { volume = "cache", target = "/cache" },
#  { bind = "/data/sets", target = "/data", read_only = true },
#  { tmpfs = "64MiB", target = "/scratch" },
#]
#network = "none"
#ports = ["127.0.0.1:8080:80/tcp"]
#workdir = "/work"
#user = "1000:1000"
#hostname = "trainer"
#extra_hosts = ["registry:10.0.0.5"]
#timeout = "2h"
#stop_signal = "SIGINT"
#stop_grace = "30s"
#shm_size = "1GiB"
#ulimits = ["nofile=4096:65536"]
#runtime = "runc"
#read_only_root = false
#cap_add = ["SYS_PTRACE"]
#cap_drop = ["CHOWN"]
#entrypoint = "keep"
"#;
