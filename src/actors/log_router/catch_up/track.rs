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
pub(super) const TAIL: usize = 64 * 1024;

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
    /// So many bytes of the record are known; then it goes on so.
    /// What ends there was written then: a record that was cut at its beginning meanwhile has something else there.
    Skipping(u64, Option<SystemTime>, Box<Self>),
    /// With what the spool has, and the record not yet, or never.
    Ahead(Ahead),
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
    /// The record goes on with these, and lacks some of so many bytes that the spool has.
    Elsewhere(Bytes, usize),
}

/// The bytes by which a spool is ahead of a record.
pub(super) struct Ahead {
    comparison: Comparison,
    bytes: usize,
    /// How much of the record was compared before, and how it ends: with the beginning of a line.
    compared: u64,
    line: Vec<u8>,
}

impl Ahead {
    fn by(bytes: &[u8]) -> Self {
        let mut comparison = Comparison::default();
        comparison.spooled(bytes);
        comparison.spool_is_over();
        Self {
            comparison,
            bytes: bytes.len(),
            compared: 0,
            line: Vec::new(),
        }
    }

    /// Takes more of the record in: what is new of it, once something is, and whether all went before that was to.
    fn take(&mut self, bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
        self.comparison.logged(bytes);
        match self.comparison.step() {
            Compared::Whole(new) => Some((new, true)),
            Compared::Differs(at) => {
                let equal = usize::try_from(at.saturating_sub(self.compared));
                let equal = &bytes[..equal.unwrap_or_default().min(bytes.len())];
                let new = match after_newline(equal) {
                    0 => [mem::take(&mut self.line), bytes.to_vec()].concat(),
                    line => bytes[line..].to_vec(),
                };
                Some((new, false))
            }
            Compared::WantsLogged | Compared::WantsSpooled => {
                self.compared += bytes.len() as u64;
                match after_newline(bytes) {
                    0 => self.line.extend_from_slice(bytes),
                    line => self.line = bytes[line..].to_vec(),
                }
                None
            }
        }
    }
}

/// Where the last line begins, if it is not the first.
fn after_newline(bytes: &[u8]) -> usize {
    let newline = bytes.iter().rposition(|byte| *byte == b'\n');
    newline.map_or(0, |newline| newline + 1)
}

impl Mode {
    pub(super) fn comparing(spooled: Spooled) -> Self {
        Self::Comparing(Comparison::default(), spooled)
    }

    pub(super) fn ahead(bytes: &[u8]) -> Self {
        Self::Ahead(Ahead::by(bytes))
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
        if let Mode::Skipping(known, written, then) = &mut self.mode {
            let rest = known.saturating_sub(before);
            let ends_here = rest > 0 && rest <= bytes.len() as u64;
            if ends_here && *written != time {
                return Ok(Taken::Differs(before));
            }
            if rest >= bytes.len() as u64 {
                return Ok(Taken::New(Bytes::new()));
            }
            bytes = bytes.split_off(usize::try_from(rest).unwrap_or(usize::MAX));
            self.mode = mem::replace(then, Mode::Appending);
        }
        if let Mode::Ahead(ahead) = &mut self.mode {
            let lost = ahead.bytes;
            let Some((new, is_whole)) = ahead.take(&bytes) else {
                return Ok(Taken::New(Bytes::new()));
            };
            self.mode = Mode::Appending;
            return Ok(if is_whole {
                Taken::New(new.into())
            } else {
                Taken::Elsewhere(new.into(), lost)
            });
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

/// The last whole lines of a source, at least so many bytes of them where there are as many, and what follows them.
pub(super) async fn tail(
    mut cursor: Box<dyn LogCursor>,
    source: Source,
    length: usize,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut tail, mut is_cut) = (Vec::new(), false);
    while let Some(bytes) = next_bytes(cursor.as_mut(), source).await? {
        tail.extend_from_slice(&bytes);
        if tail.len() > 2 * length {
            tail.drain(..tail.len() - length);
            is_cut = true;
        }
    }
    if is_cut {
        let first = tail.iter().position(|byte| *byte == b'\n');
        tail.drain(..first.map_or(0, |newline| newline + 1));
    }
    let unfinished = tail.split_off(after_newline(&tail));
    Ok((tail, unfinished))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_skipped_must_end_with_what_was_found_there() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let skipping = || Mode::Skipping(4, at(2), Box::new(Mode::Appending));
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

    async fn new_of(ahead: &[u8], record: &[&str]) -> (String, Option<usize>) {
        let mut track = Track::new(Mode::Skipping(2, None, Box::new(Mode::ahead(ahead))));
        let (mut new, mut lost) = (String::new(), None);
        for text in record {
            let bytes = Bytes::from((*text).to_owned());
            let bytes = match track.take(bytes, None).await.unwrap() {
                Taken::New(bytes) => bytes,
                Taken::Elsewhere(bytes, of) => {
                    lost = Some(of);
                    bytes
                }
                Taken::Differs(at) => panic!("differs at {at}"),
            };
            new += std::str::from_utf8(&bytes).unwrap();
        }
        (new, lost)
    }

    #[tokio::test]
    async fn what_a_record_has_later_than_the_spool_is_not_new() {
        let whole = (String::from("14\n"), None);
        assert_eq!(new_of(b"12\n13\n", &["1\n12\n13\n14\n"]).await, whole);
        assert_eq!(
            new_of(b"12\n13\n", &["1\n1", "2\n13", "\n", "14\n"]).await,
            whole
        );
        let changed = ["1\n\u{fffd}\n", "14\n"];
        assert_eq!(new_of(b"\xff\n", &changed).await, whole);
        // It has not got that far.
        assert_eq!(
            new_of(b"12\n13\n", &["1\n12\n"]).await,
            (String::new(), None)
        );
    }

    #[tokio::test]
    async fn what_a_record_has_instead_of_what_the_spool_has_is_new_from_its_line_on() {
        let lost = (String::from("14\n15\n"), Some(6));
        assert_eq!(new_of(b"12\n13\n", &["1\n14\n15\n"]).await, lost);
        assert_eq!(
            new_of(b"12\n13\n", &["1\n", "12\n1", "4\n15\n"]).await,
            lost
        );
        assert_eq!(
            new_of(b"12\n13\n", &["1\n", "1", "4\n", "15\n"]).await,
            lost
        );
    }
}
