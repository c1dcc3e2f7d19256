//! How much of the output that comes is in the log already, and must be passed over.

use std::time::SystemTime;

use bytes::Buf;

use crate::{
    domain::log_line::Source,
    ports::{engine::Frame, spool::Piece},
};

/// What the log has already of the output that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Had {
    /// The next bytes of stdout and stderr, this many of each.
    Bytes([u64; 2]),
    /// Where bytes cannot be counted: all entries that were written until then.
    Until(SystemTime),
}

impl Had {
    pub(super) const NOTHING: Self = Self::Bytes([0; 2]);

    /// The part of a frame that the log lacks; `None` if it has all of it.
    pub(super) fn new_of(&mut self, mut frame: Frame) -> Option<Piece> {
        match self {
            Self::Bytes(had) => {
                let had = &mut had[usize::from(frame.source == Source::Stderr)];
                let length = frame.bytes.len();
                let passed = usize::try_from(*had).unwrap_or(length).min(length);
                *had -= passed as u64;
                frame.bytes.advance(passed);
            }
            Self::Until(then) if frame.time.is_some_and(|time| time <= *then) => return None,
            Self::Until(_) => *self = Self::NOTHING,
        }
        (!frame.bytes.is_empty()).then_some(Piece {
            source: frame.source,
            bytes: frame.bytes,
            time: frame.time,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn frame(text: &'static str, second: u64) -> Frame {
        Frame {
            source: Source::Stdout,
            bytes: text.into(),
            time: Some(UNIX_EPOCH + Duration::from_secs(second)),
        }
    }

    fn new_of(had: &mut Had, text: &'static str, second: u64) -> Option<Vec<u8>> {
        had.new_of(frame(text, second))
            .map(|piece| piece.bytes.to_vec())
    }

    #[test]
    fn bytes_are_passed_over_and_the_rest_is_new() {
        let mut had = Had::Bytes([5, 0]);

        assert_eq!(new_of(&mut had, "one\n", 1), None);
        assert_eq!(new_of(&mut had, "two\n", 2), Some(b"wo\n".to_vec()));
        assert_eq!(had, Had::NOTHING);
    }

    #[test]
    fn from_the_first_later_frame_on_everything_is_new() {
        let mut had = Had::Until(UNIX_EPOCH + Duration::from_secs(2));

        assert_eq!(new_of(&mut had, "one", 2), None);
        assert_eq!(new_of(&mut had, "two", 3), Some(b"two".to_vec()));
        assert_eq!(new_of(&mut had, "six", 1), Some(b"six".to_vec()));
    }
}
