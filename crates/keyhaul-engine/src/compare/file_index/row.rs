//! What is kept of a key: a row of fixed length, in the order of keys and then of records.

use std::io;

use keyhaul_rdb::{Canonical, KeyType};

use super::IndexedKey;
use super::walk::Found;
use crate::sorted::KeyedRow;
use crate::spill::SpillRow;

/// One record.
///
/// ```text
/// word 0   digest of the key, bits 64 to 127
/// word 1   digest of the key, bits 0 to 63
/// word 2   number of the record, 48 bits | type byte, 8 | 0, 5 | is opaque | has a value | expires
/// word 3   expiry
/// word 4   elements
/// word 5   digest of the value, bits 64 to 127
/// word 6   digest of the value, bits 0 to 63
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row([u64; Row::WORDS]);

const EXPIRES: u64 = 1;
const HAS_VALUE: u64 = 2;
const IS_OPAQUE: u64 = 4;

impl Row {
    const WORDS: usize = 7;
    /// How long it is on the disk.
    pub(super) const BYTES: usize = Self::WORDS * 8;

    /// `number`: the later of two records of a key has the higher one.
    pub(super) fn new(key: u128, number: u64, record: &Found<'_>) -> Self {
        assert!(number < 1 << 48, "no disk holds so many records");
        let [key_high, key_low] = halves(key);
        let (elements, value) = match record.value {
            Some(value) => (value.elements, value.digest),
            None => (0, 0),
        };
        let [value_high, value_low] = halves(value);
        let mut flags = 0;
        if record.expire_at_ms.is_some() {
            flags |= EXPIRES;
        }
        if record.value.is_some() {
            flags |= HAS_VALUE;
        }
        if record.value.is_some_and(|value| value.is_opaque) {
            flags |= IS_OPAQUE;
        }
        Self([
            key_high,
            key_low,
            number << 16 | u64::from(record.form.type_byte()) << 8 | flags,
            record.expire_at_ms.unwrap_or(0).cast_unsigned(),
            elements,
            value_high,
            value_low,
        ])
    }

    pub(super) fn number(self) -> u64 {
        let [_, _, number, ..] = self.0;
        number >> 16
    }

    /// What it says of its key.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for bytes that were never written.
    pub(super) fn indexed(self) -> io::Result<IndexedKey> {
        let [_, _, facts, expiry, elements, value_high, value_low] = self.0;
        let [_, _, _, _, _, _, type_byte, flags] = facts.to_be_bytes();
        let flags = u64::from(flags);
        let key_type = KeyType::of_type_byte(type_byte).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the temporary file is not as it was written",
            )
        })?;
        let value = Canonical {
            key_type,
            elements,
            digest: whole(value_high, value_low),
            is_opaque: flags & IS_OPAQUE != 0,
        };
        Ok(IndexedKey {
            key_type,
            expire_at_ms: (flags & EXPIRES != 0).then_some(expiry.cast_signed()),
            value: (flags & HAS_VALUE != 0).then_some(value),
        })
    }
}

fn halves(whole: u128) -> [u64; 2] {
    [(whole >> 64) as u64, whole as u64]
}

fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl KeyedRow<{ Row::BYTES }> for Row {
    fn key(self) -> u128 {
        let [high, low, ..] = self.0;
        whole(high, low)
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
        let mut words = [0; Row::WORDS];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*place);
        }
        Self(words)
    }
}
