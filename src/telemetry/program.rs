//! The program's version, and the source that it was built from.

/// The package's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of the source in a release; else 'unknown', so that a development build is not made anew for each commit.
pub const COMMIT: &str = env!("BUILT_FROM_COMMIT");

/// When the source was committed, or SOURCE_DATE_EPOCH, in RFC 3339; 'unknown' where the commit is. Two builds of one source have
/// the same.
#[must_use]
pub fn date() -> String {
    date_of(env!("BUILT_FROM_DATE"))
}

fn date_of(seconds: &str) -> String {
    let seconds = seconds.parse().ok();
    let date = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    date.map_or_else(|| "unknown".to_owned(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_one_or_is_not_known() {
        assert_eq!(date_of("1795458562"), "2026-11-23T18:29:22Z");
        assert_eq!(date_of(""), "unknown");
        assert_eq!(date_of("99999999999999999"), "unknown");
    }
}
