//! The largest keys that were seen, a fixed number of them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::latin1;
use crate::stats::{KeyFacts, key_text};

/// A longer name is kept only so far: names may be as long as 512 MB.
const KEY_BYTES_MAX: usize = 512;

/// The largest keys by one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Top {
    max: usize,
    /// The smallest of them first. A name comes once (SCAN may return it twice): a number that changed
    /// meanwhile makes two entries of it, and the smaller one goes.
    found: BTreeSet<Ranked>,
}

/// The order is that of the fields: by number, and by name where that is the same, smaller names above.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Ranked {
    number: u64,
    db: Reverse<u32>,
    #[serde(with = "latin1::reversed")]
    key: Reverse<Box<[u8]>>,
    key_bytes: u64,
    kind: usize,
    size_bytes: u64,
    elements: Option<u64>,
    expire_at_ms: Option<i64>,
}

/// One of the largest keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BigKey {
    /// The db of the source.
    pub db: u32,
    /// Its name as text, see [`key_text()`]; of a name above 512 bytes the first 512, and `…`.
    pub key: String,
    /// How long the name is, bytes.
    pub key_bytes: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it takes.
    pub bytes: u64,
    /// Elements; bytes of a string.
    pub elements: Option<u64>,
    /// When it expires, Unix ms.
    pub expire_at_ms: Option<i64>,
}

impl Top {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            found: BTreeSet::new(),
        }
    }

    /// Looks at a key: `number` is what it is ranked by, `kind` the index of its type.
    pub(super) fn take(&mut self, number: u64, kind: usize, facts: &KeyFacts<'_>) {
        let kept = facts.key.get(..KEY_BYTES_MAX).unwrap_or(facts.key);
        let is_full = self.found.len() >= self.max;
        // Most keys end here, also where all are of one size.
        let is_below = |least: &Ranked| {
            (number, Reverse(facts.db), Reverse(kept))
                < (least.number, least.db, Reverse(&*least.key.0))
        };
        if is_full && self.found.first().is_none_or(is_below) {
            return;
        }
        self.put(Ranked {
            number,
            db: Reverse(facts.db),
            key: Reverse(kept.into()),
            key_bytes: facts.key.len() as u64,
            kind,
            size_bytes: facts.size_bytes,
            elements: facts.elements,
            expire_at_ms: facts.expire_at_ms,
        });
    }

    pub(super) fn merge(&mut self, other: Self) {
        other.found.into_iter().for_each(|one| self.put(one));
    }

    fn put(&mut self, new: Ranked) {
        let same_name =
            |one: &&Ranked| (one.db, &one.key, one.key_bytes) == (new.db, &new.key, new.key_bytes);
        match self.found.iter().find(same_name).cloned() {
            Some(old) if old >= new => return,
            Some(old) => self.found.remove(&old),
            None => false,
        };
        self.found.insert(new);
        while self.found.len() > self.max {
            self.found.pop_first();
        }
    }

    /// The largest first.
    pub(super) fn keys(&self, type_name: impl Fn(usize) -> &'static str) -> Vec<BigKey> {
        let largest_first = self.found.iter().rev();
        largest_first
            .map(|one| BigKey {
                db: one.db.0,
                key: shown(&one.key.0, one.key_bytes),
                key_bytes: one.key_bytes,
                type_name: type_name(one.kind).into(),
                bytes: one.size_bytes,
                elements: one.elements,
                expire_at_ms: one.expire_at_ms,
            })
            .collect()
    }
}

/// The beginning of a name as text.
fn shown(kept: &[u8], key_bytes: u64) -> String {
    let mut text = key_text(kept);
    if key_bytes > kept.len() as u64 {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(db: u32, key: &[u8]) -> KeyFacts<'_> {
        KeyFacts {
            db,
            key,
            key_type: None,
            encoding: None,
            size_bytes: 7,
            elements: None,
            expire_at_ms: None,
        }
    }

    fn names(top: &Top) -> Vec<(u32, String)> {
        let keys = top.keys(|_| "t").into_iter();
        keys.map(|key| (key.db, key.key)).collect()
    }

    #[test]
    fn the_largest_stay_each_once() {
        let mut top = Top::new(3);
        for (number, db, key) in [
            (5, 0, "a"),
            (9, 0, "b"),
            (5, 0, "c"),
            (9, 0, "b"),
            (8, 0, "b"),
            (5, 1, "a"),
            (10, 0, "b"),
            (1, 0, "d"),
        ] {
            top.take(number, 0, &facts(db, key.as_bytes()));
        }
        let text = |db, key: &str| (db, key.to_owned());
        assert_eq!(names(&top), [text(0, "b"), text(0, "a"), text(0, "c")]);
        assert_eq!(top.found.last().map(|one| one.number), Some(10));
    }

    #[test]
    fn long_names_are_cut() {
        let mut top = Top::new(2);
        let (long, as_long) = (vec![b'x'; 513], vec![b'x'; 512]);
        top.take(1, 0, &facts(0, &long));
        top.take(1, 0, &facts(0, &as_long));
        let texts: Vec<usize> = names(&top).iter().map(|(_, t)| t.chars().count()).collect();
        assert_eq!(texts.iter().sum::<usize>(), 512 + 513);
        assert!(Top::new(0).keys(|_| "t").is_empty());
    }
}
