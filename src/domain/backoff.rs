//! How long to wait before the next attempt: exponential, capped, with jitter.
//!
//! Restarts of actors and every retry towards a peer use it. It counts nothing: the caller knows which attempt this is, and brings the
//! randomness.

use std::time::Duration;

/// An exponential backoff: `first`, twice that, four times that, up to `cap`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Delay of attempt 0 before jitter.
    pub first: Duration,
    /// No delay is longer than this.
    pub cap: Duration,
    /// The share of a delay that chance may take away, 0.0 (none) to 1.0 (all of it). Many peers that failed together spread out.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            jitter: 0.3,
        }
    }
}

impl Backoff {
    /// The delay before attempt `attempt` (the first delayed one is 0). `random` is a number in `0.0..1.0`; 0.0 gives the full delay.
    /// Numbers outside are clamped, and one that is not a number takes nothing away.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doubled = 2u32.checked_pow(attempt).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(doubled).min(self.cap);
        full.mul_f64(1.0 - share(self.jitter) * share(random))
    }
}

/// `value` as a share of one; what is not a number is no share at all.
fn share(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Backoff = Backoff {
        first: Duration::from_millis(100),
        cap: Duration::from_secs(3),
        jitter: 0.0,
    };

    #[test]
    fn doubles_up_to_the_cap() {
        let delays: Vec<u64> = (0..7)
            .map(|attempt| PLAIN.delay(attempt, 0.5).as_millis() as u64)
            .collect();

        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_000, 3_000]);
    }

    #[test]
    fn jitter_takes_away_its_share_and_no_more() {
        let half = Backoff {
            jitter: 0.5,
            ..PLAIN
        };

        assert_eq!(half.delay(1, 0.0), Duration::from_millis(200));
        assert_eq!(half.delay(1, 1.0), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn never_exceeds_the_cap_nor_panics(attempt in any::<u32>(), random in any::<f64>(), jitter in any::<f64>()) {
            let delay = Backoff { jitter, ..PLAIN }.delay(attempt, random);

            prop_assert!(delay <= PLAIN.cap);
        }

        #[test]
        fn later_attempts_never_wait_less(attempt in 0u32..40, random in 0.0f64..1.0) {
            let backoff = Backoff::default();

            prop_assert!(backoff.delay(attempt, random) <= backoff.delay(attempt + 1, random));
        }
    }
}
