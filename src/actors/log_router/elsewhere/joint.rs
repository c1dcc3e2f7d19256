//! Searches the engine's record for the end of a log that was read from a stream without times.

use std::{
    io,
    time::{Duration, SystemTime},
};

use futures_util::future::join;

use super::{SLACK, marks::Mark};
use crate::{
    actors::log_router::reader::{Patience, Work},
    domain::{
        log_joint::{Search, Tail},
        log_line::Source,
    },
    ports::{
        engine::EngineError,
        spool::{LogCursor, LogItem},
    },
};

/// The result of the search.
pub(super) enum Joint {
    /// The record goes on at this mark; the parts of lines behind the log's last newlines come again.
    At(Mark, [Vec<u8>; 2]),
    /// Not found, or at more than one place. The log ends about at this time, by the engine's clock.
    Unknown(SystemTime),
}

/// The end of one source in the log.
#[derive(Default)]
struct End {
    tail: Tail,
    /// When its last byte came, by this machine's clock.
    came: Option<SystemTime>,
    /// When its last newline came.
    newline: Option<SystemTime>,
}

impl End {
    fn take(&mut self, bytes: &[u8], micros: i64) {
        let micros = u64::try_from(micros).unwrap_or_default();
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        self.tail.push(bytes);
        self.came = Some(time);
        if bytes.ends_with(b"\n") {
            self.newline = Some(time);
        }
    }

    /// When the text to be searched was written, about: the last whole line, which lies before all parts of a longer one.
    fn begins(&self) -> Option<SystemTime> {
        let beginning = self.tail.has_parts().then_some(SystemTime::UNIX_EPOCH);
        self.newline.or(beginning)
    }
}

/// From when on the record must be read so that it has the ends to be searched, and which sources these are. A source that was
/// silent while the other one wrote has its end well before that time, or none: both come in one stream.
fn sought(ends: &[End; 2], last: SystemTime) -> (SystemTime, [bool; 2]) {
    let before = |time: SystemTime| time.checked_sub(SLACK).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut since, mut is_sought) = (before(last), [false; 2]);
    // The second source may move the time to before the first source's end.
    for number in [0, 1, 0] {
        if let Some(begins) = ends[number].begins()
            && (begins > before(since) || ends[number].tail.has_parts())
        {
            is_sought[number] = true;
            since = since.min(before(begins));
        }
    }
    (since, is_sought)
}

async fn ends(mut cursor: Box<dyn LogCursor>) -> io::Result<[End; 2]> {
    let mut ends = <[End; 2]>::default();
    let of = |source| match source {
        Source::Stdout => Some(0),
        Source::Stderr => Some(1),
        Source::Worker => None,
    };
    while let LogItem::Lines(lines) = cursor.next().await? {
        for mut line in lines {
            if !line.continued {
                line.bytes.push(b'\n');
            }
            if let Some(number) = of(line.source) {
                ends[number].take(&line.bytes, line.micros);
            }
        }
    }
    for line in cursor.take_unfinished() {
        if let Some(number) = of(line.source) {
            ends[number].take(&line.bytes, line.micros);
        }
    }
    Ok(ends)
}

/// Searches the end of the log in what was written about when it came. Clocks only bound what is read: where they are wrong, or
/// the stream lagged by more than [`SLACK`], the end is not found. One limit: then it may be found where the container wrote the
/// same again, if that is at one place alone.
pub(super) async fn find(work: &Work) -> Result<Joint, EngineError> {
    let looked = join(ends(work.spool.cursor()), work.engine.time());
    let (ends, engine_now) = work.progress.during(looked).await;
    let now = work.clock.now();
    let engine_now = engine_now?;
    // A time of this machine in the engine's time.
    let then = |time| {
        let age = now.duration_since(time).unwrap_or_default();
        engine_now
            .checked_sub(age)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let ends = ends.map_err(|error| EngineError::Failed(error.to_string()))?;
    let Some(last) = ends.iter().filter_map(|end| end.came).max() else {
        return Ok(Joint::Unknown(SystemTime::UNIX_EPOCH));
    };
    let (since, is_sought) = sought(&ends, last);
    let since = then(since);
    let mut searches = ends.each_ref().map(|end| Search::new(&end.tail));
    let first = look_through(work, since, then(last) + SLACK, &mut searches).await?;
    // Every end that was searched must be at one place alone.
    let mut passed = [0; 2];
    for number in 0..2 {
        if is_sought[number] {
            match searches[number].place() {
                Some(place) => passed[number] = place,
                None => return Ok(Joint::Unknown(then(last))),
            }
        }
    }
    let open = ends.map(|end| end.tail.open().to_vec());
    let mark = Mark {
        since,
        first,
        passed,
    };
    Ok(Joint::At(mark, open))
}

/// Reads what was written between two times into the searches; returns when the first entry was written.
async fn look_through(
    work: &Work,
    since: SystemTime,
    until: SystemTime,
    searches: &mut [Search<'_>; 2],
) -> Result<Option<SystemTime>, EngineError> {
    let mut frames = work.engine.logs(&work.container, since).await?;
    let mut patience = Patience::new(work);
    let mut first = None;
    while let Some(frame) = patience.next(&mut frames).await? {
        let frame = frame?;
        if frame.time > Some(until) {
            break;
        }
        first = first.or(frame.time);
        searches[usize::from(frame.source == Source::Stderr)].push(&frame.bytes);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The end of a source that brought this, at these seconds.
    fn end(came: &[(i64, &str)]) -> End {
        let mut end = End::default();
        for (seconds, text) in came {
            end.take(text.as_bytes(), seconds * SECOND);
        }
        end
    }

    #[test]
    fn a_source_that_was_silent_for_long_is_not_looked_for() {
        let begun = end(&[(5, "one\n")]);
        let ends = [begun, end(&[(100, "two\n")])];
        assert_eq!(sought(&ends, at(100)), (at(90), [false, true]));

        let ends = [end(&[(100, "one\n")]), End::default()];
        assert_eq!(sought(&ends, at(100)), (at(90), [true, false]));
    }

    #[test]
    fn all_ends_that_are_looked_for_are_well_within_and_the_others_well_before() {
        let ends = [end(&[(75, "one\n")]), end(&[(85, "two\n"), (100, "x")])];
        // Only the other source, which wrote later, brings the first one in.
        assert_eq!(sought(&ends, at(100)), (at(65), [true, true]));
        let ends = [end(&[(64, "one\n")]), end(&[(85, "two\n"), (100, "x")])];
        assert_eq!(sought(&ends, at(100)), (at(75), [false, true]));
    }

    #[test]
    fn all_parts_of_a_long_line_are_read_again() {
        let long = "x".repeat(20_000);
        let ends = [end(&[(10, "one\n"), (100, &long)]), End::default()];
        assert_eq!(
            sought(&ends, at(100)),
            (SystemTime::UNIX_EPOCH, [true, false])
        );
        let ends = [end(&[(50, "one\n"), (100, &long)]), End::default()];
        assert_eq!(sought(&ends, at(100)), (at(40), [true, false]));
    }
}
