//! The policy: which settings a master may ask for in a task's own specification. The operator's policy wins over a master's wish.
//! By default a task may ask for what changes nothing outside of its own container. Settings of the operator's profiles are not
//! judged.
//!
//! Here the specification alone is judged. Where a bind's path really leads is checked when the container is made ([`BindRules`]).

use std::{fmt, time::Duration};

use super::{
    privileges::Capability,
    profile::TextPattern,
    task_settings::{Port, Source, TaskSettings, Variable, Volume, is_at_or_above, reading},
    text::escape,
};

/// The paths that no policy can let a task bind: the kernel's own files, and the sockets of container engines.
const NEVER: [&str; 9] = [
    "/proc",
    "/sys",
    "/dev",
    "/run/docker.sock",
    "/run/containerd",
    "/run/podman",
    "/var/run/docker.sock",
    "/var/run/containerd",
    "/var/run/podman",
];

/// The places in a container where no volume may be put: the engine fills them itself.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How much of an asked value is shown in a refusal, in bytes; the rest is cut.
const SHOWN: usize = 120;

/// What tasks may ask for. The default holds where the operator's file has no `[policy]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whether a task may set environment variables.
    pub environment: bool,
    /// The networks that a task may choose; `None`: `none` and the engine's `bridge`.
    pub networks: Option<Vec<String>>,
    /// The folders of the machine in which a task's binds may lie; absolute paths.
    pub allowed_roots: Vec<String>,
    /// Patterns of the engine's volumes that a task may mount: a volume's name must fit one of them.
    pub named_volumes: Vec<TextPattern>,
    /// The ports of the machine that a task may publish its own ports at.
    pub ports: Vec<PortRange>,
    /// The users that a task may choose to run as.
    pub users: Users,
    /// The capabilities that a task may ask for beside those that every task has; `ALL` is never among them.
    pub capabilities: Vec<Capability>,
    /// The names of the ulimits that a task may set, such as `nofile`.
    pub ulimits: Vec<String>,
    /// The longest timeout that a task may ask for. A task that asks for no timeout is not held to it.
    pub max_timeout: Duration,
    /// The longest grace that a task may ask for between its stop signal and its kill.
    pub max_stop_grace: Duration,
    /// The largest `/dev/shm`, and the largest tmpfs, that a task may ask for, in bytes. Both count as the task's memory.
    pub max_shm: u64,
    /// The worker's own files and folders, which no task may ask to bind; absolute paths.
    pub own: Vec<String>,
}

/// Which users a task may choose to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// No other user than the one that the image names.
    Image,
    /// Any user and group but root, both as numbers: what a name stands for is decided by the image.
    Unprivileged,
    /// Every user, root included.
    Any,
}

/// A range of the machine's ports, from the first to the last, both included; port 0 stands for one that the engine chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Where the binds that a task asks for may lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BindRules {
    /// Folders: each bind must lie in one of them, with no symbolic link on the way from that folder; absolute paths.
    pub roots: Vec<String>,
    /// Places that no bind may lead to, nor into, nor above; absolute paths.
    pub never: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            environment: true,
            networks: None,
            allowed_roots: Vec::new(),
            named_volumes: Vec::new(),
            ports: Vec::new(),
            users: Users::Unprivileged,
            capabilities: Vec::new(),
            ulimits: vec!["nofile".into()],
            max_timeout: *reading::TIMEOUT.end(),
            max_stop_grace: Duration::from_secs(60),
            max_shm: *reading::MEMORY.end(),
            own: Vec::new(),
        }
    }
}

impl Users {
    /// Every choice of users.
    pub const ALL: [Self; 3] = [Self::Image, Self::Unprivileged, Self::Any];

    /// The word for this choice in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Unprivileged => "unprivileged",
            Self::Any => "any",
        }
    }

    /// Reads the word of a choice, as [`Self::word`] writes it.
    ///
    /// # Errors
    /// The text is none of the words; the error lists them.
    pub fn read(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.word() == text);
        found.ok_or_else(|| "is none of 'image', 'unprivileged' and 'any'".into())
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl PortRange {
    /// Reads `FIRST-LAST`, or one port.
    ///
    /// # Errors
    /// The text is no port and no range; the error says what to write instead.
    pub fn read(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse::<u16>().ok()).flatten()
        };
        let range = port(first)
            .zip(port(last))
            .map(|(first, last)| Self { first, last });
        range.filter(|range| range.first <= range.last).ok_or_else(|| {
            "are no ports; write one such as 8080, or a range such as 8000-8999; 0 is one that the engine chooses".into()
        })
    }

    fn has(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Reads the name of a network that tasks may ask for.
///
/// # Errors
/// The text is no network's name, or names another container's network, which no task may ask for.
pub fn read_network(text: &str) -> Result<String, String> {
    match text.contains(':') {
        true => Err("is another container's network, which no task may ask for".into()),
        false => reading::network(text),
    }
}

/// Reads a capability that tasks may ask for.
///
/// # Errors
/// The text is no capability's name, or it is `ALL`.
pub fn read_capability(text: &str) -> Result<Capability, String> {
    let capability = Capability::read(text)?;
    match capability.is_all() {
        true => Err("is every capability there is, which no task may ask for; name each".into()),
        false => Ok(capability),
    }
}

/// Reads a folder in which the binds of tasks may lie.
///
/// # Errors
/// The text is no absolute path, or the folder holds, or lies in, a place that no task may see.
pub fn read_root(text: &str) -> Result<String, String> {
    let path = reading::bind(text)?;
    let mut never = NEVER.into_iter();
    match never.find(|never| is_at_or_above(never, &path) || is_at_or_above(&path, never)) {
        Some(never) => Err(format!(
            "would show {never} to tasks, which no task may see"
        )),
        None => Ok(path),
    }
}

/// The refusal's text, which names the key of `[policy]` that refuses; `Ok` where the policy allows the wish.
type Judged = Result<(), String>;

impl Policy {
    /// Where the policy names no networks: lets tasks ask for `none`, and for the network that tasks get (`bridge` if `None`).
    #[must_use]
    pub fn where_tasks_get(mut self, network: Option<&str>) -> Self {
        let own = network.unwrap_or("bridge");
        // Only the operator can give a task another container's network (`container:NAME`).
        let own = (!own.contains(':')).then_some(own);
        let both = std::iter::once("none").chain(own.filter(|own| *own != "none"));
        self.networks
            .get_or_insert_with(|| both.map(str::to_owned).collect());
        self
    }

    /// This policy with the `own` places of the policy that it replaces: the worker uses its old files until it ends.
    #[must_use]
    pub fn in_place_of(mut self, before: &Self) -> Self {
        for own in &before.own {
            if !self.own.contains(own) {
                self.own.push(own.clone());
            }
        }
        self
    }

    /// The names of the networks that a task may ask for.
    #[must_use]
    pub fn networks(&self) -> Vec<&str> {
        match &self.networks {
            Some(networks) => networks.iter().map(String::as_str).collect(),
            None => vec!["none", "bridge"],
        }
    }

    /// Why the policy refuses the settings that a task asks for; `None`: it allows them. The text is the end of a sentence, and
    /// names the key that an operator would change.
    #[must_use]
    pub fn refusal(&self, asked: &TaskSettings) -> Option<String> {
        self.judge(asked).err()
    }

    /// The rules for the binds that a task asks for, checked again when its container is made.
    #[must_use]
    pub fn binds(&self) -> BindRules {
        BindRules {
            roots: self.allowed_roots.clone(),
            never: self.never().map(str::to_owned).collect(),
        }
    }

    fn never(&self) -> impl Iterator<Item = &str> {
        NEVER.into_iter().chain(self.own.iter().map(String::as_str))
    }

    fn judge(&self, asked: &TaskSettings) -> Judged {
        self.judge_environment(asked)?;
        for volume in asked.volumes.iter().flatten() {
            self.judge_volume(volume)?;
        }
        if let Some(network) = &asked.network {
            self.judge_network(network)?;
        }
        for port in asked.ports.iter().flatten() {
            self.judge_port(port)?;
        }
        if let Some(user) = &asked.user {
            self.judge_user(user)?;
        }
        self.judge_capabilities(asked)?;
        self.judge_ulimits(asked)?;
        self.judge_amounts(asked)?;
        match &asked.runtime {
            Some(runtime) => Err(never(
                "the runtime",
                runtime,
                "that is the operator's alone",
            )),
            None => Ok(()),
        }
    }

    fn judge_environment(&self, asked: &TaskSettings) -> Judged {
        for (name, variable) in &asked.environment {
            if matches!(variable, Variable::File(_)) {
                let why = "files of this machine are the operator's alone";
                return Err(never("a file's text as the variable", name, why));
            }
        }
        match asked.environment.keys().next() {
            Some(name) if !self.environment => {
                Err(refused("the variable", name, "environment", "false"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn judge_volume(&self, volume: &Volume) -> Judged {
        let target = &volume.target;
        let mut kernels = KERNELS.into_iter();
        if kernels.any(|kernels| is_at_or_above(kernels, target)) {
            let why = "the engine fills that place";
            return Err(never("a volume at", target, why));
        }
        match &volume.source {
            Source::Named(name) => {
                let patterns = &self.named_volumes;
                if patterns.iter().any(|pattern| pattern.fits(name)) {
                    return Ok(());
                }
                let patterns = listed(patterns.iter().map(TextPattern::text));
                Err(refused("the volume", name, "named_volumes", &patterns))
            }
            Source::Bind(path) => self.judge_bind(path),
            Source::Memory(bytes) => self.judge_memory(&format!("a tmpfs at {target} of"), *bytes),
        }
    }

    fn judge_bind(&self, path: &str) -> Judged {
        // These places come first: not even an allowed root opens them.
        let touches = |own: &&str| is_at_or_above(own, path) || is_at_or_above(path, own);
        if let Some(own) = self.never().find(touches) {
            let why = format!("that would show {own} to it");
            return Err(never("the bind", path, &why));
        }
        if self
            .allowed_roots
            .iter()
            .any(|root| is_at_or_above(root, path))
        {
            return Ok(());
        }
        let roots = listed(self.allowed_roots.iter().map(String::as_str));
        Err(refused("the bind", path, "allowed_roots", &roots))
    }

    fn judge_network(&self, network: &str) -> Judged {
        if network.contains(':') {
            let why = "another container's network is not its own";
            return Err(never("the network", network, why));
        }
        let networks = self.networks();
        match networks.contains(&network) {
            true => Ok(()),
            false => {
                let networks = listed(networks.into_iter());
                Err(refused("the network", network, "networks", &networks))
            }
        }
    }

    fn judge_port(&self, port: &Port) -> Judged {
        if self.ports.iter().any(|range| range.has(port.machine)) {
            return Ok(());
        }
        let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
        let ports = listed(ports.iter().map(String::as_str));
        Err(refused("the port", &port.to_string(), "ports", &ports))
    }

    fn judge_user(&self, user: &str) -> Judged {
        let is_fit = match self.users {
            Users::Image => false,
            Users::Unprivileged => is_unprivileged(user),
            Users::Any => true,
        };
        let word = match self.users {
            Users::Unprivileged => "unprivileged: as numbers, USER:GROUP, and neither is 0",
            other @ (Users::Image | Users::Any) => other.word(),
        };
        match is_fit {
            true => Ok(()),
            false => Err(refused("the user", user, "users", word)),
        }
    }

    fn judge_capabilities(&self, asked: &TaskSettings) -> Judged {
        for capability in asked.cap_add.iter().flatten() {
            if capability.is_all() {
                let why = "that is every capability there is";
                return Err(never("the capability", capability.name(), why));
            }
            if !self.capabilities.contains(capability) {
                let all = listed(self.capabilities.iter().map(Capability::name));
                let name = capability.name();
                return Err(refused("the capability", name, "capabilities", &all));
            }
        }
        Ok(())
    }

    fn judge_ulimits(&self, asked: &TaskSettings) -> Judged {
        let mut limits = asked.ulimits.iter().flatten();
        match limits.find(|limit| !self.ulimits.contains(&limit.name)) {
            Some(limit) => {
                let all = listed(self.ulimits.iter().map(String::as_str));
                Err(refused("the limit", &limit.to_string(), "ulimits", &all))
            }
            None => Ok(()),
        }
    }

    fn judge_amounts(&self, asked: &TaskSettings) -> Judged {
        for (what, key, time, most) in [
            (
                "a timeout of",
                "max_timeout",
                asked.timeout,
                self.max_timeout,
            ),
            (
                "a grace of",
                "max_stop_grace",
                asked.stop_grace,
                self.max_stop_grace,
            ),
        ] {
            if let Some(time) = time.filter(|time| *time > most) {
                return Err(refused(what, &seconds(time), key, &seconds(most)));
            }
        }
        match asked.shm_size {
            Some(bytes) => self.judge_memory("a /dev/shm of", bytes),
            None => Ok(()),
        }
    }

    fn judge_memory(&self, what: &str, bytes: u64) -> Judged {
        match bytes > self.max_shm {
            true => {
                let (bytes, most) = (format!("{bytes} bytes"), format!("{} bytes", self.max_shm));
                Err(refused(what, &bytes, "max_shm", &most))
            }
            false => Ok(()),
        }
    }
}

/// Whether a user is `USER:GROUP` in numbers other than 0. Without a group the task would get the image's group, or root's.
fn is_unprivileged(user: &str) -> bool {
    // The engine takes ids below 2^31.
    let is_one = |text: &str| {
        let number = text.parse::<u32>();
        number.is_ok_and(|number| (1..1 << 31).contains(&number))
    };
    let parts = user.split_once(':');
    parts.is_some_and(|(user, group)| is_one(user) && is_one(group))
}

fn refused(what: &str, asked: &str, key: &str, allowed: &str) -> String {
    let asked = escape(asked, SHOWN);
    format!(
        "it asks for {what} {asked}, which this worker does not allow: {key} in [policy] is {allowed}"
    )
}

fn never(what: &str, asked: &str, why: &str) -> String {
    let asked = escape(asked, SHOWN);
    format!("it asks for {what} {asked}, which no [policy] can allow: {why}")
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.collect();
    match words.is_empty() {
        true => "empty".into(),
        false => words.join(", "),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests;
