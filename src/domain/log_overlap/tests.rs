//! Comparison and search, with the record in every kind of pieces.

use super::*;

/// What an engine's record makes of some output: frames of at most `frame` bytes of a line, each byte that is no UTF-8 there
/// as U+FFFD. Also how long the record of the first `n` bytes is, for each `n`.
fn recorded_with_places(output: &[u8], frame: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut record, mut places) = (Vec::new(), vec![0]);
    let lines = output.split_inclusive(|byte| *byte == b'\n');
    for mut rest in lines.flat_map(|line| line.chunks(frame)) {
        while !rest.is_empty() {
            let valid = match std::str::from_utf8(rest) {
                Ok(all) => all.len(),
                Err(error) => error.valid_up_to(),
            };
            let (text, other) = rest.split_at(valid);
            places.extend((1..=valid).map(|bytes| record.len() + bytes));
            record.extend_from_slice(text);
            if !other.is_empty() {
                record.extend_from_slice(REPLACED);
                places.push(record.len());
            }
            rest = other.get(1..).unwrap_or_default();
        }
    }
    (record, places)
}

fn recorded(output: &[u8], frame: usize) -> Vec<u8> {
    recorded_with_places(output, frame).0
}

/// Feeds both sides in pieces of that size, as they are asked for.
fn compare(spooled: &[u8], logged: &[u8], piece: usize) -> Compared {
    let mut comparison = Comparison::default();
    let (mut spooled, mut logged) = (spooled.chunks(piece), logged.chunks(piece));
    loop {
        match comparison.step() {
            Compared::WantsSpooled => match spooled.next() {
                Some(bytes) => comparison.spooled(bytes),
                None => comparison.spool_is_over(),
            },
            Compared::WantsLogged => match logged.next() {
                Some(bytes) => comparison.logged(bytes),
                None => return Compared::WantsLogged,
            },
            Compared::Whole(mut new) => {
                new.extend(logged.flatten());
                return Compared::Whole(new);
            }
            differs @ Compared::Differs(_) => return differs,
        }
    }
}

#[track_caller]
fn assert_goes_on(output: &[u8], spooled: usize, frame: usize) {
    let (record, places) = recorded_with_places(output, frame);
    let new = record[places[spooled]..].to_vec();
    for piece in [1, 2, 3, 7, 4096] {
        let told = compare(&output[..spooled], &record, piece);
        assert_eq!(
            told,
            Compared::Whole(new.clone()),
            "{spooled} bytes of {output:?} in frames of {frame}, pieces of {piece}"
        );
    }
}

#[test]
fn what_is_new_begins_where_the_spool_ends() {
    let output = b"one\ntwo\nthree\n";

    for spooled in 0..=output.len() {
        let expected = Compared::Whole(output[spooled..].to_vec());
        assert_eq!(compare(&output[..spooled], output, 3), expected);
    }
}

#[test]
fn bytes_that_the_record_replaced_are_the_same_bytes() {
    let output = b"caf\xe9 \xff\xfe\n\xc3\xa4\xc3\xa4\xe2\x82\n\xf0\x9f\xa6\x80 and \xef\xbf\xbd\n";
    let record = recorded(output, 16_384);

    assert_eq!(compare(output, &record, 5), Compared::Whole(vec![]));
}

#[test]
fn characters_across_the_edge_of_a_frame_are_the_same_characters() {
    let output = "\u{e4}\u{20ac}\u{1f980}".repeat(40) + "\nnext\n";

    for frame in [4, 5, 7, 10] {
        let record = recorded(output.as_bytes(), frame);
        let told = compare(output.as_bytes(), &record, 6);
        assert_eq!(told, Compared::Whole(vec![]), "frames of {frame}");
    }
}

#[test]
fn a_spool_that_ends_within_a_character_gets_the_rest_of_it() {
    let output = "a\u{20ac}b".as_bytes();

    for spooled in 0..=output.len() {
        let expected = Compared::Whole(output[spooled..].to_vec());
        assert_eq!(
            compare(&output[..spooled], output, 2),
            expected,
            "{spooled}"
        );
    }
}

#[test]
fn a_record_that_lacks_bytes_differs_where_they_are_missing() {
    assert_eq!(compare(b"a\nb\nc\n", b"a\nc\n", 2), Compared::Differs(2));
    assert_eq!(compare(b"a\n\xff\n", b"a\n?\n", 2), Compared::Differs(2));
    assert_eq!(compare(b"ab", b"a\xef\xbf\xbd", 2), Compared::Differs(1));
}

#[test]
fn a_record_that_is_behind_wants_more_of_itself() {
    assert_eq!(compare(b"one\ntwo\n", b"one\nt", 3), Compared::WantsLogged);
}

#[test]
fn every_output_goes_on_from_every_place() {
    let mut random = fastrand::Rng::with_seed(7);
    let pieces: [&[u8]; 9] = [
        b"a",
        b"b\n",
        b"\n",
        b"\xff",
        b"\xc3\xa4",
        b"\xe2\x82\xac",
        b"\xf0\x9f\xa6\x80",
        b"\xc3",
        b"\xbd",
    ];
    for _ in 0..300 {
        let output: Vec<u8> = (0..random.usize(1..40))
            .flat_map(|_| pieces[random.usize(..pieces.len())].to_vec())
            .collect();
        let spooled = random.usize(..=output.len());
        assert_goes_on(&output, spooled, random.usize(3..12));
    }
}

fn found(tail: &[u8], record: &[u8], piece: usize) -> Option<u64> {
    places(tail, record.chunks(piece)).first().copied()
}

/// After how many bytes these lines stand.
fn places<'a>(tail: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
    let (mut lines, mut places) = (Lines::default(), Vec::new());
    let Some(mut search) = TailSearch::new(tail) else {
        return places;
    };
    for piece in pieces {
        lines.push(piece, |line| {
            places.extend(search.push(line).then_some(line.end))
        });
    }
    places
}

#[test]
fn the_last_lines_are_found_in_a_record_that_begins_later() {
    let record = b"4\n5\n6\n7\n8\n";

    for piece in [1, 3, 100] {
        assert_eq!(found(b"5\n6\n", record, piece), Some(6));
        assert_eq!(found(b"6\n5\n", record, piece), None);
    }
    assert_eq!(found(b"no whole line", record, 9), None);
}

#[test]
fn lines_that_begin_like_themselves_are_found() {
    assert_eq!(found(b"a\na\nb\n", b"a\na\na\nb\nc\n", 2), Some(8));
    assert_eq!(found(b"a\nb\na\nc\n", b"a\nb\na\nb\na\nc\n", 2), Some(12));
}

#[test]
fn lines_are_found_again_behind_themselves() {
    let record = b"a\na\na\nb\na\na\n";

    for piece in [1, 5, 100] {
        assert_eq!(places(b"a\na\n", record.chunks(piece)), [4, 6, 12]);
    }
}

#[test]
fn what_a_spool_has_beyond_the_records_last_line_is_counted() {
    assert_eq!(beyond(b"1\n2\n3\n", b"0\n1\n"), Some(4));
    assert_eq!(beyond(b"1\n2\n1\n", b"1\n"), Some(0));
    assert_eq!(
        beyond(b"1\n\xff\n3\n", "1\n\u{fffd}\nhalf".as_bytes()),
        Some(2)
    );
    assert_eq!(beyond(b"1\n", b"2\n"), None);
    assert_eq!(beyond(b"1\n", b"half"), None);
}

#[test]
fn a_line_is_found_whatever_the_record_made_of_its_bytes() {
    let tail = b"x\xff\xfe y\n\xe2\x82\n";
    let record = [
        b"before\n".to_vec(),
        recorded(tail, 16_384),
        b"after".to_vec(),
    ]
    .concat();

    let end = record.len() as u64 - 5;
    assert_eq!(found(tail, &record, 4), Some(end));
}
