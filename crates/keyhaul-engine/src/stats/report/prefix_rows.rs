//! What of the tree of prefixes is shown: the largest of them, and `other` for the rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::prefixes::{Node, PART_BYTES_MAX, Prefixes};
use super::sum::Sum;
use crate::stats::key_text;

/// Most prefixes of a report.
const SHOWN_MAX: usize = 2000;

/// A prefix of a report. What it holds is what `here`, `other` and its children hold together, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PrefixRow {
    /// The part of the name as text, see [`key_text()`], without separators; of a part above 64 bytes the first 64, and
    /// `…`. Empty at the root.
    pub name: String,
    /// All it holds.
    #[serde(flatten)]
    pub sum: Sum,
    /// Keys that have no further prefix.
    pub here: Sum,
    /// What children hold that are not shown.
    pub other: Sum,
    /// How much of this prefix may be in `other` of those above it, at most. Zero: none, the sum is that of all its
    /// keys.
    pub missed_max: Sum,
    /// The largest by bytes first.
    pub children: Vec<PrefixRow>,
}

/// A prefix that is shown, and the place of its parent in the list of them.
struct Shown<'a> {
    parent: usize,
    part: &'a [u8],
    node: &'a Node,
}

/// The largest prefixes, `width` of each at most, [`SHOWN_MAX`] in all.
pub(super) fn rows(tree: &Prefixes, width: usize) -> PrefixRow {
    let mut shown = vec![Shown {
        parent: 0,
        part: &[],
        node: &tree.root,
    }];
    // A child is never larger than its parent: taking the largest one that is known takes the largest of all.
    let mut candidates = BinaryHeap::new();
    let mut offered = Vec::new();
    offer(&tree.root, 0, width, &mut offered, &mut candidates);
    while shown.len() <= SHOWN_MAX {
        let Some((_, Reverse(at))) = candidates.pop() else {
            break;
        };
        let Some((parent, part, node)) = offered.get(at).copied() else {
            break;
        };
        shown.push(Shown { parent, part, node });
        let place = shown.len() - 1;
        offer(node, place, width, &mut offered, &mut candidates);
    }
    assemble(&shown)
}

type Offered<'a> = (usize, &'a [u8], &'a Node);

fn offer<'a>(
    node: &'a Node,
    place: usize,
    width: usize,
    offered: &mut Vec<Offered<'a>>,
    candidates: &mut BinaryHeap<((u64, u64), Reverse<usize>)>,
) {
    let mut children: Vec<_> = node.children.iter().collect();
    children.sort_unstable_by_key(|(part, child)| {
        (Reverse(child.total.bytes), Reverse(child.total.keys), *part)
    });
    for (part, child) in children.into_iter().take(width) {
        let size = (child.total.bytes, child.total.keys);
        candidates.push((size, Reverse(offered.len())));
        offered.push((place, part, child));
    }
}

/// Children stand behind their parents, so that from the last one on each is whole when it goes into its parent.
fn assemble(shown: &[Shown<'_>]) -> PrefixRow {
    let mut rows: Vec<PrefixRow> = shown.iter().map(row).collect();
    for one in shown.iter().skip(1).rev() {
        let (Some(mut child), parent) = (rows.pop(), one.parent) else {
            break;
        };
        child.children.reverse();
        if let Some(parent) = rows.get_mut(parent) {
            parent.other.keys = parent.other.keys.saturating_sub(child.sum.keys);
            parent.other.bytes = parent.other.bytes.saturating_sub(child.sum.bytes);
            parent.children.push(child);
        }
    }
    let mut root = rows.pop().unwrap_or_default();
    root.children.reverse();
    root
}

fn row(shown: &Shown<'_>) -> PrefixRow {
    let node = shown.node;
    let name = match shown.part.get(..PART_BYTES_MAX) {
        Some(cut) if cut.len() < shown.part.len() => key_text(cut) + "…",
        _ => key_text(shown.part),
    };
    PrefixRow {
        name,
        sum: node.total,
        here: node.here,
        other: Sum {
            keys: node.total.keys.saturating_sub(node.here.keys),
            bytes: node.total.bytes.saturating_sub(node.here.bytes),
        },
        missed_max: node.missed_max,
        children: Vec::new(),
    }
}
