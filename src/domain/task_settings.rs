//! What a task can get beside image, command and amounts: environment, volumes, network, who it is, how long it may run and how it is
//! ended. An operator says it by profiles, a master by its own message. Values alone; which task gets which is `profile`'s question,
//! and what a master may ask for `policy`'s.

pub mod reading;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use super::privileges::{Capability, Ulimit};

/// Settings of a task; what is `None`, or not in the table, is not said here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// Variables by their names.
    pub environment: BTreeMap<String, Variable>,
    /// What it sees of other places; no two at one place.
    pub volumes: Option<Vec<Volume>>,
    /// The engine's name of its network: `none`, `bridge`, `host`, or one that was made.
    pub network: Option<String>,
    /// Ports of it that the machine answers at.
    pub ports: Option<Vec<Port>>,
    /// Where its command begins; absolute.
    pub workdir: Option<String>,
    /// Who it runs as: a name or a number, and a group behind a colon.
    pub user: Option<String>,
    /// The name that it has for itself.
    pub hostname: Option<String>,
    /// Names beside those that its network knows, each with its address: `name:address`.
    pub extra_hosts: Option<Vec<String>>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// From asking it to end to making it end.
    pub stop_grace: Option<Duration>,
    /// Size of `/dev/shm`, in bytes.
    pub shm_size: Option<u64>,
    /// Limits of each of its processes; no two of one name.
    pub ulimits: Option<Vec<Ulimit>>,
    /// The engine's name of the program that runs it.
    pub runtime: Option<String>,
    /// Its own file system cannot be written.
    pub read_only_root: Option<bool>,
    /// Capabilities beside those that every task has.
    pub cap_add: Option<Vec<Capability>>,
    /// Capabilities that it has not.
    pub cap_drop: Option<Vec<Capability>>,
    /// What becomes of the program that its image begins with.
    pub entrypoint: Option<Entrypoint>,
}

/// Where the value of a variable is from.
#[derive(Clone, PartialEq, Eq)]
pub enum Variable {
    /// This text.
    Text(String),
    /// It is what is in this file when the container is made.
    File(PathBuf),
    /// It is not known any more: the task was read back from its container's labels, where no value stands.
    Lost,
}

/// A value may be a secret: it stands in no log.
impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

/// Something that a task sees at a place of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What.
    pub source: Source,
    /// Where; absolute.
    pub target: String,
    /// It cannot be written there.
    pub read_only: bool,
}

/// What a task sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume of the engine, made where there is none of that name. It stays.
    Named(String),
    /// A file or folder of the engine's machine; absolute. It must be there.
    Bind(String),
    /// Memory, of that many bytes at most. It counts as the task's, and goes with it.
    Memory(u64),
}

/// A port of a task that the machine answers at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The machine's address; `None`: each.
    pub address: Option<std::net::IpAddr>,
    /// The machine's port; 0: the engine chooses one.
    pub machine: u16,
    /// The task's.
    pub task: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

/// What becomes of an image's entrypoint where a task has a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrypoint {
    /// The command runs in its place.
    Replace,
    /// It is begun, and the command is its arguments.
    Keep,
}

/// What of a task's settings counts after its container was made, and so stands in the container's labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long it may run; `None`: for ever.
    pub timeout: Option<Duration>,
    /// From asking it to end to making it end; `None`: as every task.
    pub stop_grace: Option<Duration>,
}

impl TaskSettings {
    /// These where they say something, else those below. Lists are taken whole; variables are taken one by one.
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

    /// The same for what a task asks for itself: what was to be taken from it below is taken in any case.
    #[must_use]
    pub fn asked_over(&self, below: &Self) -> Self {
        let mut both = self.over(below);
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

    /// The same, without what variables are set to: that may be secret.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        for variable in self.environment.values_mut() {
            if let Variable::Text(text) = variable {
                *text = "(left out)".into();
            }
        }
        self
    }

    /// The capability that is in both lists, if one is.
    #[must_use]
    pub fn added_and_dropped(&self) -> Option<&Capability> {
        let dropped = self.cap_drop.as_deref().unwrap_or_default();
        let mut added = self.cap_add.iter().flatten();
        added.find(|added| dropped.contains(added))
    }

    /// What of them counts after the container was made.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            timeout: self.timeout,
            stop_grace: self.stop_grace,
        }
    }
}

impl Entrypoint {
    /// The word that a configuration has for it.
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
    /// It is none: what to write.
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

/// Whether a path is absolute and is spelt in the one way that leads nowhere else.
#[must_use]
pub fn is_plain_path(path: &str) -> bool {
    let Some(parts) = path.strip_prefix('/') else {
        return false;
    };
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !path.contains(char::is_control) && (parts.is_empty() || parts.split('/').all(is_plain))
}

/// Whether one path is the other, or leads to it.
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
