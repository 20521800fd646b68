//! The entries in one node of a stream: a listpack whose first entry, the master, names the fields that
//! most entries share.
//!
//! ```text
//! master: count, deleted, fields, field names ..., 0
//! entry:  flags, ms - node's ms, seq - node's seq, [fields, name value ... | value ...], items of the entry
//! flags:  1 deleted, 2 the same fields as the master
//! ```
//! RDB 9, Redis 5.0.

use crate::error::Flaw;
use crate::packed::{Item, Listpack};
use crate::stream_id::StreamId;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Tells `sink` all entries that were not deleted, in order: id, names and values.
pub(crate) fn entries<'a>(
    first_id: StreamId,
    node: &'a [u8],
    mut sink: impl FnMut(StreamId, &[(Item<'a>, Item<'a>)]),
) -> Result<(), Flaw> {
    let listpack = Listpack::new(node)?;
    let mut items = Items(listpack.iter());
    let (count, deleted) = (items.number()?, items.number()?);
    let mut names = Vec::new();
    for _ in 0..items.count()? {
        names.push(items.next()?);
    }
    if items.number()? != 0 {
        return Err(broken("its master entry has no end"));
    }
    let (mut counted, mut counted_deleted) = (0, 0);
    let mut fields = Vec::new();
    while let Some(flags) = items.0.next() {
        let flags = flags.to_int().ok_or_else(not_a_number)?;
        let (ms, seq) = (items.number()?, items.number()?);
        let id = StreamId {
            ms: first_id.ms.wrapping_add_signed(ms),
            seq: first_id.seq.wrapping_add_signed(seq),
        };
        fields.clear();
        let items_of_entry = if flags & SAME_FIELDS != 0 {
            for name in &names {
                fields.push((*name, items.next()?));
            }
            names.len() as u64 + 3
        } else {
            let count = items.count()?;
            for _ in 0..count {
                fields.push((items.next()?, items.next()?));
            }
            count.saturating_mul(2).saturating_add(4)
        };
        if items.count()? != items_of_entry {
            return Err(broken("an entry has the wrong length"));
        }
        if flags & DELETED != 0 {
            counted_deleted += 1;
        } else {
            counted += 1;
            sink(id, &fields);
        }
    }
    if (counted, counted_deleted) != (count, deleted) {
        return Err(broken(
            "its master entry counts other entries than there are",
        ));
    }
    Ok(())
}

/// Reads items one after the other.
struct Items<I>(I);

impl<'a, I: Iterator<Item = Item<'a>>> Items<I> {
    fn next(&mut self) -> Result<Item<'a>, Flaw> {
        self.0
            .next()
            .ok_or_else(|| broken("it ends within an entry"))
    }

    fn number(&mut self) -> Result<i64, Flaw> {
        self.next()?.to_int().ok_or_else(not_a_number)
    }

    /// A number of items; checked against what there is by reading so many.
    fn count(&mut self) -> Result<u64, Flaw> {
        u64::try_from(self.number()?).map_err(|_| broken("a negative count"))
    }
}

fn not_a_number() -> Flaw {
    broken("text where a number should be")
}

fn broken(why: &'static str) -> Flaw {
    Flaw::StreamNode(why)
}
