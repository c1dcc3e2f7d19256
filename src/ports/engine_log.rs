//! The engine's own files of one container's output, where they lie on this machine: what is printed comes out of them byte for
//! byte, so a number of bytes is a place in them.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;

use super::engine::Frame;

/// Where reading goes on: behind an entry of a file, or at a file's beginning; or, with no device and no inode, at a time in what the
/// engine tells of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The file's device.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// The place in the file, in bytes from its beginning.
    pub offset: u64,
    /// When the entry before it was written, in nanoseconds since the epoch; 0 at a file's beginning. Tells the file from a
    /// later one that was given the same inode.
    pub written: i64,
}

impl Place {
    /// A place in the engine's record as it tells it from `since` on; `first`: when the first entry of that was written.
    #[must_use]
    pub fn at_time(since: SystemTime, first: Option<SystemTime>) -> Self {
        let nanos = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        };
        Self {
            // Not 0, so that it is told from the first byte of the first file.
            written: nanos(since).max(1),
            offset: first.map_or(0, |first| nanos(first).unsigned_abs()),
            ..Self::default()
        }
    }

    /// The times of a place that was made by [`Place::at_time`].
    #[must_use]
    pub fn in_record(&self) -> Option<(SystemTime, Option<SystemTime>)> {
        let is_time = self.device == 0 && self.inode == 0 && self.written > 0;
        let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        let first = (self.offset > 0).then(|| at(self.offset));
        is_time.then(|| (at(self.written.unsigned_abs()), first))
    }
}

/// One run of the engine's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineRun {
    /// Never 0, and another one for each run between two starts of this machine.
    pub id: u64,
    /// How long ago the engine's process was started, at most 20 ms too much.
    pub age: Duration,
}

/// What comes next in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// What was printed, in order per source; at least one frame. Entries of one source and one millisecond share a frame.
    Frames(Vec<Frame>),
    /// Bytes of the files that were passed over because they are no entries: half an entry, zeros after a power cut.
    Torn(u64),
    /// The file was cut short while it was read. It goes on at its beginning.
    Cut,
    /// Nothing more for now.
    End,
}

/// Reads one container's files. Calls block on the disk: use a blocking thread.
pub trait EngineLog: Send {
    /// Goes to a place. `false` where the files do not hold it (any more): then the reader stays where it is.
    ///
    /// # Errors
    /// An error of the disk.
    fn seek(&mut self, place: Place) -> io::Result<bool>;

    /// The place of the reader; `None`: there is no file yet.
    fn place(&self) -> Option<Place>;

    /// Whether the oldest file was the first one, when the files were first looked at: none had been rotated away.
    ///
    /// # Errors
    /// An error of the disk.
    fn begins_at_the_first_byte(&mut self) -> io::Result<bool>;

    /// Reads on.
    ///
    /// # Errors
    /// An error of the disk.
    fn next(&mut self) -> io::Result<Step>;

    /// Goes back to before the frames that the last step brought.
    fn unread(&mut self);

    /// Bytes between its place and the end of the newest file, after [`Step::End`]: an entry that is being written, or half a one.
    ///
    /// # Errors
    /// An error of the disk.
    fn rest(&self) -> io::Result<u64>;

    /// Bytes after about which the engine begins another file.
    fn file_size(&self) -> u64;

    /// The engine's present run; `None` where there is none, or where it cannot be told.
    fn run(&self) -> Option<EngineRun>;

    /// Ends when there may be more than what `next` has seen, and after a second in any case.
    fn changed(&self) -> BoxFuture<'static, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_from_a_place_in_a_file() {
        let then = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);

        let place = Place::at_time(then, Some(then));
        assert_eq!(place.in_record(), Some((then, Some(then))));
        let begin = Place::at_time(UNIX_EPOCH, None);
        assert!(begin != Place::default() && begin.in_record().is_some());
        assert_eq!(Place::default().in_record(), None);
        let of_a_file = Place {
            inode: 1,
            written: 5,
            ..Place::default()
        };
        assert_eq!(of_a_file.in_record(), None);
    }
}
