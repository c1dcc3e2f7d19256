//! The settings of a task beside its image, command and amounts: environment, volumes, network, user, timeout, stop signal, ...
//! An operator gives them by profiles, a master asks for them in its own message. Here are the values alone; which task gets which
//! is decided in `profile`, and what a master may ask for in `policy`.

pub mod reading;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use super::privileges::{Capability, Ulimit};

/// Settings of a task. A setting that is `None`, and a variable that is not in the table, is left to whoever else may set it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// Environment variables by their names.
    pub environment: BTreeMap<String, Variable>,
    /// Volumes, binds and tmpfs mounted into the container; no two of them at one target.
    pub volumes: Option<Vec<Volume>>,
    /// The engine's name of the network that the container joins: `none`, `bridge`, `host`, or one that somebody made.
    pub network: Option<String>,
    /// The task's ports that are published at ports of the machine.
    pub ports: Option<Vec<Port>>,
    /// The folder in which the task's command begins; an absolute path.
    pub workdir: Option<String>,
    /// The user that the task runs as: a name or number, with an optional group behind a colon.
    pub user: Option<String>,
    /// The container's host name.
    pub hostname: Option<String>,
    /// Additional lines of the container's `/etc/hosts`, each as `name:address`.
    pub extra_hosts: Option<Vec<String>>,
    /// How long the task may run; then it is stopped, and has failed.
    pub timeout: Option<Duration>,
    /// The signal that asks the task to end, such as `SIGTERM`.
    pub stop_signal: Option<String>,
    /// How long a task may take to end by itself after its stop signal; then it is killed.
    pub stop_grace: Option<Duration>,
    /// Size of `/dev/shm`, in bytes.
    pub shm_size: Option<u64>,
    /// Ulimits, which hold for each of the task's processes; no two of one name.
    pub ulimits: Option<Vec<Ulimit>>,
    /// The engine's name of the OCI runtime that runs the container, such as `runc`.
    pub runtime: Option<String>,
    /// Whether the container's own file system is mounted read-only.
    pub read_only_root: Option<bool>,
    /// Capabilities beside those that every task has.
    pub cap_add: Option<Vec<Capability>>,
    /// Capabilities that the task loses, of those that every task has.
    pub cap_drop: Option<Vec<Capability>>,
    /// What becomes of the image's entrypoint.
    pub entrypoint: Option<Entrypoint>,
}

/// The source of a variable's value.
#[derive(Clone, PartialEq, Eq)]
pub enum Variable {
    /// The value is this text.
    Text(String),
    /// The value is this file's text, read when the container is made.
    File(PathBuf),
    /// The value is not known any more: the task was read back from its container's labels, which hold no values.
    Lost,
}

/// Leaves the value out: it may be a secret, and the text may go to a log.
impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

/// A mount of a task: what it is, and where in the container it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What is mounted.
    pub source: Source,
    /// Where in the container; an absolute path.
    pub target: String,
    /// Whether the task can only read there.
    pub read_only: bool,
}

/// What is mounted into a task's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume of the engine by its name. The engine makes it where it has none; it is never removed by the worker.
    Named(String),
    /// A file or folder of the engine's machine by its absolute path. Where it is missing, the container cannot be made.
    Bind(String),
    /// A tmpfs of at most this many bytes. What lies there counts as the task's memory, and is gone with the container.
    Memory(u64),
}

/// A port of a task that is published at a port of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The machine's address to publish at; `None`: all of its addresses.
    pub address: Option<std::net::IpAddr>,
    /// The machine's port; 0: the engine chooses a free one.
    pub machine: u16,
    /// The port within the container.
    pub task: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

/// What becomes of an image's entrypoint where a task has a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrypoint {
    /// The command runs instead of the entrypoint.
    Replace,
    /// The entrypoint runs, and the command is its arguments.
    Keep,
}

/// The settings that still count after the container was made, and so are kept in its labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long the task may run; `None`: without end.
    pub timeout: Option<Duration>,
    /// How long the task may take to end after its stop signal, before it is killed; `None`: the worker's `--stop-grace`.
    pub stop_grace: Option<Duration>,
}

impl TaskSettings {
    /// These settings where they are set, else those of `below`. Lists are taken whole, variables one by one.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        fn either<T: Clone>(one: &Option<T>, other: &Option<T>) -> Option<T> {
            one.as_ref().or(other.as_ref()).cloned()
        }
        let mut environment = below.environment.clone();
        environment.extend(self.environment.clone());
        Self {
            environment,
            volumes: either(&self.volumes, &below.volumes),
            network: either(&self.network, &below.network),
            ports: either(&self.ports, &below.ports),
            workdir: either(&self.workdir, &below.workdir),
            user: either(&self.user, &below.user),
            hostname: either(&self.hostname, &below.hostname),
            extra_hosts: either(&self.extra_hosts, &below.extra_hosts),
            timeout: either(&self.timeout, &below.timeout),
            stop_signal: either(&self.stop_signal, &below.stop_signal),
            stop_grace: either(&self.stop_grace, &below.stop_grace),
            shm_size: either(&self.shm_size, &below.shm_size),
            ulimits: either(&self.ulimits, &below.ulimits),
            runtime: either(&self.runtime, &below.runtime),
            read_only_root: either(&self.read_only_root, &below.read_only_root),
            cap_add: either(&self.cap_add, &below.cap_add),
            cap_drop: either(&self.cap_drop, &below.cap_drop),
            entrypoint: either(&self.entrypoint, &below.entrypoint),
        }
    }

    /// The same for the settings that a task asks for itself, but with the capabilities that either drops: what the settings below
    /// drop, `ALL` for every one that they do not add, no task adds.
    #[must_use]
    pub fn asked_over(&self, below: &Self) -> Self {
        let mut both = self.over(below);
        let (added, drops) = (&below.cap_add, below.cap_drop.iter().flatten());
        let is_added = |capability: &Capability| added.iter().flatten().any(|it| it == capability);
        let is_dropped = |capability: &Capability| {
            let mut drops = drops.clone();
            drops.any(|drop| drop.is_all() || drop == capability) && !is_added(capability)
        };
        if let Some(add) = &mut both.cap_add {
            add.retain(|capability| !is_dropped(capability));
        }
        let dropped = [&self.cap_drop, &below.cap_drop].into_iter().flatten();
        let mut all: Vec<Capability> = Vec::new();
        for capability in dropped.flatten() {
            if !all.contains(capability) {
                all.push(capability.clone());
            }
        }
        both.cap_drop = both.cap_drop.map(|_| all);
        both
    }

    /// The same settings without the text of variables, which may be secret. Paths of files are kept.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        for variable in self.environment.values_mut() {
            if let Variable::Text(text) = variable {
                *text = "(left out)".into();
            }
        }
        self
    }

    /// A capability that is both added and dropped, if there is one.
    #[must_use]
    pub fn added_and_dropped(&self) -> Option<&Capability> {
        let dropped = self.cap_drop.as_deref().unwrap_or_default();
        let mut added = self.cap_add.iter().flatten();
        added.find(|added| dropped.contains(added))
    }

    /// The settings that still count after the container was made.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            timeout: self.timeout,
            stop_grace: self.stop_grace,
        }
    }
}

impl Entrypoint {
    /// The word for this choice in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Keep => "keep",
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(std::net::IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(std::net::IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.machine, self.task, self.protocol)
    }
}

impl Port {
    /// Reads `[ADDRESS:]PORT:PORT[/PROTOCOL]`, the machine's port first, as the engine's own command does.
    ///
    /// # Errors
    /// The text is no port; the error says what to write instead.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| {
            "is no port; write MACHINE:TASK or ADDRESS:MACHINE:TASK, such as 127.0.0.1:8080:80, and /udp behind it where it is not TCP"
                .into()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = ["tcp", "udp", "sctp"]
            .into_iter()
            .find(|known| *known == protocol)?;
        let (machine, task) = ports.rsplit_once(':')?;
        let (address, machine) = match machine.rsplit_once(':') {
            Some((address, machine)) => (Some(address), machine),
            None => (None, machine),
        };
        let bare = |text: &str| text.strip_prefix('[')?.strip_suffix(']').map(str::to_owned);
        let address = match address {
            Some(address) => Some(bare(address).unwrap_or(address.into()).parse().ok()?),
            None => None,
        };
        Some(Self {
            address,
            machine: machine.parse().ok()?,
            task: task.parse().ok().filter(|port| *port > 0)?,
            protocol,
        })
    }
}

/// Whether a path is absolute and plain: no `.`, `..`, doubled or trailing slash, and no control character.
#[must_use]
pub fn is_plain_path(path: &str) -> bool {
    let Some(parts) = path.strip_prefix('/') else {
        return false;
    };
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !path.contains(char::is_control) && (parts.is_empty() || parts.split('/').all(is_plain))
}

/// Whether `above` is `path` itself, or a folder above it. Both must be plain paths.
#[must_use]
pub fn is_at_or_above(above: &str, path: &str) -> bool {
    let rest = path.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_written_as_the_engines_own_command_takes_it() {
        for (text, shown) in [
            ("8080:80", "8080:80/tcp"),
            ("0:53/udp", "0:53/udp"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1:8080:80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
        ] {
            let port = Port::read(text).unwrap();
            assert_eq!(port.to_string(), shown);
            assert_eq!(Port::read(shown).unwrap(), port);
        }
        for bad in ["", "80", "x:80", "1:0", "1:70000", "host:1:2", "1:2/icmp"] {
            assert!(Port::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_profile_drops_a_task_does_not_add() {
        let read = |names: &[&str]| -> Option<Vec<Capability>> {
            let names = names.iter();
            Some(names.map(|name| Capability::read(name).unwrap()).collect())
        };
        let settings = |add: &[&str], drop: &[&str]| TaskSettings {
            cap_add: read(add),
            cap_drop: read(drop),
            ..TaskSettings::default()
        };
        let asked = settings(&["SYS_PTRACE", "NET_RAW"], &["KILL"]);

        let both = asked.asked_over(&settings(&[], &["SYS_PTRACE"]));
        assert_eq!(both.cap_add, read(&["NET_RAW"]));
        assert_eq!(both.cap_drop, read(&["KILL", "SYS_PTRACE"]));
        let both = asked.asked_over(&settings(&["NET_RAW"], &["ALL"]));
        assert_eq!(both.cap_add, read(&["NET_RAW"]), "the profile adds it, too");
        let both = asked.asked_over(&TaskSettings::default());
        assert_eq!(both.cap_add, asked.cap_add);
    }

    #[test]
    fn a_path_that_is_spelt_in_a_roundabout_way_is_not_plain() {
        for plain in ["/", "/a", "/a/b.c", "/a/..b"] {
            assert!(is_plain_path(plain), "{plain}");
        }
        for other in ["", "a", "//", "/a/", "/a//b", "/a/../b", "/./a", "/a\n"] {
            assert!(!is_plain_path(other), "{other:?}");
        }
    }

    #[test]
    fn a_folder_is_above_what_lies_in_it_and_not_above_its_namesakes() {
        for (above, path, is) in [
            ("/", "/run/docker.sock", true),
            ("/run", "/run/docker.sock", true),
            ("/run", "/run", true),
            ("/run", "/runs", false),
            ("/run/x", "/run", false),
        ] {
            assert_eq!(is_at_or_above(above, path), is, "{above} {path}");
        }
    }

    #[test]
    fn a_value_is_not_told_by_accident() {
        let secret = Variable::Text("hunter2".into());

        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
