//! A log's bytes as they are printed. Pure. On a terminal, what would move its cursor or change its colours is escaped; newlines
//! and tabs stay.

use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;

use crate::{
    domain::log_line::Source,
    ports::spool::{Span, Stretch},
};

/// How a log is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// The container's bytes and nothing else.
    Raw,
    /// With the worker's lines; each line stands alone, even where stdout and stderr mix.
    Readable {
        /// Each line begins with its time.
        timestamps: bool,
        /// Control characters are escaped, as for a terminal.
        escaped: bool,
    },
}

/// Turns the stretches of one log into text, in order.
pub(super) struct Show {
    style: Style,
    /// The source of a line that has no end yet.
    open: Option<Source>,
    /// The first bytes of a character whose rest has not come: on stdout, on stderr.
    cut: [Vec<u8>; 2],
}

impl Show {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            open: None,
            cut: [Vec::new(), Vec::new()],
        }
    }

    /// The text to print for a stretch.
    pub(super) fn stretch(&mut self, stretch: &Stretch) -> Vec<u8> {
        let mut out = Vec::with_capacity(stretch.bytes.len());
        let mut rest = &stretch.bytes[..];
        for span in &stretch.spans {
            let (bytes, after) = rest.split_at(span.len.min(rest.len()));
            rest = after;
            match self.style {
                Style::Raw if span.source == Source::Worker => {}
                Style::Raw => out.extend_from_slice(bytes),
                Style::Readable {
                    timestamps,
                    escaped,
                } => self.readable(*span, bytes, timestamps, escaped, &mut out),
            }
        }
        out
    }

    /// The text to print at the end: bytes that were held back, and of a log that is over its last line.
    pub(super) fn finish(&mut self, trailer: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        let Style::Readable { .. } = self.style else {
            return out;
        };
        for cut in &mut self.cut {
            escape(cut, true, &mut out);
            cut.clear();
        }
        if let Some(trailer) = trailer {
            if self.open.is_some() {
                out.push(b'\n');
            }
            escape(trailer.as_bytes(), true, &mut out);
            out.push(b'\n');
        }
        out
    }

    fn readable(
        &mut self,
        span: Span,
        bytes: &[u8],
        timestamps: bool,
        escaped: bool,
        out: &mut Vec<u8>,
    ) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.open.is_some_and(|open| open != span.source) {
                // What two streams write never makes one line.
                out.push(b'\n');
                self.open = None;
            }
            if self.open.is_none() && timestamps {
                out.extend_from_slice(time(span.micros).as_bytes());
            }
            let is_ended = line.ends_with(b"\n");
            match escaped {
                true => self.escaped(span.source, line, is_ended, out),
                false => out.extend_from_slice(line),
            }
            self.open = (!is_ended).then_some(span.source);
        }
    }

    /// Escapes a piece; a character that is cut by the piece's end waits for its rest.
    fn escaped(&mut self, source: Source, line: &[u8], is_ended: bool, out: &mut Vec<u8>) {
        let cut = match source {
            Source::Stdout => &mut self.cut[0],
            Source::Stderr => &mut self.cut[1],
            Source::Worker => {
                escape(line, true, out);
                return;
            }
        };
        let taken = std::mem::take(cut);
        let whole = match taken.is_empty() {
            true => line.to_vec(),
            false => [taken, line.to_vec()].concat(),
        };
        let rest = escape(&whole, is_ended, out);
        *cut = rest.to_vec();
    }
}

/// Appends text with control characters escaped. Returns the first bytes of a character that has no end yet, unless `is_all`: no
/// more will come.
fn escape<'a>(bytes: &'a [u8], is_all: bool, out: &mut Vec<u8>) -> &'a [u8] {
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => out.push(character as u8),
                _ if character.is_control() => {
                    out.extend(character.escape_default().map(|ascii| ascii as u8));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        at += chunk.valid().len();
        let invalid = chunk.invalid();
        if !is_all && !invalid.is_empty() && at + invalid.len() == bytes.len() && is_begun(invalid)
        {
            return invalid;
        }
        out.extend(
            invalid
                .iter()
                .flat_map(|byte| std::ascii::escape_default(*byte)),
        );
        at += invalid.len();
    }
    &[]
}

/// Whether these are the first bytes of a character.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// A line's time, in UTC to the microsecond: `2026-11-23T18:29:22.929123Z `.
fn time(micros: i64) -> String {
    let since = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    Timestamp::try_from(UNIX_EPOCH + since).map_or_else(|_| String::new(), |at| format!("{at:.6} "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const READABLE: Style = Style::Readable {
        timestamps: false,
        escaped: true,
    };

    fn stretch(pieces: &[(Source, &[u8])]) -> Stretch {
        let mut stretch = Stretch::default();
        let mut bytes = Vec::new();
        for (source, content) in pieces {
            bytes.extend_from_slice(content);
            stretch.spans.push(Span {
                source: *source,
                offset: 0,
                micros: 1_500_000,
                len: content.len(),
                interrupts: false,
            });
        }
        stretch.bytes = bytes.into();
        stretch
    }

    fn shown(style: Style, pieces: &[(Source, &[u8])], trailer: Option<&str>) -> String {
        let mut show = Show::new(style);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(show.stretch(&stretch(&[*piece])));
        }
        out.extend(show.finish(trailer));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_is_shown_nothing_that_it_would_heed() {
        let hostile: &[u8] = b"a\x1b[2J\tb\r\x07\xff\n\xc2\x9b1m";

        let told = shown(READABLE, &[(Source::Stdout, hostile)], None);

        assert_eq!(told, "a\\u{1b}[2J\tb\\r\\u{7}\\xff\n\\u{9b}1m");
    }

    #[test]
    fn a_character_that_is_cut_between_two_pieces_is_whole() {
        let [a, b] = [&"é".as_bytes()[..1], &"é".as_bytes()[1..]];

        let told = shown(
            READABLE,
            &[
                (Source::Stdout, a),
                (Source::Stderr, b"x\n"),
                (Source::Stdout, b),
            ],
            None,
        );
        assert_eq!(told, "\nx\né");
        assert_eq!(shown(READABLE, &[(Source::Stdout, a)], None), "\\xc3");
    }

    #[test]
    fn two_streams_never_make_one_line_and_the_end_stands_alone() {
        let pieces: &[(Source, &[u8])] = &[
            (Source::Stdout, b"half"),
            (Source::Stderr, b"other\nmore"),
            (Source::Worker, b"[worker-node] marker\n"),
        ];

        let told = shown(READABLE, pieces, Some("[worker-node] succeeded"));

        assert_eq!(
            told,
            "half\nother\nmore\n[worker-node] marker\n[worker-node] succeeded\n"
        );
    }

    #[test]
    fn each_line_begins_with_its_time() {
        let style = Style::Readable {
            timestamps: true,
            escaped: false,
        };

        let told = shown(
            style,
            &[(Source::Stdout, b"a\nb"), (Source::Stdout, b"c\n")],
            None,
        );

        assert_eq!(
            told,
            "1970-01-01T00:00:01.500000Z a\n1970-01-01T00:00:01.500000Z bc\n"
        );
    }

    proptest! {
        #[test]
        fn raw_output_is_what_the_container_wrote(
            pieces in prop::collection::vec((0..3_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|(source, bytes)| {
                    let source = [Source::Stdout, Source::Stderr, Source::Worker][usize::from(*source)];
                    (source, bytes.as_slice())
                })
                .collect();
            let mut show = Show::new(Style::Raw);

            let mut out = show.stretch(&stretch(&pieces));
            out.extend(show.finish(Some("end")));

            let written = pieces.iter().filter(|(source, _)| *source != Source::Worker);
            let written: Vec<u8> = written.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
            prop_assert_eq!(out, written);
        }

        #[test]
        fn no_control_character_comes_through(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize) {
            let (one, other) = bytes.split_at(cut.min(bytes.len()));
            let told = shown(READABLE, &[(Source::Stdout, one), (Source::Stdout, other)], None);
            let heeded = told.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
            prop_assert_eq!(heeded, None);
        }
    }
}
