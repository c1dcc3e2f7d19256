//! How values read in what the commands print: times in their two largest units, shares in percent, foreign text without
//! its teeth.

use std::time::Duration;

use crate::domain::text;

/// The version of everything that is printed as JSON. It changes when a field goes or changes its meaning, not when one comes.
pub(super) const JSON_VERSION: u32 = 1;

/// `2d3h`, `3m2s`, `41s`, `250ms`.
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

/// `12.5%`, of a share of 0.125.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Text that somebody else chose, on one line and of at most `limit` bytes.
pub(super) fn foreign(words: &str, limit: usize) -> String {
    text::escape(words, limit)
}

/// Milliseconds, as JSON has them.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
    fn a_share_has_one_decimal() {
        assert_eq!(percent(0.0), "0.0%");
        assert_eq!(percent(0.1249), "12.5%");
        assert_eq!(percent(1.0), "100.0%");
    }
}
