//! Where a big key is built: a key of our own beside it, in the same slot and db of the target.
//!
//! ```text
//! keyhaul:staging:{03ka}:9f86d081884c7d65:1b4f0e9851971998:1
//! └────prefix────┘ tag   └─────job──────┘ └──key's hash──┘ generation
//! ```
//!
//! The tag is a short text of the slot of the key: any key name works that way, also one with braces. Job
//! and hash make the name the same in each run of one job, so that a later run finds what an earlier one
//! left, and no other job touches it. The generation grows when a link breaks: what a server still reads from
//! the dead link goes to a name that is not used any more.

use std::sync::LazyLock;

use bytes::Bytes;
use keyhaul_client::{SLOT_COUNT, Slot};
use xxhash_rust::xxh3::xxh3_64;

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

/// The name under which `target_key` is built by the job.
pub(crate) fn name(job: u64, target_key: &[u8], generation: u32) -> Bytes {
    let tag = TAGS[Slot::of_key(target_key).index()];
    let tag = String::from_utf8_lossy(&tag);
    let hash = xxh3_64(target_key);
    format!("{PREFIX}{{{tag}}}:{job:016x}:{hash:016x}:{generation}").into()
}

/// The names around one generation.
pub(crate) fn names_around(job: u64, target_key: &[u8], generation: u32) -> Vec<Bytes> {
    let first = generation.saturating_sub(GENERATIONS_REMOVED);
    let last = generation.saturating_add(GENERATIONS_REMOVED);
    let names = (first..=last).map(|generation| name(job, target_key, generation));
    names.collect()
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
        let keys: [&[u8]; 9] = [
            b"", b"{", b"}", b"{}", b"{}x", b"a{b}c", b"{a}{b}", b"\xff\0", b"user:1",
        ];
        for key in keys {
            let name = name(7, key, 0);
            assert_eq!(Slot::of_key(&name), Slot::of_key(key), "{key:?} {name:?}");
            assert!(name.starts_with(PREFIX.as_bytes()));
        }
        assert_ne!(name(7, b"a", 0), name(8, b"a", 0));
        assert_ne!(name(7, b"a", 0), name(7, b"a", 1));
        assert_ne!(name(7, b"{t}a", 0), name(7, b"{t}b", 0));
    }
}
