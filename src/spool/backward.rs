//! Reading a log from its end towards its beginning. A record does not tell where the record before it begins. But each head
//! carries a checksum over its own offset, so a head can be recognised anywhere; and it is proven by the records behind it, which
//! must lead to a place that is known already.
//!
//! A task that guesses the offset of its own output in the file can print bytes that look like a record there. That misleads only
//! those who read this task's log from the middle.

use std::{fs::File, io, ops::ControlFlow};

use super::{
    format::{self, Record},
    open,
};

/// Bytes that are read at once, first: several records of the longest.
const WINDOW: u64 = 256 * 1024;

/// Bytes that are read at most to find one record. If none begins in them, they are damaged: no record is longer.
const LARGEST_WINDOW: u64 = 2 * 1024 * 1024;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// The callback had enough.
    Enough,
    /// All records were shown.
    ToTheBeginning,
    /// The bytes before the last record that was shown are damaged.
    ToDamage,
}

/// Shows the records between two offsets, at both of which a record begins or ends, the last one first.
pub(super) fn walk(
    file: &File,
    from: u64,
    until: u64,
    mut see: impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> io::Result<Walked> {
    let mut until = until;
    let mut window = WINDOW;
    let mut bytes = Vec::new();
    while until > from {
        let start = until.saturating_sub(window).max(from);
        let length = usize::try_from(until - start).map_err(io::Error::other)?;
        open::read_up_to(file, start, length, &mut bytes)?;
        let records = if bytes.len() == length {
            chain(&bytes, start)
        } else {
            Vec::new()
        };
        let Some(first) = records.first() else {
            if start == from || window >= LARGEST_WINDOW {
                return Ok(Walked::ToDamage);
            }
            window *= 2;
            continue;
        };
        for record in records.iter().rev() {
            if see(record).is_break() {
                return Ok(Walked::Enough);
            }
        }
        until = first.at;
        window = WINDOW;
    }
    Ok(Walked::ToTheBeginning)
}

/// The records that lead, one behind the other, to the end of `bytes`; empty where none does. Takes linear time for any bytes:
/// where a chain breaks, the search goes on behind the break, not behind the chain's first byte.
fn chain(bytes: &[u8], offset: u64) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        match format::read_record(&bytes[place..], offset + place as u64) {
            Ok(Some(record)) => {
                place += record.content.len() + format::HEAD;
                records.push(record);
                continue;
            }
            Ok(None) | Err(format::Damaged) => records.clear(),
        }
        place += 1;
        match format::find_head(&bytes[place..]) {
            Some(next) => place += next,
            None => return records,
        }
    }
    records
}
