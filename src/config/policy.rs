//! Writes a policy as the configuration file has it, every key with its value; reading it back gives the same policy. And lists the
//! worker's own places, which no task may bind.

use std::path::{Path, PathBuf, absolute};

use super::{
    Config, EngineAddress,
    amount::{Bytes, Time},
    written::Value,
};
use crate::domain::{
    policy::Policy,
    privileges::Capability,
    profile::{Profiles, TextPattern},
    task_settings::Variable,
};

/// The policy's keys in the file's order, each with its value.
#[must_use]
pub fn told(policy: &Policy) -> [(&'static str, Value); 11] {
    let words = |words: Vec<&str>| {
        let words = words.into_iter();
        Value::List(words.map(str::to_owned).collect())
    };
    let volumes = policy.named_volumes.iter().map(TextPattern::text);
    let ports = policy.ports.iter().map(ToString::to_string);
    let capabilities = policy.capabilities.iter().map(Capability::name);
    let time = |time| Value::Text(Time(time).to_string());
    [
        ("environment", Value::Switch(policy.environment)),
        ("networks", words(policy.networks())),
        ("allowed_roots", Value::List(policy.allowed_roots.clone())),
        ("named_volumes", words(volumes.collect())),
        ("ports", Value::List(ports.collect())),
        ("users", Value::Text(policy.users.word().into())),
        ("capabilities", words(capabilities.collect())),
        ("ulimits", Value::List(policy.ulimits.clone())),
        ("max_timeout", time(policy.max_timeout)),
        ("max_stop_grace", time(policy.max_stop_grace)),
        ("max_shm", Value::Text(Bytes(policy.max_shm).to_string())),
    ]
}

/// The section `[policy]` of a configuration file with every key of this policy.
#[must_use]
pub fn written(policy: &Policy) -> String {
    let lines = told(policy).into_iter();
    let lines = lines.map(|(name, value)| format!("{name} = {value}\n"));
    std::iter::once("\n[policy]\n".to_owned())
        .chain(lines)
        .collect()
}

impl Config {
    /// The places that no task may ask to bind: the state folder, the configuration file and the files that it names, and the
    /// engine's socket; absolute paths.
    pub(super) fn own_places(&self, file: Option<&Path>) -> Vec<String> {
        let door = &self.cluster.door;
        let identity = door.identity.iter();
        let identity = identity.flat_map(|(certificate, key)| [certificate, key]);
        let token = door.token.as_ref().map(|token| &token.file);
        let socket = match &self.tasks.engine {
            EngineAddress::Unix(socket) => Some(socket),
            EngineAddress::Tcp(_) => None,
        };
        let of_worker = [&self.state.folder].into_iter();
        let of_worker = of_worker.chain(identity).chain(&door.authorities);
        let all = of_worker.chain(token).chain(socket).map(PathBuf::as_path);
        let all = all.chain(file).chain(files_of(&self.tasks.profiles));
        let all = all.map(|path| absolute(path).unwrap_or_else(|_| path.to_owned()));
        all.map(|path| path.to_string_lossy().into_owned())
            .collect()
    }
}

/// The files that variables of these profiles have their values from.
fn files_of(profiles: &Profiles) -> impl Iterator<Item = &Path> {
    let own = profiles.profiles.iter().map(|profile| &profile.settings);
    let variables = own.chain([&profiles.defaults]);
    let variables = variables.flat_map(|settings| settings.environment.values());
    variables.filter_map(|variable| match variable {
        Variable::File(path) => Some(path.as_path()),
        Variable::Text(_) | Variable::Lost => None,
    })
}

/// The part of the sample file that is about the policy.
pub(super) const SAMPLE: &str = r#"
[policy]
# (reload) What tasks may ask for themselves, in the settings of a Task message. What profiles give them is not judged. A task
# that asks for more fails with the reason. Whatever stands here, none gets the engine's socket, /proc, /sys, /dev, the worker's
# own files, or another container's network.
# Variables.
#environment = true
# Networks; without a word the one of `network` in [tasks], and none.
#networks = ["none", "bridge"]
# Folders of this machine in which binds may lie. No link beneath them is followed, but whoever can write in one can put a link
# in the way of another task's start: name those that tasks only read, or that one user has alone.
#allowed_roots = []
# Volumes of the engine, by patterns of their names: `*` stands for any text, `?` for one character.
#named_volumes = []
# Ports of this machine, such as "8080" or "8000-8999"; "0" is one that the engine chooses.
#ports = []
# Who a task may choose to run as: "image" (nobody but whom its image says), "unprivileged" (USER:GROUP as numbers, but not 0),
# or "any".
#users = "unprivileged"
# Capabilities beside those that every task has, such as "SYS_PTRACE".
#capabilities = []
# Limits of processes, by their names.
#ulimits = ["nofile"]
# How long a task may ask to run, and to have for its end.
#max_timeout = "365d"
#max_stop_grace = "1m"
# The size of /dev/shm, and of each tmpfs. They count as the task's memory.
#max_shm = "1TiB"
"#;
