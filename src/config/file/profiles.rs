//! Reads the sections `[task_defaults]` and `[[profile]]` of the settings that tasks get, each setting by itself, so that every
//! fault is told with its line and its profile. Pure: whether a volume or a file exists shows only when a container is made.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    super::amount::{Range, read_size, read_time},
    taking::{Taking, article, nearest, shown},
};
use crate::domain::{
    image_rules::Pattern,
    privileges::{Capability, Ulimit},
    profile::{Matching, Profile, TextPattern},
    task_settings::{
        Port, Source, TaskSettings, Variable, Volume,
        reading::{self, LONGEST, LONGEST_VALUE, STOP_GRACE, TIMEOUT},
    },
};

/// The section of the settings that every task gets.
pub(super) const DEFAULTS: &str = "task_defaults";

/// The section of one profile; it may be there any number of times.
pub(super) const PROFILE: &str = "profile";

/// The most profiles that a file may have; more are a mistake.
const MOST_PROFILES: usize = 64;

/// The most entries that one list or table of a setting may have; more are a mistake.
const MOST_ENTRIES: usize = 128;

/// The keys of the settings.
const SETTINGS: [&str; 18] = [
    "environment",
    "volumes",
    "network",
    "ports",
    "workdir",
    "user",
    "hostname",
    "extra_hosts",
    "timeout",
    "stop_signal",
    "stop_grace",
    "shm_size",
    "ulimits",
    "runtime",
    "read_only_root",
    "cap_add",
    "cap_drop",
    "entrypoint",
];

const MATCHES: [&str; 4] = ["image", "task_type", "user", "task_name"];

pub(super) type Read<T> = Result<T, String>;

impl Taking<'_> {
    pub(super) fn defaults(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                self.profiles.defaults = self.settings("[task_defaults]", table, &[]);
            }
            _ => self.fault(
                value.span().start,
                "`task_defaults` is a section; write [task_defaults] on a line of its own".into(),
            ),
        }
    }

    pub(super) fn profiles(&mut self, at: usize, value: &Spanned<DeValue<'_>>) {
        let DeValue::Array(tables) = value.get_ref() else {
            let complaint = "write [[profile]], with two brackets, for each profile";
            return self.fault(at, complaint.into());
        };
        if tables.len() > MOST_PROFILES {
            let complaint = format!("{} profiles; give at most {MOST_PROFILES}", tables.len());
            return self.fault(at, complaint);
        }
        for value in tables {
            match value.get_ref() {
                DeValue::Table(table) => self.profile(value.span().start, table),
                _ => self.fault(value.span().start, "a profile is a table".into()),
            }
        }
    }

    fn profile(&mut self, at: usize, table: &DeTable<'_>) {
        let given = |wanted: &str| {
            let mut rows = table.iter();
            rows.find(|(name, _)| name.get_ref().as_ref() == wanted)
                .map(|(_, value)| value)
        };
        let name = match given("name").map(|value| text(value.get_ref(), reading::name)) {
            Some(Ok(name)) => name,
            Some(Err(complaint)) => return self.fault(at, format!("a profile's name {complaint}")),
            None => return self.fault(at, "a profile has no name; give it one".into()),
        };
        let whose = format!("profile {name}");
        let mut known = self.profiles.profiles.iter();
        if known.any(|other| other.name == name) {
            self.fault(at, format!("{whose}: another one has this name"));
        }
        let matching = match given("match") {
            Some(value) => self.matching(&whose, value),
            None => Matching::default(),
        };
        if matching.is_empty() && given("match").is_none_or(is_empty) {
            let complaint = "it has no `match`; say which tasks it is for, or write what it gives below [task_defaults]";
            self.fault(at, format!("{whose}: {complaint}"));
        }
        let settings = self.settings(&whose, table, &["name", "match"]);
        self.profiles.profiles.push(Profile {
            name,
            matching,
            settings,
        });
    }

    fn matching(&mut self, whose: &str, value: &Spanned<DeValue<'_>>) -> Matching {
        let mut matching = Matching::default();
        let DeValue::Table(table) = value.get_ref() else {
            let complaint = format!(
                "{whose}: match is a table, such as {{ task_type = \"train\" }}, not {}",
                kind(value.get_ref())
            );
            self.fault(value.span().start, complaint);
            return matching;
        };
        for (name, value) in table {
            let name_at = name.span().start;
            let name = name.get_ref().as_ref();
            let pattern = |own: &mut Option<TextPattern>| {
                let read = text(value.get_ref(), |text| Ok(TextPattern::new(text)));
                read.map(|read| *own = Some(read))
            };
            let read = match name {
                "image" => {
                    let read = text(value.get_ref(), Pattern::read);
                    read.map(|read| matching.image = Some(read))
                }
                "task_type" => pattern(&mut matching.task_type),
                "user" => pattern(&mut matching.user),
                "task_name" => pattern(&mut matching.task_name),
                _ => {
                    self.unknown(name_at, &format!("match of {whose}"), name, &MATCHES);
                    continue;
                }
            };
            if let Err(complaint) = read {
                self.fault(name_at, format!("{whose}: match: {name} {complaint}"));
            }
        }
        matching
    }

    fn settings(&mut self, whose: &str, table: &DeTable<'_>, beside: &[&str]) -> TaskSettings {
        let mut settings = TaskSettings::default();
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            if beside.contains(&name) {
                continue;
            }
            match set(&mut settings, name, value.get_ref()) {
                Some(Ok(())) => {}
                Some(Err(complaint)) => self.fault(at, format!("{whose}: {name} {complaint}")),
                None => self.unknown(at, whose, name, &SETTINGS),
            }
        }
        if let Some(both) = settings.added_and_dropped() {
            let both = both.name();
            let at = table.iter().find(|(name, _)| name.get_ref() == "cap_drop");
            let at = at.map_or(0, |(name, _)| name.span().start);
            let complaint = format!("{both} is in cap_add and in cap_drop; leave one away");
            self.fault(at, format!("{whose}: {complaint}"));
        }
        settings
    }

    pub(super) fn unknown(&mut self, at: usize, whose: &str, name: &str, known: &[&str]) {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known.join(", ")),
        };
        self.fault(
            at,
            format!("unknown key `{}` in {whose}: {hint}", shown(name)),
        );
    }
}

/// Reads one setting's value into the settings; `None`: no setting has this name.
fn set(to: &mut TaskSettings, name: &str, value: &DeValue<'_>) -> Option<Read<()>> {
    Some(match name {
        "environment" => environment(value).map(|read| to.environment = read),
        "volumes" => volumes(value).map(|read| to.volumes = Some(read)),
        "network" => text(value, reading::network).map(|read| to.network = Some(read)),
        "ports" => texts(value, Port::read).map(|read| to.ports = Some(read)),
        "workdir" => text(value, reading::path).map(|read| to.workdir = Some(read)),
        "user" => text(value, reading::user).map(|read| to.user = Some(read)),
        "hostname" => text(value, reading::host).map(|read| to.hostname = Some(read)),
        "extra_hosts" => texts(value, reading::extra_host).map(|read| to.extra_hosts = Some(read)),
        "timeout" => time(value, TIMEOUT).map(|read| to.timeout = Some(read)),
        "stop_signal" => text(value, reading::signal).map(|read| to.stop_signal = Some(read)),
        "stop_grace" => time(value, STOP_GRACE).map(|read| to.stop_grace = Some(read)),
        "shm_size" => size(value).map(|read| to.shm_size = Some(read)),
        "ulimits" => ulimits(value).map(|read| to.ulimits = Some(read)),
        "runtime" => text(value, reading::name).map(|read| to.runtime = Some(read)),
        "read_only_root" => switch(value).map(|read| to.read_only_root = Some(read)),
        "cap_add" => texts(value, Capability::read).map(|read| to.cap_add = Some(read)),
        "cap_drop" => texts(value, Capability::read).map(|read| to.cap_drop = Some(read)),
        "entrypoint" => text(value, reading::entrypoint).map(|read| to.entrypoint = Some(read)),
        _ => return None,
    })
}

fn environment(value: &DeValue<'_>) -> Read<BTreeMap<String, Variable>> {
    let DeValue::Table(table) = value else {
        return Err(not("a table, such as { TZ = \"UTC\" }", value));
    };
    few(table.len())?;
    let pairs = table.iter().map(|(name, value)| {
        let name = name.get_ref().as_ref();
        let of_it = |complaint| format!("{}: {complaint}", shown(name));
        let name = reading::variable_name(name).map_err(of_it)?;
        let variable = variable(value.get_ref());
        let variable = variable.map_err(|complaint| format!("{name}: {complaint}"))?;
        Ok((name, variable))
    });
    pairs.collect()
}

fn variable(value: &DeValue<'_>) -> Read<Variable> {
    match value {
        DeValue::String(text) => {
            let text = reading::bounded(text, LONGEST_VALUE)?;
            Ok(Variable::Text(text.to_owned()))
        }
        DeValue::Table(table) if table.len() == 1 && row(table, "file").is_some() => {
            let path = text(row(table, "file").unwrap_or(value), reading::path)?;
            Ok(Variable::File(path.into()))
        }
        _ => Err(not("a text or { file = \"/path\" }", value)),
    }
}

fn volumes(value: &DeValue<'_>) -> Read<Vec<Volume>> {
    let values = list(value)?.iter();
    let volumes: Read<Vec<_>> = values.map(|value| volume(value.get_ref())).collect();
    reading::volumes(volumes?)
}

fn volume(value: &DeValue<'_>) -> Read<Volume> {
    let DeValue::Table(table) = value else {
        let wanted = "a list of tables, such as { bind = \"/data\", target = \"/data\" }";
        return Err(not(wanted, value));
    };
    let known = ["volume", "bind", "tmpfs", "target", "read_only"];
    for (name, _) in table {
        let name = name.get_ref().as_ref();
        if !known.contains(&name) {
            let near = nearest(name, known.into_iter());
            let hint = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
            return Err(format!("knows no `{}`{hint}", shown(name)));
        }
    }
    let source = match (
        row(table, "volume"),
        row(table, "bind"),
        row(table, "tmpfs"),
    ) {
        (Some(name), None, None) => Source::Named(text(name, reading::name)?),
        (None, Some(path), None) => Source::Bind(text(path, reading::bind)?),
        (None, None, Some(most)) => Source::Memory(size(most)?),
        _ => return Err("needs one of volume, bind and tmpfs in each entry".into()),
    };
    let target = row(table, "target").ok_or("needs a target in each entry")?;
    let target = text(target, reading::target)?;
    let read_only = row(table, "read_only").map_or(Ok(false), switch)?;
    reading::volume(source, target, read_only)
}

fn ulimits(value: &DeValue<'_>) -> Read<Vec<Ulimit>> {
    reading::ulimits(texts(value, Ulimit::read)?)
}

fn row<'a, 'b>(table: &'a DeTable<'b>, wanted: &str) -> Option<&'a DeValue<'b>> {
    let mut rows = table.iter();
    let found = rows.find(|(name, _)| name.get_ref().as_ref() == wanted)?;
    Some(found.1.get_ref())
}

fn is_empty(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(table) if table.is_empty())
}

fn few(entries: usize) -> Read<()> {
    match entries > MOST_ENTRIES {
        true => Err(format!(
            "has {entries} entries; give at most {MOST_ENTRIES}"
        )),
        false => Ok(()),
    }
}

pub(super) fn list<'a, 'b>(value: &'a DeValue<'b>) -> Read<&'a [Spanned<DeValue<'b>>]> {
    let DeValue::Array(values) = value else {
        return Err(not("a list", value));
    };
    few(values.len())?;
    Ok(values)
}

pub(super) fn texts<T>(value: &DeValue<'_>, read: impl Fn(&str) -> Read<T>) -> Read<Vec<T>> {
    let values = list(value)?.iter();
    values.map(|value| text(value.get_ref(), &read)).collect()
}

pub(super) fn text<T>(value: &DeValue<'_>, read: impl FnOnce(&str) -> Read<T>) -> Read<T> {
    match value {
        DeValue::String(text) => {
            let text = reading::bounded(text, LONGEST)?;
            read(text).map_err(|complaint| format!("'{}' {complaint}", shown(text)))
        }
        _ => Err(not("a text in quotes", value)),
    }
}

pub(super) fn switch(value: &DeValue<'_>) -> Read<bool> {
    match value {
        DeValue::Boolean(on) => Ok(*on),
        _ => Err(not("true or false", value)),
    }
}

pub(super) fn time(value: &DeValue<'_>, range: RangeInclusive<Duration>) -> Read<Duration> {
    let (least, most) = range.into_inner();
    text(value, |text| read_time(text, Range::new(least, most)))
}

pub(super) fn size(value: &DeValue<'_>) -> Read<u64> {
    let (least, most) = reading::MEMORY.into_inner();
    text(value, |text| read_size(text, Range::new(least, most)))
}

pub(super) fn not(wanted: &str, value: &DeValue<'_>) -> String {
    format!("is {wanted}, not {}", kind(value))
}

fn kind(value: &DeValue<'_>) -> String {
    article(value.type_str())
}

#[cfg(test)]
mod tests;
