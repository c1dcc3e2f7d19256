//! Collects mistakes, so that people hear of all of them at once, each by the name under which they typed it.

use std::{ffi::OsStr, fmt, path::PathBuf};

use super::file::Places;
use crate::domain::text::{escape, without_login};

/// Bytes of a wrong value that are shown.
const SHOWN: usize = 100;

/// One value that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The flag, or the foreign environment variable.
    pub name: &'static str,
    /// A sentence that names the flag, or the place in the file, and says what to do.
    pub sentence: String,
    /// Whether the value is clear, and this program cannot do what it says.
    pub is_unsupported: bool,
    /// Whether the value stands in the configuration file, or the file itself is wrong.
    pub is_in_file: bool,
}

impl Mistake {
    /// A mistake of the file itself.
    pub(super) fn of_file(sentence: String) -> Self {
        Self {
            name: "--config",
            sentence,
            is_unsupported: false,
            is_in_file: true,
        }
    }
}

/// All mistakes; not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// Whether no value was typed wrong: what was asked for is not supported, or a file is wrong.
    #[must_use]
    pub fn are_of_configuration(&self) -> bool {
        let mut mistakes = self.0.iter();
        mistakes.all(|mistake| mistake.is_unsupported || mistake.is_in_file)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|mistake| writeln!(f, "error: {}", mistake.sentence))
    }
}

impl std::error::Error for Mistakes {}

/// Reads values one by one and collects the mistakes in them.
#[derive(Debug, Default)]
pub(super) struct Check {
    places: Places,
    mistakes: Vec<Mistake>,
}

impl Check {
    /// A check that knows which values are from a file.
    pub(super) fn knowing(places: &Places) -> Self {
        Self {
            places: places.clone(),
            mistakes: Vec::new(),
        }
    }

    /// Reads one value. What the reader complains of is the end of a sentence that starts with the flag and its value.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        read(text)
            .map_err(|complaint| self.mistake(name, text, &complaint))
            .ok()
    }

    /// Reads a switch: true or false.
    pub(super) fn switch(&mut self, name: &'static str, text: &str) -> Option<bool> {
        self.value(name, text, |text| {
            on_or_off(text).ok_or_else(|| "is neither true nor false".into())
        })
    }

    /// Reads the path of a `what`: a file or a folder.
    pub(super) fn path(
        &mut self,
        name: &'static str,
        given: &OsStr,
        what: &str,
    ) -> Option<PathBuf> {
        if given.is_empty() {
            self.mistake(name, "", &format!("is empty; give a {what}"));
            return None;
        }
        if given.as_encoded_bytes().starts_with(b"~") {
            let complaint = format!(
                "begins with ~, which only a shell reads, and only unquoted at the beginning of a word; give the {what}'s whole path"
            );
            self.mistake(name, &given.to_string_lossy(), &complaint);
            return None;
        }
        Some(given.into())
    }

    /// Remembers a mistake in a value.
    pub(super) fn mistake(&mut self, name: &'static str, text: &str, complaint: &str) {
        let shown = escape(&without_login(text).unwrap_or_else(|| text.into()), SHOWN);
        let sentence = match self.places.0.get(name) {
            Some(place) => format!("{place} '{shown}' {complaint}"),
            None => format!("{name} '{shown}'{} {complaint}", variable(name)),
        };
        self.push(name, sentence, false);
    }

    /// Remembers that a value asks for something that this program cannot do.
    pub(super) fn unsupported(&mut self, name: &'static str, sentence: String) {
        let sentence = match self.places.0.get(name) {
            Some(place) => format!("{place}: {sentence}"),
            None => sentence,
        };
        self.push(name, sentence, true);
    }

    fn push(&mut self, name: &'static str, sentence: String, is_unsupported: bool) {
        self.mistakes.push(Mistake {
            name,
            sentence,
            is_unsupported,
            is_in_file: self.places.0.contains_key(name),
        });
    }

    /// Remembers that a value is missing.
    pub(super) fn missing(&mut self, name: &'static str, complaint: &str) {
        let sentence = format!("{name}{} {complaint}", variable(name));
        self.push(name, sentence, false);
    }

    /// The mistakes that were collected.
    pub(super) fn into_mistakes(self) -> Mistakes {
        Mistakes(self.mistakes)
    }
}

/// The value of a switch's word; `None`: it is no such word.
pub(super) fn on_or_off(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The hint at a flag's environment variable, since the value may have come from there.
fn variable(name: &str) -> String {
    match name.strip_prefix("--") {
        Some(flag) => {
            let variable = flag.replace('-', "_").to_ascii_uppercase();
            format!(" (or WORKER_NODE_{variable})")
        }
        None => String::new(),
    }
}
