//! Where a stream of output, which began somewhere within the engine's record of the same output, goes on beyond that record.
//! Nobody tells where it began; so the record's last lines must be the stream's first ones, and at one place only.

use super::log_overlap::{Compared, Comparison, Line, TailSearch, fallbacks, lines_of};

/// How a stream and a record hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// So many bytes of the stream are in the record; what follows is beyond both.
    At(usize),
    /// The stream has brought nothing.
    Silent,
    /// It cannot be told yet: there is no whole line that was due, or not the whole of what the record has.
    Early,
    /// They have no place in common, or several.
    Unknown,
}

/// Joins the end of a record with the beginning of a stream. The first `due` bytes of the stream came early enough for the
/// record to have them, as far as they are whole lines; and the record was read early enough for the stream to have all of it.
///
/// Since the truth is a place where they agree, it is that place where there is one alone.
#[must_use]
pub fn join(recorded: &[u8], streamed: &[u8], due: usize) -> Joint {
    if streamed.is_empty() {
        return Joint::Silent;
    }
    let is_newline = |byte: &&u8| **byte == b'\n';
    let due = streamed[..due.min(streamed.len())].iter();
    let due = due.filter(is_newline).count();
    if due == 0 {
        return Joint::Early;
    }
    let recorded = Lines::of(recorded);
    // It may begin within a line; then it begins with the end of one.
    let streamed = Lines::of(streamed);
    let mut found = None;
    for behind in overlaps(&streamed.hashes[1..], &recorded.hashes) {
        let lines = behind + 1;
        let Some(first) = recorded.ends.len().checked_sub(lines) else {
            continue;
        };
        if lines < due || ends_with(recorded.line(first), streamed.line(0)).is_none() {
            continue;
        }
        match after(&streamed, lines, recorded.rest()) {
            Ok(_) if found.is_some() => return Joint::Unknown,
            Ok(place) => found = Some(place),
            Err(Joint::Early) => return Joint::Early,
            Err(_) => {}
        }
    }
    match found {
        Some(at) => Joint::At(at),
        None => Joint::Unknown,
    }
}

/// Whether all whole lines of a record stand one after another in a stream, which began before them.
#[must_use]
pub fn contains(streamed: &[u8], recorded: &[u8]) -> bool {
    TailSearch::new(recorded)
        .is_some_and(|mut search| lines_of(streamed).any(|line| search.push(line)))
}

/// How many bytes of a stream are those of the record, whose whole lines end with so many of its lines, and then goes on.
fn after(streamed: &Lines<'_>, lines: usize, rest: &[u8]) -> Result<usize, Joint> {
    let whole = streamed.ends[lines - 1];
    let mut comparison = Comparison::default();
    comparison.spooled(&streamed.bytes[whole..]);
    comparison.logged(rest);
    match comparison.step() {
        Compared::WantsLogged => Ok(streamed.bytes.len() - comparison.spooled_rest()),
        Compared::WantsSpooled if rest.is_empty() => Ok(whole),
        Compared::WantsSpooled => Err(Joint::Early),
        Compared::Whole(_) | Compared::Differs(_) => Err(Joint::Unknown),
    }
}

/// How many first lines of `beginning` may be the last ones of `lines`, the most first; 0 at last.
fn overlaps(beginning: &[u64], lines: &[u64]) -> impl Iterator<Item = usize> {
    let fallback = fallbacks(beginning);
    let longest = longest(beginning, lines).last().unwrap_or_default();
    std::iter::successors(Some(longest), move |matched| {
        (*matched > 0).then(|| fallback[*matched])
    })
}

/// After each of the lines: how many first ones of `beginning` are the last ones until there.
fn longest<'a>(beginning: &'a [u64], lines: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
    let fallback = fallbacks(beginning);
    lines.iter().scan(0, move |matched, line| {
        while *matched > 0 && beginning.get(*matched) != Some(line) {
            *matched = fallback[*matched];
        }
        if beginning.get(*matched) == Some(line) {
            *matched += 1;
        }
        Some(*matched)
    })
}

/// Some bytes as whole lines, and a rest.
struct Lines<'a> {
    bytes: &'a [u8],
    hashes: Vec<u64>,
    /// Behind the newline of each.
    ends: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let end = |line: &Line| usize::try_from(line.end).unwrap_or(usize::MAX);
        let (hashes, ends) = lines_of(bytes).map(|line| (line.hash, end(&line))).unzip();
        Self {
            bytes,
            hashes,
            ends,
        }
    }

    fn line(&self, number: usize) -> &'a [u8] {
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[number]]
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.ends.last().copied().unwrap_or_default()..]
    }
}

/// What a stream lacks of its first line: those bytes of the record's line that are neither in the spool, which ends within
/// that line, nor in the stream. `None`: it is another line.
#[must_use]
pub fn missing_head<'a>(recorded: &'a [u8], spooled: &[u8], streamed: &[u8]) -> Option<&'a [u8]> {
    let before = ends_with(recorded, streamed)?;
    let before = &recorded[..before];
    let mut comparison = Comparison::default();
    comparison.spooled(spooled);
    comparison.spool_is_over();
    comparison.logged(before);
    Some(match comparison.step() {
        Compared::Whole(rest) => &before[before.len() - rest.len()..],
        Compared::WantsLogged => &[],
        // The engine that read the beginning died with it, and what it had sent is in the spool.
        Compared::WantsSpooled | Compared::Differs(_) => before,
    })
}

/// Where the stream's bytes begin in the record's, if they are its end: a row of bytes that are not ASCII is the same as what
/// the record made of it.
fn ends_with(recorded: &[u8], streamed: &[u8]) -> Option<usize> {
    if recorded.ends_with(streamed) {
        return Some(recorded.len() - streamed.len());
    }
    let (mut recorded, mut streamed) = (recorded, streamed);
    while let Some((last, before)) = streamed.split_last() {
        let (wanted, rest) = recorded.split_last()?;
        if last.is_ascii() {
            if wanted != last {
                return None;
            }
            (recorded, streamed) = (rest, before);
        } else {
            if wanted.is_ascii() {
                return None;
            }
            (recorded, streamed) = (without_foreign(recorded), without_foreign(streamed));
        }
    }
    Some(recorded.len())
}

/// Without the bytes at the end that are not ASCII.
fn without_foreign(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(u8::is_ascii);
    &bytes[..end.map_or(0, |end| end + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_began_within_the_record_goes_on_behind_it() {
        let output = b"one\ntwo\nthree\nfour\nfive\n";

        // Before every byte of `two` and `three`; the record ends with `four`.
        for began in 4..13 {
            let streamed = &output[began..];
            let told = join(&output[..19], streamed, 14 - began);
            assert_eq!(told, Joint::At(19 - began), "began at {began}");
        }
    }

    #[test]
    fn a_stream_without_a_whole_line_says_nothing_yet() {
        assert_eq!(join(b"one\n", b"", 0), Joint::Silent);
        assert_eq!(join(b"one\n", b"tw", 2), Joint::Early);
        // It came while the record was read.
        assert_eq!(join(b"one\n", b"two\n", 0), Joint::Early);
    }

    #[test]
    fn a_record_that_ends_within_a_line_is_joined_there() {
        assert_eq!(join(b"1\n2\n3 half of", b"2\n3 ha", 2), Joint::Early);
        assert_eq!(join(b"1\n2\n3 ha", b"2\n3 half of", 2), Joint::At(6));
    }

    #[test]
    fn lines_that_say_the_same_are_no_place() {
        assert_eq!(
            join(b"tick\ntick\ntick\n", b"tick\ntick\n", 5),
            Joint::Unknown
        );
        assert_eq!(join(b"tick\n", b"tock\n", 5), Joint::Unknown);
        assert_eq!(join(b"a\ntick\n", b"tick\n", 5), Joint::At(5));
    }

    #[test]
    fn a_stream_has_its_bytes_where_the_record_replaced_them() {
        let streamed = b"\xff.\ncaf\xe9\nnext\n";
        let recorded = "\u{fffd}\u{fffd}.\ncaf\u{fffd}\n".as_bytes();

        assert_eq!(join(recorded, streamed, 8), Joint::At(8));
    }

    #[test]
    fn what_is_told_is_always_the_truth() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut told_places = 0;
        for letters in [1, 2, 3, 50] {
            for _ in 0..20_000 {
                let line = |random: &mut fastrand::Rng| {
                    let text = u8::try_from(random.usize(..letters)).unwrap() + b'A';
                    vec![text; random.usize(..3)].into_iter().chain([b'\n'])
                };
                let output: Vec<u8> = (0..12).flat_map(|_| line(&mut random)).collect();
                let began = random.usize(..output.len());
                let streamed = &output[began..];
                let due = random.usize(..=streamed.len());
                // The record has the whole lines that were due, and perhaps more.
                let whole = output[..began + due]
                    .iter()
                    .rposition(|byte| *byte == b'\n');
                let at_least = whole.map_or(0, |newline| newline + 1);
                let later: Vec<usize> = (at_least..=output.len())
                    .filter(|end| *end == 0 || output[end - 1] == b'\n')
                    .collect();
                let ends = later[random.usize(..later.len())];
                let known = random.usize(began.max(ends)..=output.len());

                match join(
                    &output[..ends],
                    &output[began..known],
                    due.min(known - began),
                ) {
                    Joint::At(at) => {
                        told_places += 1;
                        assert_eq!(began + at, ends, "{output:?} from {began}, due {due}");
                    }
                    Joint::Silent | Joint::Early | Joint::Unknown => {}
                }
            }
        }
        assert!(told_places > 10_000, "{told_places}");
    }

    #[test]
    fn a_stream_that_began_before_a_record_contains_it() {
        assert!(contains(b"f of 1\n2\n3\n4\n", b"2\n3\n"));
        assert!(!contains(b"2\n3\n", b"1\n2\n"));
        assert!(!contains(b"2\n3\n", b"3\n4\n"));
        assert!(!contains(b"2\n3\n", b""));
    }

    #[test]
    fn the_head_of_a_line_is_what_neither_the_spool_nor_the_stream_has() {
        let line = b"begun before, ended later\n";

        assert_eq!(missing_head(line, b"", line), Some(&b""[..]));
        assert_eq!(missing_head(line, b"", b"later\n"), Some(&line[..20]));
        assert_eq!(
            missing_head(line, b"begun ", b"ended later\n"),
            Some(&b"before, "[..])
        );
        assert_eq!(
            missing_head(line, b"begun before, ", b"ended later\n"),
            Some(&b""[..])
        );
        assert_eq!(missing_head(line, b"", b"other\n"), None);
        // What was begun is lost in the record.
        assert_eq!(
            missing_head(b"later\n", b"ended ", b"later\n"),
            Some(&b""[..])
        );
        assert_eq!(
            missing_head("\u{fffd}x\n".as_bytes(), b"", b"\xffx\n"),
            Some(&b""[..])
        );
    }
}
