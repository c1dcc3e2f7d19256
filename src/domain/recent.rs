//! A bounded memory: at its bound, the oldest entry goes first.

use std::collections::VecDeque;

/// Values by key, in the order in which they came. Looked through one by one: for bounds of a thousand or so.
#[derive(Debug)]
pub struct Recent<K, V = ()> {
    entries: VecDeque<(K, V)>,
    limit: usize,
}

impl<K: PartialEq, V> Recent<K, V> {
    /// A memory for at most `limit` entries.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            limit,
        }
    }

    /// Remembers a value as the newest; at the limit the oldest is forgotten.
    pub fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.entries.len() >= self.limit {
            self.entries.pop_front();
        }
        self.entries.push_back((key, value));
    }

    /// The value that is remembered under this key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let mut entries = self.entries.iter();
        entries.find(|(known, _)| known == key).map(|(_, v)| v)
    }

    /// Forgets this key, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        self.entries.remove(at).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_oldest_is_forgotten() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        recent.insert("a", 3);
        recent.insert("c", 4);

        assert_eq!(recent.get(&"a"), Some(&3));
        assert_eq!(recent.get(&"b"), None);
        assert_eq!(recent.remove(&"c"), Some(4));
        assert_eq!(recent.remove(&"c"), None);
    }
}
