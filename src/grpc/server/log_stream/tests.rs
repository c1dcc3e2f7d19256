//! What cannot be seen from a client: how a line over the limit is cut.

use super::*;
use crate::domain::log_line::Source;

fn note(bytes: Vec<u8>) -> Line {
    Line {
        source: Source::Worker,
        micros: 7,
        bytes,
        continued: false,
    }
}

#[test]
fn a_line_at_the_limit_stays_whole() {
    let lines = vec![note(vec![b'x'; LINE_LIMIT])];

    assert_eq!(fitting(lines.clone()), lines);
}

#[test]
fn a_line_over_the_limit_is_cut_between_characters_and_loses_nothing() {
    let text = format!("x{}", "\u{1f980}".repeat(LINE_LIMIT));

    let parts = fitting(vec![
        note(text.clone().into_bytes()),
        note(b"next".to_vec()),
    ]);

    let (next, parts) = parts.split_last().unwrap();
    assert_eq!(next, &note(b"next".to_vec()));
    let (last, others) = parts.split_last().unwrap();
    assert!(others.iter().all(|part| part.continued) && !last.continued);
    let strings: Vec<_> = parts
        .iter()
        .map(|part| std::str::from_utf8(&part.bytes).expect("whole characters"))
        .collect();
    assert!(strings.iter().all(|part| part.len() <= LINE_LIMIT));
    assert_eq!(strings.concat(), text);
}

#[test]
fn bytes_that_are_no_text_are_cut_all_the_same() {
    let bytes = vec![0b1000_0000; 2 * LINE_LIMIT + 1];

    let parts = parts(note(bytes.clone()));

    assert_eq!(parts.len(), 3);
    let joined: Vec<u8> = parts.into_iter().flat_map(|part| part.bytes).collect();
    assert_eq!(joined, bytes);
}

#[test]
fn lines_that_arrived_together_share_their_time() {
    let mut stamp = Stamp::default();

    assert_eq!(stamp.of(1), stamp.of(1));
    assert_ne!(stamp.of(1), stamp.of(2));
}
