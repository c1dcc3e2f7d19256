//! Sentences about the entries that were left out: few, however many those were.

use crate::domain::text;

/// How many are told one by one; the others are counted.
const SENTENCES: usize = 20;
/// Bytes of a name that are shown.
const SHOWN: usize = 200;

/// Collects sentences.
#[derive(Default)]
pub(super) struct Skipped {
    sentences: Vec<String>,
    more: u64,
}

impl Skipped {
    /// Tells that the entry at `path` was left out; `why` goes on from that name.
    pub(super) fn add(&mut self, path: &str, why: &str) {
        if self.sentences.len() < SENTENCES {
            let path = text::escape(path, SHOWN);
            self.sentences.push(format!("\"{path}\" {why}"));
        } else {
            self.more += 1;
        }
    }

    /// All sentences, in an order that does not depend on the disk, and the number of those that were too many.
    pub(super) fn into_sentences(mut self) -> Vec<String> {
        self.sentences.sort();
        if self.more > 0 {
            self.sentences
                .push(format!("{} more were left out", self.more));
        }
        self.sentences
    }
}
