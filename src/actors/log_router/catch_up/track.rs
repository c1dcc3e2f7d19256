//! One source's way through the engine's record of its output, beside the same source's bytes in the spool.

use std::{io, mem, time::SystemTime};

use bytes::Bytes;

use crate::{
    domain::{
        log_line::Source,
        log_overlap::{Compared, Comparison},
    },
    ports::spool::{LogCursor, LogItem},
};

/// So much of the end of a spool is looked for in a record that begins later.
const TAIL: usize = 64 * 1024;

pub(super) fn number_of(source: Source) -> usize {
    match source {
        Source::Stdout | Source::Worker => 0,
        Source::Stderr => 1,
    }
}

/// One source's way through the record.
pub(super) struct Track {
    pub(super) mode: Mode,
    /// Bytes of the record until now.
    pub(super) read: u64,
}

pub(super) enum Mode {
    /// So many bytes of the record are known; then these bytes of the spool are compared.
    /// What ends there was written then: a record that was cut at its beginning meanwhile has something else there.
    Skipping(u64, Option<SystemTime>, Spooled),
    /// With what the spool has.
    Comparing(Comparison, Spooled),
    /// What was written later than this is new.
    Newer(SystemTime),
    /// All of it is new.
    Appending,
}

pub(super) enum Taken {
    /// These bytes are new.
    New(Bytes),
    /// The record is not what the spool has, after so many bytes.
    Differs(u64),
}

impl Mode {
    pub(super) fn comparing(spooled: Spooled) -> Self {
        Self::Comparing(Comparison::default(), spooled)
    }
}

impl Track {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, read: 0 }
    }

    pub(super) async fn take(
        &mut self,
        mut bytes: Bytes,
        time: Option<SystemTime>,
    ) -> io::Result<Taken> {
        let before = self.read;
        self.read += bytes.len() as u64;
        if let Mode::Skipping(known, written, spooled) = &mut self.mode {
            let rest = known.saturating_sub(before);
            let ends_here = rest > 0 && rest <= bytes.len() as u64;
            if ends_here && *written != time {
                return Ok(Taken::Differs(before));
            }
            if rest >= bytes.len() as u64 {
                return Ok(Taken::New(Bytes::new()));
            }
            bytes = bytes.split_off(usize::try_from(rest).unwrap_or(usize::MAX));
            self.mode = Mode::comparing(mem::replace(spooled, Spooled::These(Vec::new())));
        }
        if let Mode::Newer(known) = self.mode {
            if time <= Some(known) {
                return Ok(Taken::New(Bytes::new()));
            }
            self.mode = Mode::Appending;
        }
        let Mode::Comparing(comparison, spooled) = &mut self.mode else {
            return Ok(Taken::New(bytes));
        };
        comparison.logged(&bytes);
        loop {
            match comparison.step() {
                Compared::WantsSpooled => spooled.give(comparison).await?,
                Compared::WantsLogged => return Ok(Taken::New(Bytes::new())),
                Compared::Differs(at) => return Ok(Taken::Differs(at)),
                Compared::Whole(new) => {
                    self.mode = Mode::Appending;
                    return Ok(Taken::New(new.into()));
                }
            }
        }
    }
}

/// One source's bytes in the spool.
pub(super) enum Spooled {
    /// From a cursor on.
    From(Box<dyn LogCursor>, Source),
    /// These alone.
    These(Vec<u8>),
}

impl Spooled {
    async fn give(&mut self, comparison: &mut Comparison) -> io::Result<()> {
        match self {
            Self::These(bytes) => {
                comparison.spooled(bytes);
                comparison.spool_is_over();
            }
            Self::From(cursor, source) => match next_bytes(cursor.as_mut(), *source).await? {
                Some(bytes) => comparison.spooled(&bytes),
                None => comparison.spool_is_over(),
            },
        }
        Ok(())
    }
}

/// The next bytes of a source; `None` at the end.
async fn next_bytes(cursor: &mut dyn LogCursor, source: Source) -> io::Result<Option<Vec<u8>>> {
    loop {
        let (lines, newline): (_, &[u8]) = match cursor.next().await? {
            LogItem::Lines(lines) => (lines, b"\n"),
            LogItem::CaughtUp => (cursor.take_unfinished(), b""),
            LogItem::End(_) => return Ok(None),
        };
        let is_end = newline.is_empty();
        let mut bytes = Vec::new();
        for line in lines.into_iter().filter(|line| line.source == source) {
            bytes.extend_from_slice(&line.bytes);
            if !line.continued {
                bytes.extend_from_slice(newline);
            }
        }
        if is_end || !bytes.is_empty() {
            return Ok((!bytes.is_empty()).then_some(bytes));
        }
    }
}

/// The last whole lines of a source, and what follows them.
pub(super) async fn tail(
    mut cursor: Box<dyn LogCursor>,
    source: Source,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut tail, mut is_cut) = (Vec::new(), false);
    while let Some(bytes) = next_bytes(cursor.as_mut(), source).await? {
        tail.extend_from_slice(&bytes);
        if tail.len() > 2 * TAIL {
            tail.drain(..tail.len() - TAIL);
            is_cut = true;
        }
    }
    let after = |newline: Option<usize>| newline.map_or(0, |newline| newline + 1);
    if is_cut {
        let first = after(tail.iter().position(|byte| *byte == b'\n'));
        tail.drain(..first);
    }
    let unfinished = tail.split_off(after(tail.iter().rposition(|byte| *byte == b'\n')));
    Ok((tail, unfinished))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_skipped_must_end_with_what_was_found_there() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let skipping = || Mode::Skipping(4, at(2), Spooled::These(Vec::new()));
        let mut same = Track::new(skipping());
        let mut cut = Track::new(skipping());

        for (time, text, new) in [(1, "1\n", ""), (2, "2\n3\n", "3\n")] {
            let taken = same.take(Bytes::from(text), at(time)).await.unwrap();
            assert!(matches!(taken, Taken::New(bytes) if bytes == new));
        }
        // The first file of the record has gone between the search and this.
        let first = cut.take(Bytes::from("7\n"), at(7)).await.unwrap();
        assert!(matches!(first, Taken::New(bytes) if bytes.is_empty()));
        let second = cut.take(Bytes::from("8\n9\n"), at(8)).await.unwrap();
        assert!(matches!(second, Taken::Differs(2)));
    }
}
