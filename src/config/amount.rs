//! Reads and writes times, sizes and numbers of cores as people write them.

use std::{fmt, time::Duration};

/// The range of values that are taken: from the least to the most, both included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<T> {
    least: T,
    most: T,
}

impl<T: PartialOrd> Range<T> {
    pub(super) fn new(least: T, most: T) -> Self {
        Self { least, most }
    }

    fn check(self, value: T, show: impl Fn(&T) -> String) -> Result<T, String> {
        if value >= self.least && value <= self.most {
            Ok(value)
        } else {
            let (least, most) = (show(&self.least), show(&self.most));
            Err(format!("is out of range; give {least} to {most}"))
        }
    }
}

/// Reads a time such as `250ms`, `10s` or `1h 30m`. A bare number is no time, as nobody knows its unit.
pub(super) fn read_time(text: &str, range: Range<Duration>) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| {
        "is no time; write a number with its unit, such as 250ms, 10s or 1h".to_owned()
    })?;
    range.check(time, |time| Time(*time).to_string())
}

/// A time in the largest unit that keeps it whole, up to days: a month or year, when read, is no whole number of days.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
        let seconds = self.0.as_secs();
        let is_whole = self.0.subsec_nanos() == 0 && seconds > 0;
        let unit = UNITS.iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
        match unit.filter(|_| is_whole) {
            Some((unit, name)) => write!(f, "{}{name}", seconds / unit),
            None => write!(f, "{}", humantime::format_duration(self.0)),
        }
    }
}

/// Reads a size in bytes: `512MiB`, `1GiB`, or with the engine's short letters `512m`, `1g`; a bare number counts bytes.
pub(super) fn read_size(text: &str, range: Range<u64>) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        "t" | "tib" => Some(40),
        _ => None,
    };
    let size = shift
        .zip(number.parse::<u64>().ok())
        .and_then(|(shift, number)| number.checked_mul(1 << shift))
        .ok_or("is no size; write a whole number with its unit, such as 512MiB or 2GiB")?;
    range.check(size, |size| Bytes(*size).to_string())
}

/// Reads a number of cores: `2`, `0.5`.
pub(super) fn read_cores(text: &str, range: Range<f64>) -> Result<f64, String> {
    let cores = text.parse::<f64>().ok().filter(|cores| cores.is_finite());
    let cores = cores.ok_or("is no number of cores; write one such as 2 or 0.5")?;
    range.check(cores, f64::to_string)
}

/// A size in the largest unit that keeps it whole.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
        let (shift, unit) = units
            .into_iter()
            .find(|(shift, _)| self.0 >= 1 << shift && self.0.trailing_zeros() >= *shift)
            .unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        let any = Range::new(Duration::ZERO, Duration::MAX);

        assert_eq!(read_time("250ms", any), Ok(Duration::from_millis(250)));
        assert_eq!(read_time("1h 30m", any), Ok(Duration::from_secs(5_400)));
        for bad in ["", "10", "abc", "-1s", "1x", "10 s s"] {
            let error = read_time(bad, any).unwrap_err();
            assert!(error.contains("such as 250ms"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_size_is_whole_and_binary() {
        let any = Range::new(0, u64::MAX);

        assert_eq!(read_size("4096", any), Ok(4_096));
        assert_eq!(read_size("512m", any), Ok(512 << 20));
        assert_eq!(read_size("1 GiB", any), Ok(1 << 30));
        for bad in ["", "GiB", "1.5g", "1MB", "-1", "99999999999t", "1 é"] {
            assert!(read_size(bad, any).is_err(), "{bad}");
        }
    }

    #[test]
    fn cores_may_be_parts_and_are_numbers() {
        let any = Range::new(0.0, 8.0);

        assert_eq!(read_cores("0.5", any), Ok(0.5));
        assert_eq!(read_cores("2", any), Ok(2.0));
        for bad in ["", "two", "1,5", "NaN", "inf", "-1", "9"] {
            assert!(read_cores(bad, any).is_err(), "{bad}");
        }
        assert_eq!(
            read_cores("-0.5", any).unwrap_err(),
            "is out of range; give 0 to 8"
        );
    }

    #[test]
    fn a_range_is_told_in_peoples_units() {
        let error = read_size("1k", Range::new(1 << 20, 1 << 40)).unwrap_err();
        assert_eq!(error, "is out of range; give 1MiB to 1TiB");

        let range = Range::new(Duration::from_secs(60), Duration::from_secs(3_600));
        let error = read_time("5s", range).unwrap_err();
        assert_eq!(error, "is out of range; give 1m to 1h");

        let range = Range::new(Duration::from_secs(60), Duration::from_secs(365 * 86_400));
        let error = read_time("0s", range).unwrap_err();
        assert_eq!(error, "is out of range; give 1m to 365d");

        assert_eq!(
            read_time("365d", range),
            Ok(Duration::from_secs(365 * 86_400))
        );

        let range = Range::new(Duration::ZERO, Duration::from_millis(1_500));
        let error = read_time("5s", range).unwrap_err();
        assert_eq!(error, "is out of range; give 0s to 1s 500ms");
    }
}
