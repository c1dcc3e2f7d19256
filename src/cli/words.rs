//! How values read in what the commands print: times in their two largest units, shares in percent, foreign text with control
//! characters escaped.

use std::time::Duration;

use serde_json::{Map, json};

use crate::{
    config::{
        Value,
        profiles::{self, Told},
    },
    domain::{task_settings::TaskSettings, text, usage::Usage},
};

/// The version of everything that is printed as JSON. It changes when a field goes or changes its meaning, not when one comes.
pub(super) const JSON_VERSION: u32 = 1;

/// A time in its two largest units: `2d3h`, `3m2s`, `41s`, `250ms`.
pub(super) fn time(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = time.as_secs();
    let Some(first) = UNITS.iter().position(|(unit, _)| seconds >= *unit) else {
        return format!("{}ms", time.as_millis());
    };
    let (unit, name) = UNITS[first];
    let whole = format!("{}{name}", seconds / unit);
    match UNITS.get(first + 1) {
        Some((next, name)) if seconds % unit >= *next => {
            format!("{whole}{}{name}", seconds % unit / next)
        }
        Some(_) | None => whole,
    }
}

/// A share in percent: `12.5%` for 0.125.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// An amount of bytes in its largest unit: `0 B`, `1.5 KiB`, `300.0 MiB`.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        // An amount that would be rounded to 1024.0 is 1.0 of the next unit.
        if amount < 1_023.95 {
            break;
        }
        (amount, unit) = (amount / 1_024.0, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{amount:.1} {unit}"),
    }
}

/// What a container used, as JSON has it.
pub(super) fn usage(usage: &Usage) -> serde_json::Value {
    let network = usage.network;
    json!({
        "cpu_seconds": usage.cpu.as_secs_f64(),
        "memory_bytes": usage.memory,
        "peak_memory_bytes": usage.peak_memory,
        "pids": usage.pids,
        "disk_read_bytes": usage.disk.into,
        "disk_write_bytes": usage.disk.out,
        "network_receive_bytes": network.map(|network| network.into),
        "network_transmit_bytes": network.map(|network| network.out),
    })
}

/// Text that somebody else chose, on one line; cut, with `...` behind it, once it has `limit` bytes.
pub(super) fn foreign(words: &str, limit: usize) -> String {
    text::escape(words, limit)
}

/// Milliseconds, as JSON has them.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A value of the configuration, as JSON has it.
pub(super) fn value(value: &Value) -> serde_json::Value {
    match value {
        Value::Switch(on) => json!(on),
        Value::Number(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::List(texts) => json!(texts),
    }
}

/// A setting of tasks, as JSON has it.
pub(super) fn told(told: &Told) -> serde_json::Value {
    let table = |row: &Vec<(&str, Value)>| {
        let pairs = row.iter().map(|(key, one)| ((*key).into(), value(one)));
        serde_json::Value::Object(pairs.collect::<Map<_, _>>())
    };
    match told {
        Told::One(one) => value(one),
        Told::Table(row) => table(row),
        Told::Tables(rows) => rows.iter().map(table).collect(),
    }
}

/// All settings of tasks that are set, by their keys.
pub(super) fn settings(settings: &TaskSettings) -> serde_json::Value {
    let pairs = profiles::told(settings).into_iter();
    let pairs = pairs.map(|(key, value)| (key, told(&value)));
    serde_json::Value::Object(pairs.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (milliseconds, told) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (182_000, "3m2s"),
            (3_600_000, "1h"),
            (3_601_000, "1h"),
            (183_600_000, "2d3h"),
        ] {
            assert_eq!(time(Duration::from_millis(milliseconds)), told);
        }
    }

    #[test]
    fn a_size_is_told_in_its_largest_unit() {
        for (size, told) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (300 << 20, "300.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(size), told);
        }
    }

    #[test]
    fn a_share_has_one_decimal() {
        assert_eq!(percent(0.0), "0.0%");
        assert_eq!(percent(0.1249), "12.5%");
        assert_eq!(percent(1.0), "100.0%");
    }
}
