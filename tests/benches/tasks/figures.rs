//! Samples and what is told of them. Percentiles are samples that occurred, never values between two of them.

use std::time::Duration;

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Adds one.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The median, in milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    /// The 99th percentile, in milliseconds; of fewer than 100 samples the largest.
    pub(crate) fn p99(&self) -> f64 {
        quantile(&self.0, 0.99)
    }

    /// What each took longer than its partner, in milliseconds.
    pub(crate) fn minus(&self, partners: &Self) -> Vec<f64> {
        let pairs = self.0.iter().zip(&partners.0);
        pairs.map(|(mine, theirs)| mine - theirs).collect()
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(
            times
                .into_iter()
                .map(|time| time.as_secs_f64() * 1e3)
                .collect(),
        )
    }
}

/// The smallest sample that this share of all does not exceed; 0 of no samples.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among a few hundred samples"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// `1.9 / 4.2 ms`.
pub(crate) fn p50_p99(times: &Times) -> String {
    format!("{:.1} / {:.1} ms", times.p50(), times.p99())
}

/// `0.97 (0.95 to 0.99)`: the median and the extremes.
pub(crate) fn spread(samples: &[f64]) -> String {
    let at = |share| quantile(samples, share);
    format!("{:.2} ({:.2} to {:.2})", at(0.5), at(0.0), at(1.0))
}
