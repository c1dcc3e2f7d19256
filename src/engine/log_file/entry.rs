//! One entry of the `local` log driver: its length, a protobuf message, its length again (big endian, four bytes each).
//!
//! Source: moby, `daemon/logger/local` and `api/types/plugins/logdriver/entry.proto`; the same from Docker 20.10 to 29.

use bytes::Bytes;
use prost::Message;

use crate::domain::log_line::Source;

/// Bytes of one of the two lengths.
pub(super) const LENGTH: usize = 4;

/// Bytes of the longest message: the engine splits lines after 16 KiB, and adds little.
pub(super) const LONGEST: usize = 64 * 1024;

/// The place of an entry in a line that is longer than the engine's buffer, which comes in parts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Part {
    #[prost(bool, tag = "1")]
    pub(super) last: bool,
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(int32, tag = "3")]
    pub(super) ordinal: i32,
}

/// An entry's message.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Written {
    /// `stdout` or `stderr`.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) source: Bytes,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub(super) time_nano: i64,
    /// Without its newline.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) line: Bytes,
    #[prost(bool, tag = "4")]
    pub(super) partial: bool,
    #[prost(message, optional, tag = "5")]
    pub(super) part: Option<Part>,
}

/// A decoded entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) source: Source,
    pub(super) line: Bytes,
    pub(super) has_newline: bool,
    /// When it was written, in nanoseconds since the epoch.
    pub(super) written: i64,
    /// Bytes in the file, lengths included.
    pub(super) size: usize,
}

/// What the bytes at a place of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Entry(Entry),
    /// An entry whose end is not there (yet).
    Unfinished,
    /// Not the beginning of an entry.
    Nothing,
}

/// Reads the entry at the beginning of these bytes. An entry that lacks just its second length is none, although the first length of
/// an equally long entry behind it stands in that place.
pub(super) fn read(bytes: &Bytes) -> Found {
    let found = read_one(bytes);
    let Found::Entry(entry) = &found else {
        return found;
    };
    match read_one(&bytes.slice(entry.size - LENGTH..)) {
        Found::Entry(_) => Found::Nothing,
        Found::Unfinished | Found::Nothing => found,
    }
}

fn read_one(bytes: &Bytes) -> Found {
    let Some(length) = length_at(bytes, 0) else {
        return Found::Unfinished;
    };
    if length == 0 || length > LONGEST {
        return Found::Nothing;
    }
    let Some(again) = length_at(bytes, LENGTH + length) else {
        return Found::Unfinished;
    };
    if again != length {
        return Found::Nothing;
    }
    let message = bytes.slice(LENGTH..LENGTH + length);
    entry(message).map_or(Found::Nothing, Found::Entry)
}

/// The length in the four bytes at `at`; `None` where there are fewer.
pub(super) fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk::<LENGTH>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

fn entry(message: Bytes) -> Option<Entry> {
    let size = message.len() + 2 * LENGTH;
    let written = Written::decode(message).ok()?;
    let source = match &written.source[..] {
        b"stdout" => Source::Stdout,
        b"stderr" => Source::Stderr,
        _ => return None,
    };
    let is_last = written.part.is_some_and(|part| part.last);
    Some(Entry {
        source,
        line: written.line,
        has_newline: !written.partial || is_last,
        written: written.time_nano,
        size,
    })
}

/// An entry's bytes, as the engine writes them.
#[cfg(test)]
pub(super) fn bytes_of(written: &Written) -> Vec<u8> {
    let message = written.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&length[..], &message, &length].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &'static str) -> Written {
        Written {
            source: "stderr".into(),
            time_nano: 7,
            line: text.into(),
            ..Written::default()
        }
    }

    #[test]
    fn an_entry_without_its_second_length_does_not_borrow_one() {
        let (torn, next) = (bytes_of(&line("\0\0\0")), bytes_of(&line("two")));
        let cut = torn.len() - LENGTH;
        let file = Bytes::from([&torn[..cut], &next].concat());

        assert_eq!(read(&file), Found::Nothing);
        assert!(matches!(read(&file.slice(cut..)), Found::Entry(entry) if entry.line == "two"));
        let whole = Bytes::from([torn, next].concat());
        assert!(matches!(read(&whole), Found::Entry(entry) if entry.line == "\0\0\0"));
    }

    fn part(last: bool) -> Written {
        Written {
            partial: true,
            part: Some(Part {
                last,
                id: "an id".into(),
                ordinal: 1,
            }),
            ..line("a part")
        }
    }

    fn read_back(written: &Written) -> Entry {
        match read(&bytes_of(written).into()) {
            Found::Entry(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    /// The first two entries of a container's file, as Docker 20.10 wrote them.
    #[test]
    fn what_an_engine_wrote_is_read() {
        let file = b"\0\0\0\x16\x0a\x06stdout\x10\x88\xde\xe0\x94\xc7\x86\xf7\xf5\x18\x1a\x02hi\0\0\0\x16\
                     \0\0\0\x17\x0a\x06stderr\x10\x91\xd0\xef\x94\xc7\x86\xf7\xf5\x18\x1a\x03err\0\0\0\x17";
        let mut file = Bytes::from_static(file);
        let mut lines = Vec::new();

        while let Found::Entry(entry) = read(&file) {
            file = file.slice(entry.size..);
            lines.push((entry.source, entry.line, entry.has_newline));
        }

        assert!(file.is_empty());
        assert_eq!(
            lines,
            [
                (Source::Stdout, "hi".into(), true),
                (Source::Stderr, "err".into(), true)
            ]
        );
    }

    #[test]
    fn a_newline_follows_what_is_no_part_and_the_last_part() {
        assert!(read_back(&line("whole")).has_newline);
        assert!(!read_back(&part(false)).has_newline);
        assert!(read_back(&part(true)).has_newline);
        let without_metadata = Written {
            part: None,
            ..part(false)
        };
        assert!(!read_back(&without_metadata).has_newline);
    }

    #[test]
    fn an_entry_that_is_cut_anywhere_is_unfinished() {
        let whole = bytes_of(&line("some line"));

        for end in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..end]);
            assert_eq!(read(&cut), Found::Unfinished, "{end}");
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let mut other_length = bytes_of(&line("some line"));
        *other_length.last_mut().unwrap() += 1;
        let stranger = Written {
            source: "stdin".into(),
            ..line("some line")
        };
        let no_message = [&[0, 0, 0, 2][..], &[0xFF; 2], &[0, 0, 0, 2]].concat();
        let too_long = u32::try_from(LONGEST + 1).unwrap().to_be_bytes().to_vec();

        for bytes in [
            vec![0; 64],
            other_length,
            bytes_of(&stranger),
            no_message,
            too_long,
        ] {
            assert_eq!(read(&Bytes::from(bytes)), Found::Nothing);
        }
    }
}
