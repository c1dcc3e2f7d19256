//! One log record as one line, as text or as JSON. All its values may come from outside: they are escaped, so that none forges a
//! second line or moves a terminal's cursor, and cut, so that none floods the log.

use std::{fmt::Write as _, time::SystemTime};

use log::{
    Level, Record,
    kv::{Error, Key, Value, VisitSource, VisitValue},
};

use super::journald;
use crate::domain::text::{escape, truncate};

/// Most bytes of a message that are shown.
const MESSAGE_LIMIT: usize = 8 * 1024;

/// Most bytes of a value that are shown.
const VALUE_LIMIT: usize = 1024;

/// The keys that every JSON line has. A value with one of these names gets an underscore at the end of its name.
const OWN_KEYS: [&str; 4] = ["ts", "level", "target", "msg"];

/// Who reads the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// No one in particular: a file, or a pipe.
    Anybody,
    /// A person at a terminal: the level is coloured.
    Terminal,
    /// systemd's journal: each line begins with its priority, and has neither time nor colour, which the journal adds itself.
    Journal,
}

/// A time as `2026-11-23T18:29:22.929Z`; the epoch for a time out of range.
pub(super) fn timestamp(now: SystemTime) -> String {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    format!("{now:.3}")
}

/// `2026-11-23T18:29:22.929Z INFO  task: started task=abc attempt=1`; for the journal `<6>INFO  task: started task=abc attempt=1`.
pub(super) fn text(now: &str, record: &Record<'_>, reader: Reader) -> String {
    let level = record.level();
    let head = match reader {
        Reader::Anybody => format!("{now} {level:<5}"),
        Reader::Terminal => format!("{now} {}{level:<5}\x1b[0m", colour(level)),
        Reader::Journal => format!("{}{level:<5}", journald::priority(level)),
    };
    format!("{head} {}\n", words(record))
}

/// The record without its time and level: `task: started task=abc attempt=1`.
pub(super) fn words(record: &Record<'_>) -> String {
    let message = escape(&record.args().to_string(), MESSAGE_LIMIT);
    let target = escape(short(record.target()), VALUE_LIMIT);
    let mut words = format!("{target}: {message}");
    let mut pairs = TextPairs(&mut words);
    // The visitor never fails. Where a value's source fails, the pairs before it are shown.
    let _ = record.key_values().visit(&mut pairs);
    words
}

/// One JSON object with the fields of the text line. The journal's priority stands before it, and the journal removes it.
pub(super) fn json(now: &str, record: &Record<'_>, reader: Reader) -> String {
    let mut line = match reader {
        Reader::Anybody | Reader::Terminal => String::new(),
        Reader::Journal => journald::priority(record.level()).to_owned(),
    };
    line.push('{');
    string_field(&mut line, "ts", now, VALUE_LIMIT);
    string_field(&mut line, "level", record.level().as_str(), VALUE_LIMIT);
    string_field(&mut line, "target", short(record.target()), VALUE_LIMIT);
    string_field(&mut line, "msg", &record.args().to_string(), MESSAGE_LIMIT);
    let mut pairs = JsonPairs(&mut line);
    let _ = record.key_values().visit(&mut pairs);
    line.push_str("}\n");
    line
}

/// The target as lines show it: of this program's modules the last name, of libraries the whole path.
fn short(target: &str) -> &str {
    match target.strip_prefix("worker_node::") {
        Some(path) => path.rsplit("::").next().unwrap_or(path),
        None => target,
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Error => "\x1b[1;31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug => "\x1b[34m",
        Level::Trace => "\x1b[36m",
    }
}

struct TextPairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextPairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = escape(&value.to_string(), VALUE_LIMIT);
        let bare = !value.is_empty()
            && !value.contains(|character: char| {
                character.is_whitespace() || matches!(character, '"' | '=' | '\\')
            });
        let key = escape(key.as_str(), VALUE_LIMIT);
        if bare {
            write!(self.0, " {key}={value}")?;
        } else {
            // Backslashes stem from the escapes above. Doubling them would make the text unreadable and add nothing.
            write!(self.0, " {key}=\"{}\"", value.replace('"', "\\\""))?;
        }
        Ok(())
    }
}

struct JsonPairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for JsonPairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut name = key.as_str().to_owned();
        if OWN_KEYS.contains(&name.as_str()) {
            name.push('_');
        }
        value.visit(JsonField {
            line: self.0,
            name: &name,
        })
    }
}

/// Writes one value of a JSON line: numbers and booleans as such, everything else as text.
struct JsonField<'a> {
    line: &'a mut String,
    name: &'a str,
}

impl JsonField<'_> {
    fn plain(&mut self, value: impl std::fmt::Display) -> Result<(), Error> {
        self.line.push(',');
        push_string(self.line, self.name, VALUE_LIMIT);
        write!(self.line, ":{value}")?;
        Ok(())
    }
}

impl<'v> VisitValue<'v> for JsonField<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        string_field(self.line, self.name, &value.to_string(), VALUE_LIMIT);
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.plain("null")
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        if value.is_finite() {
            self.plain(value)
        } else {
            self.plain("null")
        }
    }
}

fn string_field(line: &mut String, name: &str, value: &str, limit: usize) {
    if !line.ends_with('{') {
        line.push(',');
    }
    push_string(line, name, VALUE_LIMIT);
    line.push(':');
    push_string(line, value, limit);
}

/// A JSON string, cut at `limit` bytes. DEL and the C1 controls are escaped too: JSON allows them, and terminals obey them.
fn push_string(line: &mut String, text: &str, limit: usize) {
    let cut = truncate(text, limit);
    line.push('"');
    for character in cut.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            character if character.is_control() => {
                // Four digits are enough: all control characters are below U+00A0.
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            character => line.push(character),
        }
    }
    if cut.len() < text.len() {
        line.push_str("...");
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use log::kv::ToValue;

    use super::*;

    const NOW: &str = "2026-11-23T18:29:22.929Z";

    fn with_record<T>(
        message: &str,
        pairs: &[(&str, Value<'_>)],
        show: impl FnOnce(&Record<'_>) -> T,
    ) -> T {
        show(
            &Record::builder()
                .level(Level::Info)
                .target("worker_node::actors::task")
                .args(format_args!("{message}"))
                .key_values(&pairs)
                .build(),
        )
    }

    #[test]
    fn a_text_line_has_its_values_after_the_message() {
        let pairs = [("task", "abc".to_value()), ("attempt", 1.to_value())];

        let line = with_record("started", &pairs, |record| {
            text(NOW, record, Reader::Anybody)
        });

        assert_eq!(
            line,
            format!("{NOW} INFO  task: started task=abc attempt=1\n")
        );
    }

    #[test]
    fn nothing_in_a_text_line_can_forge_another() {
        let pairs = [
            ("id", "a\nb\x1b[2J".to_value()),
            ("said", "x \"y\" z=1".to_value()),
            ("none", "".to_value()),
        ];

        let line = with_record("a\r\nERROR forged", &pairs, |record| {
            text(NOW, record, Reader::Anybody)
        });

        assert_eq!(
            line,
            format!(
                "{NOW} INFO  task: a\\r\\nERROR forged id=\"a\\nb\\u{{1b}}[2J\" said=\"x \\\"y\\\" z=1\" none=\"\"\n"
            )
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "x".repeat(100_000);
        let pairs = [("value", long.to_value())];

        for line in [
            with_record(&long, &pairs, |record| text(NOW, record, Reader::Anybody)),
            with_record(&long, &pairs, |record| json(NOW, record, Reader::Anybody)),
        ] {
            assert!(
                line.len() < MESSAGE_LIMIT + VALUE_LIMIT + 200,
                "{}",
                line.len()
            );
            assert!(line.contains("..."));
        }
    }

    #[test]
    fn colours_go_on_the_level_alone() {
        let line = with_record("started", &[], |record| text(NOW, record, Reader::Terminal));

        assert_eq!(line, format!("{NOW} \x1b[32mINFO \x1b[0m task: started\n"));
    }

    #[test]
    fn the_journal_is_told_what_each_line_is_worth_and_has_the_time_itself() {
        let pairs = [("message", "a\nb".to_value())];

        let line = with_record("panic", &pairs, |record| text(NOW, record, Reader::Journal));
        let object = with_record("panic", &[], |record| json(NOW, record, Reader::Journal));

        assert_eq!(line, "<6>INFO  task: panic message=\"a\\nb\"\n", "one line");
        assert!(object.starts_with("<6>{\"ts\":"), "{object}");
    }

    #[test]
    fn a_json_line_has_the_same_keys_and_keeps_numbers() {
        let pairs = [
            ("task", "a\u{9b}\"\\\n".to_value()),
            ("attempt", 1.to_value()),
            ("share", 0.5.to_value()),
            ("never", f64::NAN.to_value()),
            ("again", true.to_value()),
            ("level", "own".to_value()),
        ];

        let line = with_record("started", &pairs, |record| {
            json(NOW, record, Reader::Anybody)
        });

        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\u{9b}'), "no control reaches a terminal");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "ts": NOW, "level": "INFO", "target": "task", "msg": "started",
                "task": "a\u{9b}\"\\\n", "attempt": 1, "share": 0.5, "never": null, "again": true, "level_": "own",
            })
        );
    }

    #[test]
    fn foreign_targets_keep_their_path() {
        assert_eq!(short("h2::client"), "h2::client");
        assert_eq!(short("lifecycle"), "lifecycle");
        assert_eq!(short("worker_node::telemetry::operator"), "operator");
    }

    #[test]
    fn a_timestamp_has_milliseconds() {
        let now = UNIX_EPOCH + Duration::from_millis(1_795_458_562_929);

        assert_eq!(timestamp(now), "2026-11-23T18:29:22.929Z");
        assert_eq!(timestamp(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
