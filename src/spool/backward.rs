//! From the end of a log towards its beginning. A record does not tell where the one before it begins; but heads carry a
//! checksum with their own offset in it, so that one can be recognised anywhere, and is proven by the records behind it: they
//! lead to a place that is known already.
//!
//! A task that guesses the offset of its own output in the file can print something that looks like a record there. It would
//! mislead whoever begins to read its own log in the middle, and nobody else.

use std::{fs::File, io, ops::ControlFlow};

use super::{
    format::{self, Record},
    open,
};

/// What is read at once, in bytes: several records of the longest.
const WINDOW: u64 = 256 * 1024;

/// Where no record begins in so many bytes, they are damaged: none is longer.
const LARGEST_WINDOW: u64 = 2 * 1024 * 1024;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// Enough was seen.
    Enough,
    /// All of it was.
    ToTheBeginning,
    /// What lies before the last record that was shown is damaged.
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

/// The records that lead, one behind the other, to the end of `bytes`; none where nothing does. Linear, whatever the bytes
/// are: where a chain breaks, the next one is looked for behind that.
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
