//! Where a big key is built: a key of our own beside it, in the same slot and db of the target.
//!
//! ```text
//! keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:1
//! └────prefix────┘ tag   └─────job──────┘ └─hash of the───┘ generation
//!                                          source's key
//! ```
//!
//! The tag is a short text of the slot of the key: any key name works that way, also one with braces. Job
//! and hash make the name the same in each run of one job, so that a later run finds what an earlier one
//! left, and no other job touches it. The generation grows when a link breaks: what a server still reads from
//! the dead link goes to a name that is not used any more.

use std::sync::LazyLock;

use bytes::Bytes;
use keyhaul_client::{SLOT_COUNT, Slot};
use xxhash_rust::xxh3::Xxh3;

/// Every staging key begins so.
pub(crate) const PREFIX: &str = "keyhaul:staging:";

/// How long a staging key lives on when nobody works on it any more, ms: what a job leaves that is never
/// taken up again vanishes after a day. Each chunk renews it.
pub(crate) const LIFE_MS: &[u8] = b"86400000";

/// Names of so many generations before and after one are removed with it: a dead link may have brought an
/// older one back, and an earlier run whose checkpoint is lost may have come further.
const GENERATIONS_REMOVED: u32 = 8;

/// For each slot the shortest text of digits and letters that hashes to it, the first of those by order.
static TAGS: LazyLock<Vec<[u8; 4]>> = LazyLock::new(|| {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut tags = vec![[0; 4]; SLOT_COUNT];
    let mut left = SLOT_COUNT;
    for number in 0_usize.. {
        if left == 0 {
            break;
        }
        let mut tag = [0; 4];
        let mut rest = number;
        for byte in tag.iter_mut().rev() {
            *byte = LETTERS[rest % LETTERS.len()];
            rest /= LETTERS.len();
        }
        let slot = Slot::of_key(&tag).index();
        if tags[slot] == [0; 4] {
            (tags[slot], left) = (tag, left - 1);
        }
    }
    tags
});

/// What a staging key is for. Two keys of the source that would become one on the target have two of them.
#[derive(Debug, Clone)]
pub(crate) struct Purpose {
    pub job: u64,
    pub source_db: u32,
    pub source_key: Bytes,
    pub target_key: Bytes,
}

impl Purpose {
    /// The name of one generation.
    pub(crate) fn name(&self, generation: u32) -> Bytes {
        format!("{}:{generation}", self.stem()).into()
    }

    /// A key that is there once the staging key has taken its place.
    pub(crate) fn proof(&self) -> Bytes {
        format!("{}:done", self.stem()).into()
    }

    /// All names that may be there around one generation.
    pub(crate) fn names_around(&self, generation: u32) -> Vec<Bytes> {
        let first = generation.saturating_sub(GENERATIONS_REMOVED);
        let last = generation.saturating_add(GENERATIONS_REMOVED);
        let names = (first..=last).map(|generation| self.name(generation));
        names.chain([self.proof()]).collect()
    }

    fn stem(&self) -> String {
        let tag = TAGS[Slot::of_key(&self.target_key).index()];
        let tag = String::from_utf8_lossy(&tag);
        let mut hash = Xxh3::new();
        hash.update(&self.source_db.to_le_bytes());
        hash.update(&self.source_key);
        format!("{PREFIX}{{{tag}}}:{:016x}:{:016x}", self.job, hash.digest())
    }
}

/// Whether a key is one of these, of whatever job: it is no data, wherever it is found.
pub(crate) fn is_staging(key: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix(PREFIX.as_bytes()) else {
        return false;
    };
    let is_hex = |part: &[u8]| part.len() == 16 && part.iter().all(u8::is_ascii_hexdigit);
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b':').collect();
    let [[b'{', tag @ .., b'}'], job, hash, last] = parts[..] else {
        return false;
    };
    let is_last = last == b"done" || (!last.is_empty() && last.iter().all(u8::is_ascii_digit));
    tag.len() == 4 && is_hex(job) && is_hex(hash) && is_last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_a_tag_that_hashes_to_it() {
        for slot in keyhaul_client::SlotSet::all().iter() {
            assert_eq!(Slot::of_key(&TAGS[slot.index()]), slot);
        }
    }

    #[test]
    fn a_name_lies_in_the_slot_of_its_key() {
        let of = |source_key: &'static [u8], target_key: &'static [u8]| Purpose {
            job: 7,
            source_db: 0,
            source_key: source_key.into(),
            target_key: target_key.into(),
        };
        let keys: [&[u8]; 9] = [
            b"", b"{", b"}", b"{}", b"{}x", b"a{b}c", b"{a}{b}", b"\xff\0", b"user:1",
        ];
        for key in keys {
            for name in of(b"other", key).names_around(0) {
                assert_eq!(Slot::of_key(&name), Slot::of_key(key), "{key:?} {name:?}");
                assert!(is_staging(&name), "{name:?}");
            }
        }
        let one = of(b"a", b"t");
        assert_ne!(one.name(0), one.name(1));
        assert_ne!(one.name(0), of(b"b", b"t").name(0));
        assert_ne!(
            one.name(0),
            Purpose {
                job: 8,
                ..one.clone()
            }
            .name(0)
        );
        assert_ne!(
            one.name(0),
            Purpose {
                source_db: 1,
                ..one.clone()
            }
            .name(0)
        );
    }

    #[test]
    fn names_of_others_are_not_taken_for_ours() {
        let ours = "keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:1";
        assert!(is_staging(ours.as_bytes()));
        for name in [
            "",
            "keyhaul:staging:",
            "keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:",
            "keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:x",
            "keyhaul:staging:{03k}:9f86d081884c7d65:1b4f0e9851971998:1",
            "keyhaul:staging:{03ka}:9f86d081884c7d6:1b4f0e9851971998:1",
            "keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:1:2",
            "x:keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:1",
        ] {
            assert!(!is_staging(name.as_bytes()), "{name}");
        }
    }
}
