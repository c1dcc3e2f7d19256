//! Joins a spool with the end of the engine's record of the same output, where that end alone is proof: its first lines are the
//! spool's last ones, at one place only. Of the record this reads what is new, and comparing the two from their beginning reads all of
//! it: a source that is busy has written more by then than is held of its stream.
//!
//! Both sources came in one stream, so where one of them is joined, all that was written before the end of the record is in the
//! spool, of the other one too. What is no proof is left to the comparison.

use std::{collections::VecDeque, io, time::SystemTime};

use tokio::task::spawn_blocking;

use super::{
    side::{DELIVERY, Place},
    survey::Tail,
    track::{TAIL, number_of, tail},
};
use crate::{
    actors::log_router::reader::Work,
    domain::{
        log_joint::{Joint, join},
        log_line::Source,
    },
    ports::engine::Frame,
};

/// So many bytes before the overlap belong to it, since a source may have begun to write just then; or none, since the record may
/// have lost something there.
const BEFORE: usize = 16 * 1024;

/// An overlap with more entries than this is left to the comparison: joining takes about 50 bytes of memory for each.
const ENTRIES: usize = 500_000;

/// A record's end that goes on where a spool ends.
pub(super) struct Splice {
    pub(super) frames: Vec<Frame>,
    /// Of stdout and stderr, in these frames.
    pub(super) places: [Place; 2],
}

/// Joins them; `None` where that would be no proof. `newest`: when the last of the spool came. The frames have all that was written
/// since `since`. The spool is read once, and from its beginning: that is where the cost still grows with the log.
pub(super) async fn splice(
    work: &Work,
    end: &Tail,
    since: SystemTime,
    newest: SystemTime,
) -> io::Result<Option<Splice>> {
    let overlaps = [BEFORE, 0].map(|before| overlapping(&end.frames, since, before));
    if overlaps[0].iter().map(|frame| frame.entries).sum::<usize>() > ENTRIES {
        return Ok(None);
    }
    let mut spooled = [Vec::new(), Vec::new()];
    for source in [Source::Stdout, Source::Stderr] {
        let its = overlaps[0].iter().filter(|frame| frame.source == source);
        let recorded: usize = its.map(|frame| frame.bytes.len()).sum();
        if recorded > 0 {
            let tail = tail(work.spool.cursor(), source, recorded + TAIL);
            let (mut whole, unfinished) = work.progress.during(tail).await?;
            whole.extend_from_slice(&unfinished);
            spooled[number_of(source)] = whole;
        }
    }
    let joined = spawn_blocking(move || {
        let mut overlaps = overlaps.into_iter();
        overlaps.find_map(|frames| {
            let places = places(&spooled, &frames, newest)?;
            Some(Splice { frames, places })
        })
    });
    work.progress.during(joined).await.map_err(io::Error::other)
}

/// Where both sources go on in these frames; `None` where that cannot be told of one.
fn places(spooled: &[Vec<u8>; 2], frames: &[Frame], newest: SystemTime) -> Option<[Place; 2]> {
    let mut places = [Place::After(0, None), Place::After(0, None)];
    for source in [Source::Stdout, Source::Stderr] {
        let its = frames.iter().filter(|frame| frame.source == source);
        let its: Vec<Frame> = its.cloned().collect();
        if !its.is_empty() {
            let number = number_of(source);
            places[number] = place(&spooled[number], &its, newest)?;
        }
    }
    (!frames.is_empty()).then_some(places)
}

/// What was written since then, and some of what precedes it: nothing, where nothing does. What lies behind is left out nowhere,
/// whatever its time.
fn overlapping(end: &VecDeque<Frame>, since: SystemTime, before: usize) -> Vec<Frame> {
    let is_older = |frame: &&Frame| frame.time.is_some_and(|time| time < since);
    let older = end.iter().take_while(is_older).count();
    let (mut begin, mut bytes) = (older, 0);
    while begin > 0 && bytes < before {
        begin -= 1;
        bytes += end[begin].bytes.len();
    }
    let frames = end.iter().skip(begin);
    frames.filter(|_| older > 0).cloned().collect()
}

/// Where one source's frames go on beyond the last of its spool.
fn place(spooled: &[u8], frames: &[Frame], newest: SystemTime) -> Option<Place> {
    let recorded: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame.bytes.to_vec())
        .collect();
    // The spool has what was written by then.
    let by = newest - DELIVERY;
    let due = frames
        .iter()
        .take_while(|frame| frame.time.is_some_and(|time| time <= by));
    let due = due.map(|frame| frame.bytes.len()).sum();
    match join(spooled, &recorded, due) {
        Joint::At(at) => {
            // What was written later than this is not in the spool, and only looks like what is.
            let written = written(frames, at).filter(|time| *time <= newest + DELIVERY)?;
            Some(Place::After(at as u64, Some(written)))
        }
        Joint::Silent | Joint::Early | Joint::Unknown => None,
    }
}

/// When the last of so many first bytes was written.
fn written(frames: &[Frame], bytes: usize) -> Option<SystemTime> {
    let mut until = 0;
    let last = frames.iter().find(|frame| {
        until += frame.bytes.len();
        bytes <= until
    });
    last.and_then(|frame| frame.time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn frame(millis: u64, text: &str) -> Frame {
        Frame {
            source: Source::Stdout,
            bytes: Bytes::from(text.to_owned()),
            time: Some(at(millis)),
            entries: 1,
        }
    }

    fn after(bytes: u64, millis: u64) -> Option<Place> {
        Some(Place::After(bytes, Some(at(millis))))
    }

    #[test]
    fn a_records_end_goes_on_where_the_spool_ends() {
        let end = [
            frame(1_000, "2\n"),
            frame(1_500, "3\n4\n"),
            frame(1_900, "5\n"),
        ];

        assert_eq!(place(b"1\n2\n3\n4\n", &end, at(1_600)), after(6, 1_500));
        assert_eq!(place(b"1\n2\n3\n4\n5", &end, at(1_800)), after(7, 1_900));
        assert_eq!(place(b"1\n2\n3\n4\n5\n", &end, at(1_800)), after(8, 1_900));
    }

    #[test]
    fn what_is_no_proof_is_no_place() {
        let end = [frame(1_000, "2\n"), frame(1_900, "3\n")];
        // Nothing of it must be in the spool.
        assert_eq!(place(b"1\n2\n", &end, at(1_100)), None);
        // The record has something else there.
        assert_eq!(place(b"1\n3\n", &end, at(1_300)), None);
        // It has not got that far.
        assert_eq!(place(b"1\n2\n3\n4\n", &end, at(1_950)), None);
        // It has lost what the spool ends with, and then has the same again.
        let again = [frame(1_000, "2\n"), frame(9_000, "3\n")];
        assert_eq!(place(b"1\n2\n3\n", &again, at(1_900)), None);
        let same = [frame(1_000, "tick\n"), frame(1_900, "tick\n")];
        assert_eq!(place(b"tick\ntick\n", &same, at(1_300)), None);
    }

    #[test]
    fn an_end_that_may_begin_behind_the_spool_has_no_overlap() {
        let end = VecDeque::from([frame(1_000, "2\n"), frame(1_500, "3\n")]);

        assert_eq!(overlapping(&end, at(1_000), BEFORE), []);
        assert_eq!(end, overlapping(&end, at(1_001), BEFORE));
    }

    #[test]
    fn an_overlap_has_some_of_what_was_written_before() {
        let long = "x".repeat(BEFORE / 2);
        let end = VecDeque::from([1, 2, 3, 4].map(|second| frame(second * 1_000, &long)));

        assert_eq!(overlapping(&end, at(3_500), BEFORE).len(), 3);
        assert_eq!(overlapping(&end, at(3_500), 0).len(), 1);
        // It has begun to write just now, after a silence.
        let end = [
            frame(1_000, "1\n"),
            frame(9_000, "2\n"),
            frame(9_010, "3\n"),
        ];
        assert_eq!(place(b"0\n1\n2\n", &end, at(9_001)), after(4, 9_000));
    }

    #[test]
    fn what_a_clock_that_was_set_back_has_written_is_left_to_the_comparison() {
        let end = VecDeque::from([frame(8_000, "1\n"), frame(9_000, "2\n"), frame(10, "3\n")]);

        let frames = overlapping(&end, at(8_500), BEFORE);

        assert_eq!(end, frames);
        assert_eq!(place(b"1\n2\n", &frames, at(9_200)), None);
    }

    #[test]
    fn a_place_that_is_told_is_always_the_truth() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut told = 0;
        for letters in [1, 2, 5, 60] {
            for _ in 0..20_000 {
                // One line each 100 ms.
                let lines: Vec<String> = (0..20)
                    .map(|_| format!("{}\n", random.usize(..letters)))
                    .collect();
                let spooled_lines = random.usize(11..20);
                let newest = 100 * spooled_lines as u64;
                let begin = spooled_lines - 11;
                let end: Vec<Frame> = (begin..lines.len())
                    .map(|number| frame(100 * number as u64, &lines[number]))
                    .collect();
                let spooled = lines[..spooled_lines].concat();

                if let Some(Place::After(bytes, _)) = place(spooled.as_bytes(), &end, at(newest)) {
                    told += 1;
                    let known: usize = lines[begin..spooled_lines].iter().map(String::len).sum();
                    assert_eq!(bytes, known as u64, "{lines:?} {spooled_lines}");
                }
            }
        }
        assert!(told > 30_000, "{told}");
    }
}
