//! What the processes of a task may do beyond their own files and memory: capabilities, whether a program may have more of them
//! than the process that starts it, and limits per process. The operator sets them for every task; a profile may add and drop
//! capabilities.

use std::fmt;

/// Every capability, in the engine's words.
const ALL: &str = "ALL";

/// What the engine itself gives and tasks do without: raw sockets, by which one container poses as another on their network, and
/// device nodes. `ping` needs neither, since engines open its own kind of socket to everybody.
const NOT_GIVEN: [&str; 2] = ["NET_RAW", "MKNOD"];

/// Capabilities that package managers, `su`-like entrypoints and small servers need.
const RESTRICTED: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "AUDIT_WRITE",
];

/// The set of privileges that an operator starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The engine's own capabilities, less those that no task needs: images run as they do elsewhere.
    Default,
    /// A short list, and no program has more than the process that starts it: `sudo` and file capabilities do nothing.
    Restricted,
}

/// The capabilities that are taken and given, in the engine's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// Capabilities that are taken of those that the engine gives; `ALL` for every one.
    pub dropped: Vec<String>,
    /// Capabilities that are given after that.
    pub added: Vec<String>,
    /// Whether no program has more than the process that starts it, whatever its file says.
    pub no_new: bool,
}

impl Privileges {
    /// A base with the capabilities of `add` given and those of `drop` taken; none is in both lists.
    #[must_use]
    pub fn new(base: Base, add: &[Capability], drop: &[Capability]) -> Self {
        let (dropped, added): (&[&str], &[&str]) = match base {
            Base::Default => (&NOT_GIVEN, &[]),
            Base::Restricted => (&[ALL], &RESTRICTED),
        };
        Self {
            dropped: with_less(dropped, drop, add),
            added: with_less(added, add, drop),
            no_new: base == Base::Restricted,
        }
    }
}

impl Privileges {
    /// These privileges with the capabilities of `add` given and those of `drop` taken; one that is in both is given.
    #[must_use]
    pub fn with(&self, add: &[Capability], drop: &[Capability]) -> Self {
        let drop: Vec<_> = drop
            .iter()
            .filter(|drop| !add.contains(drop))
            .cloned()
            .collect();
        fn names(list: &[String]) -> Vec<&str> {
            list.iter().map(String::as_str).collect()
        }
        Self {
            dropped: with_less(&names(&self.dropped), &drop, add),
            added: with_less(&names(&self.added), add, &drop),
            no_new: self.no_new,
        }
    }
}

impl Default for Privileges {
    fn default() -> Self {
        Self::new(Base::Default, &[], &[])
    }
}

/// The names with `more` behind them and without `less`; `ALL` in `less` removes every name but `ALL`.
fn with_less(names: &[&str], more: &[Capability], less: &[Capability]) -> Vec<String> {
    let is_less =
        |name: &str| name != ALL && less.iter().any(|less| less.0 == ALL || less.0 == name);
    let kept = names.iter().filter(|name| !is_less(name));
    let mut all: Vec<String> = kept.map(|name| (*name).to_owned()).collect();
    for Capability(name) in more {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// A capability by its name without `CAP_`, or `ALL`. Which ones there are is the engine's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability(String);

impl Capability {
    /// Whether it stands for every one.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == ALL
    }

    /// The name, without `CAP_`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Reads what an operator wrote, in either form and case.
    ///
    /// # Errors
    /// The text can be no capability; the error says what to write.
    pub fn read(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let is_letter =
            |byte: u8| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit();
        if name.is_empty() || !name.bytes().all(is_letter) {
            return Err("is no capability; give a name such as NET_RAW, or ALL".into());
        }
        Ok(Self(name.to_owned()))
    }
}

/// A limit of each process of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The engine's word for the limit, such as `nofile`.
    pub name: String,
    /// The limit that holds, in its own unit; -1 for none.
    pub soft: i64,
    /// The limit up to which a process may raise `soft` itself.
    pub hard: i64,
}

impl Ulimit {
    /// No core dumps: they would fill the engine's disk.
    #[must_use]
    pub fn no_core() -> Self {
        Self {
            name: "core".into(),
            soft: 0,
            hard: 0,
        }
    }

    /// Reads `NAME=SOFT[:HARD]`; without the second figure both are the first.
    ///
    /// # Errors
    /// The text is no limit; the error says what to write.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| {
            "is no limit; write NAME=SOFT or NAME=SOFT:HARD, such as nofile=4096:65536, with -1 for no limit".into()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, figures) = text.split_once('=')?;
        let (soft, hard) = figures.split_once(':').unwrap_or((figures, figures));
        let figure = |text: &str| text.parse::<i64>().ok().filter(|figure| *figure >= -1);
        let (soft, hard) = (figure(soft)?, figure(hard)?);
        let is_within = hard == -1 || (0..=hard).contains(&soft);
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        (is_name && is_within).then(|| Self {
            name: name.to_owned(),
            soft,
            hard,
        })
    }
}

/// As it is read.
impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(base: Base, add: &[&str], drop: &[&str]) -> Privileges {
        let read = |names: &[&str]| -> Vec<_> {
            let names = names.iter();
            names.map(|name| Capability::read(name).unwrap()).collect()
        };
        Privileges::new(base, &read(add), &read(drop))
    }

    #[test]
    fn by_default_only_what_nobodys_task_needs_is_taken() {
        let privileges = Privileges::default();

        assert_eq!(privileges.dropped, ["NET_RAW", "MKNOD"]);
        assert!(privileges.added.is_empty() && !privileges.no_new);
    }

    #[test]
    fn what_an_operator_gives_is_not_taken_and_the_other_way_round() {
        let default = made(Base::Default, &["cap_net_raw", "SYS_PTRACE"], &["CHOWN"]);
        assert_eq!(default.dropped, ["MKNOD", "CHOWN"]);
        assert_eq!(default.added, ["NET_RAW", "SYS_PTRACE"]);

        let restricted = made(Base::Restricted, &["NET_RAW", "KILL"], &["CHOWN"]);
        assert_eq!(restricted.dropped, ["ALL", "CHOWN"]);
        assert!(restricted.no_new);
        let has = |name: &str| {
            restricted
                .added
                .iter()
                .filter(|added| *added == name)
                .count()
        };
        assert_eq!((has("NET_RAW"), has("KILL"), has("CHOWN")), (1, 1, 0));
    }

    #[test]
    fn all_of_them_can_be_given_and_taken() {
        let none = made(Base::Restricted, &["CHOWN"], &["all"]);
        assert_eq!(
            (none.dropped, none.added),
            (words(&["ALL"]), words(&["CHOWN"]))
        );

        let every = made(Base::Default, &["ALL"], &[]);
        assert_eq!((every.dropped, every.added), (words(&[]), words(&["ALL"])));
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_capability_is_a_word() {
        for bad in ["", "CAP_", "NET RAW", "NET-RAW", "a=b"] {
            assert!(Capability::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_has_a_name_and_one_or_two_figures() {
        let limit = |name: &str, soft, hard| Ulimit {
            name: name.into(),
            soft,
            hard,
        };
        assert_eq!(
            Ulimit::read("nofile=1024"),
            Ok(limit("nofile", 1_024, 1_024))
        );
        assert_eq!(Ulimit::read("core=0:-1"), Ok(limit("core", 0, -1)));
        assert_eq!(Ulimit::read("memlock=-1"), Ok(limit("memlock", -1, -1)));
        for bad in [
            "",
            "nofile",
            "nofile=",
            "=1",
            "nofile=x",
            "nofile=2:1",
            "nofile=-1:1",
            "nofile=-2",
            "nofile=1:2:3",
            "NOFILE=1",
        ] {
            let complaint = Ulimit::read(bad).unwrap_err();
            assert!(complaint.contains("nofile=4096:65536"), "{bad}");
        }
    }
}
