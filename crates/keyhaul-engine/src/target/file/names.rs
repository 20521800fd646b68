//! Names on the target that more than one key of the source has.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use super::duplicates::{KeyDigest, KeyIndex, ROWS_MAX};
use super::output::Span;

/// Where a row keeps what stands for the key of the source, bits.
const SOURCE_BITS: u32 = 47;

/// The names of all keys, most of them on the disk.
#[derive(Debug)]
pub(crate) struct NameIndex(KeyIndex);

impl NameIndex {
    /// Keeps what memory does not hold in a nameless file in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(KeyIndex::new(folder, ROWS_MAX))
    }

    /// Takes note of a key: db and name on the target, and those on the source.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn note(&mut self, target: (u32, &[u8]), source: (u32, &[u8])) -> io::Result<()> {
        let digest = self.0.digest(target.0, target.1);
        let source = self.0.digest(source.0, source.1).cut(SOURCE_BITS);
        let span = Span {
            begin: source,
            end: source,
        };
        self.0.note(digest, span)
    }

    /// The names that belong to different keys of the source.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn finish(self) -> io::Result<SharedNames> {
        let finder = self.0.empty_clone();
        let mut shared = HashSet::new();
        let mut previous: Option<(KeyDigest, Span)> = None;
        self.0.for_each_sorted(|digest, span| {
            if previous.is_some_and(|(known, other)| known == digest && other != span) {
                shared.insert(digest);
            }
            previous = Some((digest, span));
        })?;
        Ok(SharedNames { finder, shared })
    }
}

/// Names that more than one key has.
#[derive(Debug)]
pub(crate) struct SharedNames {
    finder: KeyIndex,
    shared: HashSet<KeyDigest>,
}

impl SharedNames {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.shared.len()
    }

    /// Whether this name is one of them.
    pub(crate) fn contains(&self, db: u32, name: &[u8]) -> bool {
        !self.shared.is_empty() && self.shared.contains(&self.finder.digest_of(db, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_keys() {
        let mut index = NameIndex::new(std::env::temp_dir());
        for (target, source) in [
            ((0, b"a"), (0, b"a")),
            ((0, b"b"), (0, b"b")),
            ((0, b"a"), (1, b"a")),
            // The same key once more, from another file.
            ((0, b"b"), (0, b"b")),
            ((1, b"a"), (2, b"a")),
        ] {
            index
                .note((target.0, target.1), (source.0, source.1))
                .unwrap();
        }
        let shared = index.finish().unwrap();
        for (db, name, expected) in [(0, b"a", true), (0, b"b", false), (1, b"a", false)] {
            assert_eq!(shared.contains(db, name), expected, "{db} {name:?}");
        }
    }
}
