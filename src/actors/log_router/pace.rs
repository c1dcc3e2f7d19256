//! Whether a container was busy when its engine died.

use std::time::{Duration, SystemTime};

use crate::ports::engine::Frame;

/// A container that printed this many bytes, one buffer of the engine's, within [`BUSY_TIME`] was busy. One that prints less
/// loses nothing at a death of the engine, which writes down at once what it reads (of 100 lines at 50 ms each none in 4 deaths,
/// but 1,300 lines of bursts of 56 kB).
pub(super) const BUSY_BYTES: usize = 16 * 1024;

/// The length of a stretch of output that counts as one moment.
const BUSY_TIME: Duration = Duration::from_millis(100);

/// A container that was silent for this long before its engine died has lost nothing: an engine writes down what it reads within
/// this time, on a busy machine too (0.5 s were seen beside a dozen workers and as many floods on two cores).
const QUIET: Duration = Duration::from_secs(3);

/// How much a container has printed lately, by the engine's times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// When the present stretch of [`BUSY_TIME`] began.
    began: Option<SystemTime>,
    bytes: usize,
    /// Bytes of the stretch before the present one, if that was just before it.
    before: usize,
    last: Option<SystemTime>,
}

impl Pace {
    pub(super) fn take(&mut self, frame: &Frame) {
        self.last = self.last.max(frame.time);
        let since = |began: SystemTime| frame.time?.duration_since(began).ok();
        match self.began.and_then(since) {
            Some(passed) if passed < BUSY_TIME => {}
            passed => {
                let is_next = passed.is_some_and(|passed| passed < 2 * BUSY_TIME);
                self.before = if is_next { self.bytes } else { 0 };
                self.began = frame.time;
                self.bytes = 0;
            }
        }
        self.bytes += frame.bytes.len();
    }

    /// When the last output was printed.
    pub(super) fn last(&self) -> Option<SystemTime> {
        self.last
    }

    /// Whether the engine may have died between the last output and this frame, and lost what it had read: the container was
    /// busy, and then silent, as it looks while no engine writes.
    pub(super) fn has_stopped_before(&self, frame: &Frame) -> bool {
        let silence = self.last.zip(frame.time);
        let silence = silence.and_then(|(last, time)| time.duration_since(last).ok());
        silence.is_some_and(|silence| silence > BUSY_TIME) && self.is_busy(None)
    }

    /// Whether much was printed in the last moment before the engine died; it was last seen alive at `alive`.
    pub(super) fn is_busy(&self, alive: Option<SystemTime>) -> bool {
        let was_quiet = self.last.zip(alive).is_some_and(|(last, alive)| {
            let silence = alive.duration_since(last);
            silence.is_ok_and(|silence| silence > QUIET)
        });
        !was_quiet && self.bytes.max(self.before) >= BUSY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::domain::log_line::Source;

    fn at(millis: u64) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// The pace of prints of this many bytes at these milliseconds.
    fn pace(prints: &[(u64, usize)]) -> Pace {
        let mut pace = Pace::default();
        for (millis, bytes) in prints {
            pace.take(&Frame {
                source: Source::Stdout,
                bytes: vec![b'x'; *bytes].into(),
                time: at(*millis),
            });
        }
        pace
    }

    #[test]
    fn a_flood_is_busy_and_a_line_now_and_then_is_not() {
        let flood: Vec<_> = (0..100).map(|number| (number * 5, 2_000)).collect();
        let lines: Vec<_> = (0..100).map(|number| (number * 50, 100)).collect();

        assert!(pace(&flood).is_busy(at(500)));
        assert!(!pace(&lines).is_busy(at(5_000)));
        assert!(!pace(&[]).is_busy(at(0)));
    }

    #[test]
    fn a_flood_that_went_over_into_a_new_stretch_is_busy() {
        assert!(pace(&[(0, BUSY_BYTES), (110, 1)]).is_busy(at(110)));
        assert!(!pace(&[(0, BUSY_BYTES), (900, 1)]).is_busy(at(900)));
    }

    #[test]
    fn a_flood_that_stops_is_told_from_one_that_goes_on() {
        let next = |millis| Frame {
            source: Source::Stdout,
            bytes: b"x".as_slice().into(),
            time: at(millis),
        };

        assert!(pace(&[(0, BUSY_BYTES)]).has_stopped_before(&next(200)));
        assert!(!pace(&[(0, BUSY_BYTES)]).has_stopped_before(&next(50)));
        assert!(!pace(&[(0, 100)]).has_stopped_before(&next(200)));
    }

    #[test]
    fn a_flood_of_long_before_is_forgotten() {
        let flood = pace(&[(0, BUSY_BYTES)]);

        assert!(flood.is_busy(at(2_900)), "a busy engine writes late");
        assert!(!flood.is_busy(at(10_000)));
        assert!(flood.is_busy(None), "nobody knows how long before");
    }
}
