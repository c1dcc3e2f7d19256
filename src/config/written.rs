//! A configuration as text of a file: the settings in force, and the sample with every default. What is written here reads back as
//! what it was written from. Pure.

use std::fmt::{self, Write as _};

use super::{
    keys::{self, Key, Kind},
    policy, profiles,
    settings::{Origin, Setting, Settings},
};

/// The width of the sample's comments, in columns.
const WIDTH: usize = 100;

/// The value of a key, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The value of a switch.
    Switch(bool),
    /// The value of a number.
    Number(u64),
    /// The value of a text.
    Text(String),
    /// The value of a list.
    List(Vec<String>),
}

impl Value {
    /// The value of these words of a command line; `None`: nothing is set. Words that are wrong are a text.
    fn of(kind: Kind, texts: &[String]) -> Option<Self> {
        if kind == Kind::List {
            return Some(Self::List(texts.to_vec()));
        }
        let text = texts.last()?;
        Some(match (kind, text.parse(), super::check::on_or_off(text)) {
            (Kind::Switch, _, Some(on)) => Self::Switch(on),
            (Kind::Number, Ok(number), _) => Self::Number(number),
            _ => Self::Text(text.clone()),
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => on.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => quoted(text, f),
            Self::List(texts) => {
                f.write_char('[')?;
                for (at, text) in texts.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    quoted(text, f)?;
                }
                f.write_char(']')
            }
        }
    }
}

/// Writes a basic string of TOML.
fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            plain => f.write_char(plain)?,
        }
    }
    f.write_char('"')
}

impl Setting {
    /// The setting's value; `None`: nothing is set.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        Value::of(self.key.kind, &self.texts)
    }

    /// What set the value, in words.
    #[must_use]
    pub fn set_by(&self) -> String {
        match self.origin {
            Origin::Flag => format!("the flag {}", self.key.flag),
            Origin::Variable => format!("the variable {}", self.key.variable),
            Origin::File(line) => format!("line {line} of the file"),
            Origin::Default => "the default".into(),
        }
    }
}

impl Settings {
    /// A file that sets all of it; with comments that say what set each, if that is wanted.
    #[must_use]
    pub fn written(&self, with_origins: bool) -> String {
        let keys: Vec<_> = self.all.iter().map(|setting| setting.key.clone()).collect();
        let mut text = String::new();
        for section in keys::sections(&keys) {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
            for setting in self
                .all
                .iter()
                .filter(|setting| setting.key.section == section)
            {
                let name = &setting.key.name;
                match setting.value() {
                    Some(value) => text.push_str(&format!("{name} = {value}")),
                    None => text.push_str(&format!("# {name} is not set")),
                }
                if with_origins && setting.value().is_some() {
                    text.push_str(&format!(" # {}", setting.set_by()));
                }
                text.push('\n');
            }
        }
        text
    }
}

/// The top of the sample file.
const HEAD: &str = "\
# The configuration of worker-node. Every key stands here with its default, commented out: what is not set follows the program.
# A flag wins over its environment variable, that over this file, and this file over the default.
# Read it over with `worker-node config check FILE`; `worker-node config show --origin` says what is in force.
# (reload): taken by `worker-node reload` and by SIGHUP; all else counts from the next start on.
";

/// The sample: a file with every key, its meaning and its default, that changes nothing.
#[must_use]
pub fn commented() -> String {
    let keys = keys::all();
    let mut text = HEAD.to_owned();
    for section in keys::sections(&keys) {
        text.push_str(&format!("\n[{section}]\n"));
        for key in keys.iter().filter(|key| key.section == section) {
            text.push_str(&sample(key));
        }
    }
    text.push_str(policy::SAMPLE);
    text.push_str(profiles::SAMPLE);
    text
}

fn sample(key: &Key) -> String {
    let mark = if key.is_reloaded() { " (reload)" } else { "" };
    let mut text = comment(&format!("{}{mark}", key.help));
    let value =
        Value::of(key.kind, &key.default).unwrap_or_else(|| Value::Text(key.placeholder.clone()));
    text.push_str(&format!("#{} = {value}\n", key.name));
    text
}

/// The words as lines of a comment, at most `WIDTH` columns wide.
fn comment(words: &str) -> String {
    let mut text = String::from("#");
    let mut column = 1;
    for word in words.split_whitespace() {
        let width = word.chars().count() + 1;
        if column + width > WIDTH {
            text.push_str("\n#");
            column = 1;
        }
        text.push_str(&format!(" {word}"));
        column += width;
    }
    text.push('\n');
    text
}
