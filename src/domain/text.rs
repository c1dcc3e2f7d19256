//! Text from outside made fit to pass on: repaired where the contract wants valid UTF-8, escaped where people read it.

use std::borrow::Cow;

/// What a report carries of a task's log, in bytes of valid UTF-8: the contract's 3.5 MiB, less room for the marker, the
/// trailer and the other fields.
pub const REPORT_LOG_LIMIT: usize = 3_500 * 1024;

/// Replaces what is not UTF-8 by U+FFFD; never drops a valid character.
#[must_use]
pub fn repair_utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Escapes control characters (newline and carriage return included) and cuts at `limit` bytes, for our own log and
/// terminal: untrusted text can neither forge a line nor move the cursor.
#[must_use]
pub fn escape(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        if shown.len() >= limit {
            shown.push_str("...");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The text with `***` for the user's name and password that stand before the host of an address or of an image's name: from
/// behind the scheme to the last '@'. The '@' before an image's digest is none of these. `None`: there are none.
#[must_use]
pub fn without_login(text: &str) -> Option<String> {
    let is_digest = |behind: &str| behind.starts_with("sha256:") || behind.starts_with("sha512:");
    let mut signs = text.rmatch_indices('@').map(|(at, _)| at);
    let end = signs.find(|at| !is_digest(&text[at + 1..]))?;
    let begin = text[..end].find("://").map_or(0, |scheme| scheme + 3);
    Some(format!("{}***{}", &text[..begin], &text[end..]))
}

/// A log cut to fit: its beginning, and a rolling end, with the count of what was left out between.
#[derive(Debug)]
pub struct HeadAndTail {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    head_limit: usize,
    tail_limit: usize,
    omitted: u64,
}

impl HeadAndTail {
    /// Keeps at most `limit` bytes: a quarter from the beginning, the rest from the end.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: std::collections::VecDeque::new(),
            head_limit: limit / 4,
            tail_limit: limit - limit / 4,
            omitted: 0,
        }
    }

    /// Takes the next bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.head_limit.saturating_sub(self.head.len());
        let (head, tail) = bytes.split_at(room.min(bytes.len()));
        // Once bytes have gone to the tail the head is closed, or they would come out of order.
        let (head, tail) = if self.tail.is_empty() {
            (head, tail)
        } else {
            (&bytes[..0], bytes)
        };
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let over = self.tail.len().saturating_sub(self.tail_limit);
        self.omitted += over as u64;
        self.tail.drain(..over);
    }

    /// How many bytes were left out.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// The text as valid UTF-8, with the marker where something is missing.
    #[must_use]
    pub fn into_text(self) -> String {
        let (front, back) = self.tail.as_slices();
        if self.omitted == 0 {
            let whole = [&self.head, front, back].concat();
            return repair_utf8(&whole).into_owned();
        }
        let tail = [front, back].concat();
        format!(
            "{}\n[worker-node] {} bytes left out here\n{}",
            repair_utf8(&self.head),
            self.omitted,
            repair_utf8(&tail)
        )
    }
}

/// Cuts text at a character's edge so that it has at most `limit` bytes.
#[must_use]
pub fn truncate(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_forge_a_line_or_move_the_cursor() {
        assert_eq!(escape("a\r\nb\x1b[2Jc", 100), "a\\r\\nb\\u{1b}[2Jc");
        assert_eq!(escape("abcdef", 3), "abc...");
    }

    #[test]
    fn a_login_is_hidden_and_a_digest_is_none() {
        for (text, shown) in [
            ("u:p@h:1", "***@h:1"),
            ("tcp://u:p@x@h:1", "tcp://***@h:1"),
            ("u:p@r/a@sha256:abc", "***@r/a@sha256:abc"),
            ("u:p://x@h", "u:p://***@h"),
        ] {
            assert_eq!(without_login(text).as_deref(), Some(shown), "{text}");
        }
        assert_eq!(without_login("r:5000/a@sha256:abc"), None);
        assert_eq!(without_login("tcp://h:1"), None);
    }

    #[test]
    fn a_short_log_stays_whole() {
        let mut kept = HeadAndTail::new(100);
        for part in ["ab", "cd", "é"] {
            kept.push(part.as_bytes());
        }

        assert_eq!(kept.omitted(), 0);
        assert_eq!(kept.into_text(), "abcdé");
    }

    #[test]
    fn a_long_log_keeps_its_ends_and_counts_the_rest() {
        let mut kept = HeadAndTail::new(8);
        for byte in b"abcdefghijklmnop" {
            kept.push(&[*byte]);
        }

        assert_eq!(kept.omitted(), 8);
        assert_eq!(
            kept.into_text(),
            "ab\n[worker-node] 8 bytes left out here\nklmnop"
        );
    }

    #[test]
    fn a_cut_character_is_repaired_not_dropped() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(repair_utf8(b"a\xff"), "a\u{fffd}");
    }
}
