//! Finds the records of a file whose key was written before: a server refuses to start with a file
//! in which a key stands twice in a db, but SCAN may return a key twice and so may files that are
//! merged.
//!
//! For every record a row of 24 bytes is kept: a digest of db and key, and where the record lies. A
//! few MB of rows are held in memory; more go to the disk ([`super::spill`]), so memory is bounded
//! for any number of keys.

use std::io;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::output::Span;
use super::place::random;
use crate::spill::{Spill, SpillRow};

/// How many rows are held in memory, 3 MB.
pub(super) const ROWS_MAX: usize = 128 * 1024;
/// How much memory for putting db and key together is kept from one key to the next, bytes.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// Which of several records of a key stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepWhich {
    /// The one that was written first.
    First,
    /// The one that was written last.
    Last,
}

/// The digest of db and key. Of its 128 bits 96 are compared: among 10^9 keys two different ones
/// have the same with a probability below 10^-11. The seed is random, so nobody can choose such
/// keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyDigest(u128);

impl KeyDigest {
    /// Its first bits alone, up to 64.
    pub(super) fn cut(self, bits: u32) -> u64 {
        let high = (self.0 >> 64) as u64;
        high >> (64 - bits)
    }

    /// What a row keeps of it.
    fn kept(self) -> Self {
        Self(self.0 >> 32 << 32)
    }
}

/// The keys of a file and where their records lie.
#[derive(Debug)]
pub(super) struct KeyIndex {
    seed: u64,
    /// Where rows go that are too many for memory.
    folder: PathBuf,
    rows_max: usize,
    rows: Vec<Row>,
    spill: Option<Spill<Row, { Row::BYTES }>>,
    scratch: Vec<u8>,
}

impl KeyIndex {
    /// Holds up to `rows_max` rows in memory, and more in a nameless file in `folder`.
    pub(super) fn new(folder: PathBuf, rows_max: usize) -> Self {
        Self {
            seed: random(),
            folder,
            rows_max,
            rows: Vec::new(),
            spill: None,
            scratch: Vec::new(),
        }
    }

    /// What stands for a key.
    pub(super) fn digest(&mut self, db: u32, key: &[u8]) -> KeyDigest {
        self.scratch.clear();
        self.scratch.extend_from_slice(&db.to_le_bytes());
        self.scratch.extend_from_slice(key);
        let digest = xxh3_128_with_seed(&self.scratch, self.seed);
        self.scratch.shrink_to(SCRATCH_BYTES_MAX);
        KeyDigest(digest)
    }

    /// What stands for a key, as [`KeyIndex::for_each_sorted`] tells it.
    pub(super) fn digest_of(&self, db: u32, key: &[u8]) -> KeyDigest {
        let bytes = [&db.to_le_bytes(), key].concat();
        KeyDigest(xxh3_128_with_seed(&bytes, self.seed)).kept()
    }

    /// An empty one that gives the same digests.
    pub(super) fn empty_clone(&self) -> Self {
        Self {
            seed: self.seed,
            folder: self.folder.clone(),
            rows_max: self.rows_max,
            rows: Vec::new(),
            spill: None,
            scratch: Vec::new(),
        }
    }

    /// Takes note of a record.
    ///
    /// # Errors
    /// Those of the disk. The record is noted nevertheless.
    pub(super) fn note(&mut self, key: KeyDigest, span: Span) -> io::Result<()> {
        self.rows.push(Row::new(key, span));
        if self.rows.len() < self.rows_max {
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => self.spill.insert(Spill::new(&self.folder)?),
        };
        spill.add(&mut self.rows)
    }

    /// The records that must go so that every key is there once, sorted by their place; 16 bytes of
    /// memory for each of them.
    pub(super) fn doubled(self, keep: KeepWhich) -> io::Result<Vec<Span>> {
        let mut doubled = Vec::new();
        let mut previous: Option<(KeyDigest, Span)> = None;
        self.for_each_sorted(|digest, span| {
            if let Some((_, other)) = previous.filter(|(known, _)| *known == digest) {
                doubled.push(match keep {
                    KeepWhich::First => span,
                    KeepWhich::Last => other,
                });
            }
            previous = Some((digest, span));
        })?;
        doubled.sort_unstable();
        Ok(doubled)
    }

    /// Tells all records: those of one key come one after another, in their order.
    pub(super) fn for_each_sorted(
        mut self,
        mut take: impl FnMut(KeyDigest, Span),
    ) -> io::Result<()> {
        if self.spill.is_some() {
            self.spill()?;
        }
        let mut take = |row: Row| take(row.digest(), row.span());
        match self.spill {
            Some(spill) => spill.for_each_sorted(|row| {
                take(row);
                Ok(())
            })?,
            None => {
                self.rows.sort_unstable();
                self.rows.into_iter().for_each(&mut take);
            }
        }
        Ok(())
    }
}

/// A record, in order of keys and then of records.
///
/// ```text
/// word 0   digest, bits 64 to 127
/// word 1   digest, bits 32 to 63 | begin, bits 16 to 47
/// word 2   begin, bits 0 to 15   | end, 48 bits
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row([u64; 3]);

impl Row {
    /// How long it is on the disk.
    const BYTES: usize = 24;

    fn new(KeyDigest(digest): KeyDigest, Span { begin, end }: Span) -> Self {
        assert!(
            begin <= end && end < 1 << 48,
            "no disk holds 256 TB in a file"
        );
        let high = (digest >> 64) as u64;
        let low = digest as u64;
        Self([high, low >> 32 << 32 | begin >> 16, begin << 48 | end])
    }

    fn digest(self) -> KeyDigest {
        let [high, low, _] = self.0;
        KeyDigest(u128::from(high) << 64 | u128::from(low >> 32 << 32))
    }

    fn span(self) -> Span {
        let [_, middle, last] = self.0;
        Span {
            begin: (middle & 0xffff_ffff) << 16 | last >> 48,
            end: last & 0xffff_ffff_ffff,
        }
    }
}

impl SpillRow<{ Row::BYTES }> for Row {
    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Row::BYTES];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    fn of_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut words = [0; 3];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*place);
        }
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_what_it_was_given() {
        let top = (1 << 48) - 1;
        for (begin, end) in [(0, 0), (9, 10), (0xffff, 0x1_0000), (top - 1, top)] {
            let row = Row::new(KeyDigest(u128::MAX / 3), Span { begin, end });
            assert_eq!(row.span(), Span { begin, end });
            assert_eq!(Row::of_bytes(&row.to_bytes()), row);
            let first = Row::new(KeyDigest(u128::MAX / 3), Span { begin: 0, end: top });
            assert_eq!(first.digest(), row.digest());
            assert!(begin == 0 || first < row);
            for other in [1 << 127, 1 << 64, 1 << 32] {
                let other = Row::new(KeyDigest((u128::MAX / 3) ^ other), row.span());
                assert_ne!(other.digest(), row.digest());
            }
        }
    }

    /// Notes keys 0, 1, .. at places 0, 1, .., except that every n-th repeats the key `back` places
    /// before it; in memory and with runs of several lengths.
    #[test]
    fn doubled_keys_are_found_near_and_far() {
        let folder = tempfile::tempdir().unwrap();
        for (rows_max, count, nth, back) in [
            (1000, 100_u64, 10, 1),
            (7, 100, 10, 1),
            (7, 100, 10, 9),
            (1, 50, 10, 5),
            (100, 100, 10, 3),
            (64, 20_000, 1000, 999),
            (5000, 20_000, 7, 1),
            (5000, 20_000, 30_000, 1),
        ] {
            for keep in [KeepWhich::First, KeepWhich::Last] {
                let mut index = KeyIndex::new(folder.path().into(), rows_max);
                let mut expected = Vec::new();
                for place in 0..count {
                    let is_again = place % nth == nth - 1;
                    let key = if is_again { place - back } else { place };
                    // The same name in another db is another key.
                    let digest = index.digest((key % 2) as u32, &(key / 2).to_be_bytes());
                    let at = |place: u64| Span {
                        begin: place * 10 + 9,
                        end: place * 10 + 19,
                    };
                    index.note(digest, at(place)).unwrap();
                    if is_again {
                        let goes = [place, key][usize::from(keep == KeepWhich::Last)];
                        expected.push(at(goes));
                    }
                }
                assert_eq!(index.spill.is_some(), count as usize >= rows_max);
                assert_eq!(
                    index.doubled(keep).unwrap(),
                    expected,
                    "{rows_max} {count} {nth} {back}"
                );
            }
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn of_many_records_of_a_key_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        for (keep, rows_max, stays) in [
            (KeepWhich::First, 3, 0),
            (KeepWhich::Last, 3, 9),
            (KeepWhich::First, 100, 0),
            (KeepWhich::Last, 100, 9),
        ] {
            let mut index = KeyIndex::new(folder.path().into(), rows_max);
            for begin in 0..10 {
                let digest = index.digest(3, b"k");
                let end = begin + 1;
                index.note(digest, Span { begin, end }).unwrap();
            }
            let gone = index.doubled(keep).unwrap();
            let gone: Vec<u64> = gone.into_iter().map(|span| span.begin).collect();
            let expected: Vec<u64> = (0..10).filter(|place| *place != stays).collect();
            assert_eq!(gone, expected, "{keep:?}");
        }
    }
}
