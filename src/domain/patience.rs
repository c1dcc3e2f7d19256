//! How long passing trouble is waited out: a registry or a name service that is away, a machine that has no room for the
//! moment. Measured in time, not in tries: what is away for a minute must fail nothing, however quick each refusal is.

use std::time::Duration;

use super::backoff::Backoff;

/// The delays between two tries.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(30),
    jitter: 0.3,
};

/// Patience with one thing, as the time from its first failure to the last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Patience {
    /// How long to wait until the next try; `None`: it is spent, and the last failure final. `lasted` counts from the first
    /// failure, `attempt` the failures before this one from 0. What the other side asks for (`said`, such as `Retry-After: 20`)
    /// is obeyed, as far as patience goes. `random` is from `0.0..1.0`.
    #[must_use]
    pub fn wait(
        &self,
        lasted: Duration,
        attempt: u32,
        said: &str,
        random: f64,
    ) -> Option<Duration> {
        let left = self.0.checked_sub(lasted).filter(|left| !left.is_zero())?;
        let wait = RETRY.delay(attempt, random);
        let wait = asked_wait(said).map_or(wait, |asked| asked.max(wait));
        Some(wait.min(left))
    }
}

/// The wait that a refusal asks for, in seconds: `Retry-After: 20`, `retry after 20 s`.
fn asked_wait(said: &str) -> Option<Duration> {
    let said = said.to_ascii_lowercase();
    let at = said
        .find("retry-after")
        .or_else(|| said.find("retry after"))?;
    let rest = said[at + "retry-after".len()..].trim_start_matches([':', '=', '"', ' ']);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: Patience = Patience(Duration::from_secs(600));

    /// Failures until it is spent, and when that is, if each try fails at once.
    fn spent(patience: Patience, said: &str) -> (u32, Duration) {
        let (mut attempt, mut lasted) = (0, Duration::ZERO);
        while let Some(wait) = patience.wait(lasted, attempt, said, 0.5) {
            attempt += 1;
            lasted += wait;
        }
        (attempt, lasted)
    }

    #[test]
    fn trouble_is_waited_out_for_minutes_however_quick_each_refusal_is() {
        for said in ["connection refused", "no such host", "503"] {
            let (attempts, lasted) = spent(MINUTES, said);
            assert_eq!(lasted, MINUTES.0, "{said}");
            assert!(attempts < 40, "{attempts} tries are a storm");
        }
    }

    #[test]
    fn a_registry_that_asks_for_time_gets_it() {
        for (said, seconds) in [
            ("toomanyrequests: Retry-After: 20", 20),
            ("429 (retry after 45 s)", 45),
            ("Retry-After=\"7\"", 7),
        ] {
            let wait = MINUTES.wait(Duration::ZERO, 0, said, 0.0);
            assert_eq!(wait, Some(Duration::from_secs(seconds)), "{said}");
        }
        for said in ["retry-after: soon", "retry after", "é retry-after: é"] {
            let wait = MINUTES.wait(Duration::ZERO, 0, said, 0.0);
            assert_eq!(wait, Some(Duration::from_millis(500)), "{said}");
        }
        assert_eq!(spent(MINUTES, "Retry-After: 86400"), (1, MINUTES.0));
    }

    #[test]
    fn no_patience_means_one_try() {
        let none = Patience(Duration::ZERO);
        assert_eq!(spent(none, "refused"), (0, Duration::ZERO));
    }
}
