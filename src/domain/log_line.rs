//! From bytes as a container writes them to lines as viewers get them: split at newlines, per source, an unfinished line held
//! back until its newline, 1 MiB, or the end.

use std::fmt;

/// A longer line is sent in parts of at most this many bytes, each but the last marked as continued.
pub const LINE_LIMIT: usize = 1024 * 1024;

/// A longer line costs its reader so much memory that not everybody can have it whole: it comes in parts of this many bytes where
/// too many read such lines at once.
pub const SHORT: usize = 32 * 1024;

/// Where bytes of a task's log come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The container's standard output.
    Stdout,
    /// The container's standard error.
    Stderr,
    /// The worker itself: progress of the pull, markers, the trailer. Always whole lines.
    Worker,
}

/// A line without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The source that wrote it.
    pub source: Source,
    /// Microseconds since the Unix epoch: when its last byte arrived.
    pub micros: i64,
    /// The line as the container wrote it; may be empty, may be no UTF-8.
    pub bytes: Vec<u8>,
    /// Whether the next line of this source goes on with this one, which was too long.
    pub continued: bool,
}

/// Splits the bytes of each source into lines.
pub struct LineSplitter {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes that a line, or a part of one, may have now.
    longest: usize,
    may_be_long: Box<dyn FnMut() -> bool + Send>,
}

impl fmt::Debug for LineSplitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineSplitter").finish_non_exhaustive()
    }
}

impl LineSplitter {
    /// A splitter that asks `may_be_long`, at a line over `SHORT`, whether the line may be held whole; after the first yes it asks
    /// no more.
    #[must_use]
    pub fn new(may_be_long: impl FnMut() -> bool + Send + 'static) -> Self {
        Self {
            stdout: Vec::new(),
            stderr: Vec::new(),
            longest: SHORT,
            may_be_long: Box::new(may_be_long),
        }
    }

    /// Takes bytes in and gives out the lines that they finish, in order, until it has given out `room` of them. Returns how many
    /// bytes it took.
    pub fn push(
        &mut self,
        source: Source,
        micros: i64,
        bytes: &[u8],
        room: usize,
        mut emit: impl FnMut(Line),
    ) -> usize {
        if source == Source::Worker {
            let line = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
            emit(Line {
                source,
                micros,
                bytes: line,
                continued: false,
            });
            return bytes.len();
        }
        let mut taken = 0;
        for _ in 0..room {
            let rest = &bytes[taken..];
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.extend(source, micros, rest, &mut emit);
                return bytes.len();
            };
            self.extend(source, micros, &rest[..end], &mut emit);
            emit(Line {
                source,
                micros,
                bytes: std::mem::take(self.held(source)),
                continued: false,
            });
            taken += end + 1;
        }
        taken
    }

    /// Gives out the last, unfinished line of each source.
    pub fn finish(&mut self, micros: i64, mut emit: impl FnMut(Line)) {
        for source in [Source::Stdout, Source::Stderr] {
            let bytes = std::mem::take(self.held(source));
            if !bytes.is_empty() {
                emit(Line {
                    source,
                    micros,
                    bytes,
                    continued: false,
                });
            }
        }
    }

    fn held(&mut self, source: Source) -> &mut Vec<u8> {
        match source {
            Source::Stdout | Source::Worker => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    /// The most bytes that are held of a line of that length: a longer line comes in parts of this size.
    fn longest(&mut self, length: usize) -> usize {
        if length > self.longest && self.longest < LINE_LIMIT && (self.may_be_long)() {
            self.longest = LINE_LIMIT;
        }
        self.longest
    }

    fn extend(
        &mut self,
        source: Source,
        micros: i64,
        mut bytes: &[u8],
        emit: &mut impl FnMut(Line),
    ) {
        let length = self.held(source).len() + bytes.len();
        let longest = self.longest(length);
        let held = self.held(source);
        while held.len() + bytes.len() > longest {
            let (part, rest) = bytes.split_at(longest - held.len());
            held.extend_from_slice(part);
            let kept = split_character(held);
            emit(Line {
                source,
                micros,
                bytes: std::mem::replace(held, kept),
                continued: true,
            });
            bytes = rest;
        }
        held.extend_from_slice(bytes);
    }
}

/// Takes an unfinished UTF-8 character off the end, so that a part of a long line never ends within one.
pub fn split_character(bytes: &mut Vec<u8>) -> Vec<u8> {
    let tail = bytes.len().saturating_sub(3);
    for start in tail..bytes.len() {
        if let Err(error) = std::str::from_utf8(&bytes[start..])
            && error.error_len().is_none()
            && error.valid_up_to() == 0
        {
            return bytes.split_off(start);
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[(Source, &[u8])]) -> Vec<(Source, Vec<u8>, bool)> {
        lines_of(LineSplitter::new(|| true), chunks)
    }

    fn lines_of(
        mut splitter: LineSplitter,
        chunks: &[(Source, &[u8])],
    ) -> Vec<(Source, Vec<u8>, bool)> {
        let mut seen = Vec::new();
        for (source, bytes) in chunks {
            splitter.push(*source, 0, bytes, usize::MAX, |line| {
                seen.push((line.source, line.bytes, line.continued))
            });
        }
        splitter.finish(0, |line| {
            seen.push((line.source, line.bytes, line.continued))
        });
        seen
    }

    #[test]
    fn a_line_is_held_until_its_newline_comes() {
        use Source::{Stderr, Stdout};

        let seen = lines(&[(Stdout, b"a"), (Stderr, b"err\n"), (Stdout, b"b\n\nlast")]);

        assert_eq!(
            seen,
            [
                (Stderr, b"err".to_vec(), false),
                (Stdout, b"ab".to_vec(), false),
                (Stdout, b"".to_vec(), false),
                (Stdout, b"last".to_vec(), false),
            ]
        );
    }

    #[test]
    fn a_line_over_the_limit_comes_in_parts_that_split_no_character() {
        let mut long = vec![b'x'; LINE_LIMIT - 1];
        long.extend_from_slice("é".as_bytes());
        long.push(b'\n');

        let seen = lines(&[(Source::Stdout, &long)]);

        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].1.len(), seen[0].2), (LINE_LIMIT - 1, true));
        assert_eq!((seen[1].1.as_slice(), seen[1].2), ("é".as_bytes(), false));
    }

    #[test]
    fn a_long_line_comes_in_short_parts_where_it_may_not_be_held_whole() {
        let mut answers = [false, true].into_iter();
        let asked = LineSplitter::new(move || answers.next().expect("asked no more once it may"));
        let long = [vec![b'x'; SHORT + 1], vec![b'\n']].concat();

        let seen = lines_of(asked, &[(Source::Stdout, &long), (Source::Stderr, &long)]);
        let shape: Vec<_> = seen
            .iter()
            .map(|(_, line, more)| (line.len(), *more))
            .collect();

        assert_eq!(shape, [(SHORT, true), (1, false), (SHORT + 1, false)]);
    }

    #[test]
    fn no_more_lines_come_out_than_there_is_room_for() {
        let mut splitter = LineSplitter::new(|| true);
        let mut seen = Vec::new();
        let bytes = b"a\n\nb\nc";

        let taken = splitter.push(Source::Stdout, 0, bytes, 2, |line| seen.push(line.bytes));
        let rest = splitter.push(Source::Stdout, 0, &bytes[taken..], 2, |line| {
            seen.push(line.bytes)
        });

        assert_eq!((taken, rest), (3, bytes.len() - 3));
        assert_eq!(seen, [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
        assert_eq!(
            splitter.push(Source::Stdout, 0, b"\n", 0, |_| panic!("no room")),
            0
        );
    }

    #[test]
    fn every_byte_comes_out_once_whatever_the_chunks() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        for size in [1, 7, 4_096, text.len()] {
            let chunks: Vec<_> = text
                .chunks(size)
                .map(|chunk| (Source::Stdout, chunk))
                .collect();

            let mut joined = Vec::new();
            for (_, bytes, _) in lines(&chunks) {
                joined.extend_from_slice(&bytes);
                joined.push(b'\n');
            }

            assert_eq!(joined, text, "chunks of {size}");
        }
    }
}
