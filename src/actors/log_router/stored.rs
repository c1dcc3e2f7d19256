//! Reads what a log has, for tests.

use std::sync::Arc;

use crate::{
    domain::log_line::Source,
    ports::spool::{LogItem, Spool},
};

/// The bytes of stdout and stderr in a log, and its markers.
pub(super) async fn stored(spool: &Arc<dyn Spool>) -> ([Vec<u8>; 2], Vec<String>) {
    let (mut bytes, mut markers) = (<[Vec<u8>; 2]>::default(), Vec::new());
    let mut cursor = spool.cursor();
    let mut lines = Vec::new();
    while let LogItem::Lines(some) = cursor.next().await.unwrap() {
        lines.extend(some);
    }
    for line in &mut lines {
        if !line.continued {
            line.bytes.push(b'\n');
        }
    }
    lines.extend(cursor.take_unfinished());
    for line in lines {
        match line.source {
            Source::Stdout => bytes[0].extend_from_slice(&line.bytes),
            Source::Stderr => bytes[1].extend_from_slice(&line.bytes),
            Source::Worker => {
                let marker = String::from_utf8(line.bytes).unwrap();
                markers.push(marker.trim_end().to_owned());
            }
        }
    }
    (bytes, markers)
}
