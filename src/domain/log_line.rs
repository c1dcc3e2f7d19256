//! From bytes as a container writes them to lines as viewers get them: split at newlines, per source, an unfinished line held
//! back until its newline, 1 MiB, or the end.

/// A longer line is sent in parts of this many bytes, the later ones marked as continuing.
pub const LINE_LIMIT: usize = 1024 * 1024;

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
    /// Where it comes from.
    pub source: Source,
    /// Microseconds since the Unix epoch: when its last byte arrived.
    pub micros: i64,
    /// What it says, as the container wrote it; may be empty, may be no UTF-8.
    pub bytes: Vec<u8>,
    /// The next line of this source goes on with it: it was too long for one.
    pub continued: bool,
}

/// Splits the bytes of each source into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl LineSplitter {
    /// Takes bytes in and gives out the lines that they finish, in order.
    pub fn push(
        &mut self,
        source: Source,
        micros: i64,
        mut bytes: &[u8],
        mut emit: impl FnMut(Line),
    ) {
        if source == Source::Worker {
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
            emit(Line {
                source,
                micros,
                bytes,
                continued: false,
            });
            return;
        }
        let held = self.held(source);
        while let Some(end) = memchr_newline(bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            Self::extend(held, source, micros, line, &mut emit);
            emit(Line {
                source,
                micros,
                bytes: std::mem::take(held),
                continued: false,
            });
            bytes = rest;
        }
        Self::extend(held, source, micros, bytes, &mut emit);
    }

    /// Gives out what is still held: the last, unfinished line of each source.
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

    fn extend(
        held: &mut Vec<u8>,
        source: Source,
        micros: i64,
        mut bytes: &[u8],
        emit: &mut impl FnMut(Line),
    ) {
        while held.len() + bytes.len() > LINE_LIMIT {
            let (part, rest) = bytes.split_at(LINE_LIMIT - held.len());
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

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// Takes an unfinished UTF-8 character off the end, so that a part of a long line never ends within one.
fn split_character(bytes: &mut Vec<u8>) -> Vec<u8> {
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
        let mut splitter = LineSplitter::default();
        let mut seen = Vec::new();
        for (source, bytes) in chunks {
            splitter.push(*source, 0, bytes, |line| {
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
