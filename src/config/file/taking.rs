//! Takes a configuration file's TOML apart into the words of a command line. All faults are found, not the first alone; that of an
//! unknown key names the known key that is most like it. Pure.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    super::keys::{self, Key, Kind},
    FileValue, policy, profiles,
    read::line_of,
};
use crate::domain::{policy::Policy, profile::Profiles, text::escape};

/// How much of a word from the file is shown in a fault, in bytes; the rest is cut.
const SHOWN: usize = 60;

/// The least likeness (0 to 1) at which an unknown word is taken for a known one misspelt.
const ALIKE: f64 = 0.6;

/// A mistake at a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// What is wrong, as a sentence without the place.
    pub(super) complaint: String,
}

/// The content of a configuration file's text.
pub(super) struct Taken {
    pub(super) values: Vec<FileValue>,
    pub(super) profiles: Profiles,
    /// `None`: the text has no `[policy]`.
    pub(super) policy: Option<Policy>,
    pub(super) faults: Vec<Fault>,
}

/// Takes a text apart: the values of these keys, the profiles, the policy, and all faults.
pub(super) fn take(text: &str, keys: &[Key]) -> Taken {
    let mut taking = Taking {
        text,
        keys,
        values: Vec::new(),
        profiles: Profiles::default(),
        policy: None,
        faults: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        let complaint = format!("no TOML: {}", escape(error.message(), SHOWN * 4));
        taking.fault(at, complaint);
    }
    if taking.faults.is_empty() {
        taking.sections(table.get_ref());
    }
    taking.values.sort_by_key(|value| value.line);
    taking.faults.sort_by_key(|fault| fault.line);
    Taken {
        values: taking.values,
        profiles: taking.profiles,
        policy: taking.policy,
        faults: taking.faults,
    }
}

pub(super) struct Taking<'a> {
    text: &'a str,
    keys: &'a [Key],
    values: Vec<FileValue>,
    pub(super) profiles: Profiles,
    pub(super) policy: Option<Policy>,
    faults: Vec<Fault>,
}

impl Taking<'_> {
    fn sections(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let is_known = self.keys.iter().any(|key| key.section == name);
            match value.get_ref() {
                _ if name == policy::POLICY => self.policy(value),
                _ if name == profiles::DEFAULTS => self.defaults(value),
                _ if name == profiles::PROFILE => self.profiles(at, value),
                DeValue::Table(section) if is_known => self.section(name, section),
                DeValue::Table(_) => self.unknown_section(at, name),
                _ if is_known => {
                    self.fault(
                        at,
                        format!("`{name}` is a section; write [{name}] on a line of its own"),
                    );
                }
                _ => self.outside(at, name),
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let known = self.keys.iter();
            let known = known
                .clone()
                .find(|key| key.section == section && key.name == name);
            match known.cloned() {
                Some(key) => self.value(at, key, value),
                None => self.unknown_key(at, section, name),
            }
        }
    }

    fn value(&mut self, at: usize, key: Key, value: &Spanned<DeValue<'_>>) {
        match texts(key.kind, value.get_ref()) {
            Some(texts) => self.values.push(FileValue {
                line: self.line(at),
                key,
                texts,
            }),
            None => {
                let (name, wanted) = (&key.name, wanted(key.kind));
                let given = value.get_ref().type_str();
                self.fault(at, format!("{name} is {wanted}, not {}", article(given)));
            }
        }
    }

    fn unknown_section(&mut self, at: usize, name: &str) {
        let mut sections = keys::sections(self.keys);
        sections.extend([policy::POLICY, profiles::DEFAULTS].map(str::to_owned));
        let hint = match nearest(name, sections.iter().map(String::as_str)) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("there are [{}]", sections.join("], [")),
        };
        self.fault(at, format!("unknown section [{}]: {hint}", shown(name)));
    }

    fn unknown_key(&mut self, at: usize, section: &str, name: &str) {
        let (ours, others): (Vec<&Key>, Vec<&Key>) =
            self.keys.iter().partition(|key| key.section == section);
        let elsewhere = others.iter().find(|key| key.name == name);
        let near_of = |keys: &[&Key]| {
            let names = keys.iter().map(|key| key.name.as_str());
            let near = nearest(name, names)?;
            let found = keys.iter().find(|key| key.name == near);
            found.map(|key| (key.name.clone(), key.section.clone()))
        };
        let hint = match (elsewhere, near_of(&ours), near_of(&others)) {
            (Some(key), ..) => format!("it stands in [{}]", key.section),
            (None, Some((near, _)), _) => format!("did you mean `{near}`?"),
            (None, None, Some((near, section))) => format!("did you mean `{near}` in [{section}]?"),
            (None, None, None) => "`worker-node config init` shows those that there are".into(),
        };
        let name = shown(name);
        self.fault(at, format!("unknown key `{name}` in [{section}]: {hint}"));
    }

    /// The fault of a key above the first section, with the section that it belongs to, if one has it.
    fn outside(&mut self, at: usize, name: &str) {
        let hint = match self.keys.iter().find(|key| key.name == name) {
            Some(key) => format!("write it below [{}]", key.section),
            None if nearest(name, std::iter::once(profiles::PROFILE)).is_some() => {
                "did you mean [[profile]]?".into()
            }
            None => match nearest(name, self.keys.iter().map(|key| key.name.as_str())) {
                Some(near) => format!("did you mean `{near}`? Each stands in its section"),
                None => {
                    "each key stands in its section; `worker-node config init` shows them".into()
                }
            },
        };
        let name = shown(name);
        self.fault(at, format!("the key `{name}` stands in no section: {hint}"));
    }

    pub(super) fn fault(&mut self, at: usize, complaint: String) {
        let line = self.line(at);
        self.faults.push(Fault { line, complaint });
    }

    fn line(&self, at: usize) -> usize {
        let bytes = self.text.as_bytes();
        line_of(&bytes[..at.min(bytes.len())])
    }
}

/// The value in the words that a flag would have been given; `None`: it is not of the key's kind.
fn texts(kind: Kind, value: &DeValue<'_>) -> Option<Vec<String>> {
    match (kind, value) {
        (Kind::Switch, DeValue::Boolean(value)) => Some(vec![value.to_string()]),
        (Kind::Number | Kind::Text, DeValue::Integer(value)) => Some(vec![value.to_string()]),
        // A number of cores, with the digits that the file has.
        (Kind::Text, DeValue::Float(value)) => Some(vec![value.as_str().to_owned()]),
        (Kind::Text, DeValue::String(value)) => Some(vec![value.to_string()]),
        (Kind::List, DeValue::Array(values)) => values
            .iter()
            .map(|value| match value.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "true or false",
        Kind::Number => "a whole number",
        Kind::Text => "a text in quotes",
        Kind::List => "a list of texts, such as [\"a\", \"b\"]",
    }
}

pub(super) fn article(kind: &str) -> String {
    match kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {kind}"),
        false => format!("a {kind}"),
    }
}

/// The known word that is most like this one, if one is like enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A word this long is no misspelling, and comparing it would take long.
    if word.len() > SHOWN {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&word, known);
    let (near, likeness) = known
        .map(|known| (known, likeness(known)))
        .max_by(|one, other| one.1.total_cmp(&other.1))?;
    (likeness >= ALIKE).then_some(near)
}

pub(super) fn shown(word: &str) -> String {
    escape(word, SHOWN)
}
