//! The tree of prefixes, in bounded memory whatever the names are.
//!
//! A name is cut at the separator; all parts but the last are its prefixes, down to a depth. Each prefix adds up what
//! lies below it. The sums of a prefix are always those of its children, of the keys that end at it, and of
//! what was folded, together: exact, at every level.
//!
//! When the tree grows above [`NODES_MAX`] prefixes, the smaller half by bytes is folded: a prefix goes with all below
//! it into what its parent holds for `(other)`. A prefix that comes again begins at zero. So a prefix may show
//! less than it has, and the rest is in `(other)` of the prefixes above it. By how much at most is known: in
//! each round a prefix loses no more than the largest that its parent has folded in it. A new child begins with the sum
//! of these as what it may have missed ([`Node::missed_max`]).
//!
//! What is never folded: whatever holds more bytes, each time, than the prefix in the middle. Where names are random,
//! a round comes every 8,000 keys, and a prefix that has a few of them stays.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::latin1;
use super::options::PREFIX_DEPTH_MAX;
use super::sum::Sum;

/// Most prefixes in memory, about 300 bytes each.
pub(super) const NODES_MAX: usize = 16_000;
/// A longer part of a name is kept only so far, with one byte more to tell it, and counts as the same prefix as other
/// long ones that begin so.
pub(super) const PART_BYTES_MAX: usize = 64;

/// The tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefixes {
    separator: String,
    depth_max: usize,
    pub(super) root: Node,
    /// Nodes below the root.
    nodes: usize,
}

/// One prefix. There may be many of them, so they are short when they are written down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Node {
    /// Everything below: [`Self::here`], [`Self::folded`] and the children.
    #[serde(rename = "t", with = "pair")]
    pub(super) total: Sum,
    /// Keys that have no further prefix, or one below the depth.
    #[serde(rename = "h", with = "pair")]
    pub(super) here: Sum,
    /// Of children that were folded.
    #[serde(rename = "f", with = "pair")]
    pub(super) folded: Sum,
    /// What may be missing in the total, at most: it is in what the parents have folded.
    #[serde(rename = "m", with = "pair")]
    pub(super) missed_max: Sum,
    /// The largest child of each round, added up.
    #[serde(rename = "r", with = "pair")]
    rounds: Sum,
    #[serde(
        rename = "c",
        serialize_with = "write_children",
        deserialize_with = "read_children"
    )]
    pub(super) children: Children,
}

type Children = HashMap<Box<[u8]>, Box<Node>>;

impl Prefixes {
    pub(super) fn new(separator: &str, depth_max: usize) -> Self {
        Self {
            separator: separator.into(),
            depth_max: depth_max.min(PREFIX_DEPTH_MAX),
            root: Node::default(),
            nodes: 0,
        }
    }

    /// Adds a key.
    pub(super) fn take(&mut self, key: &[u8], size_bytes: u64) {
        let separator = self.separator.as_bytes();
        let mut node = &mut self.root;
        let mut rest = key;
        node.total.take(size_bytes);
        for _ in 0..self.depth_max {
            let Some((part, behind)) = split(rest, separator) else {
                break;
            };
            let mut cut = [0; PART_BYTES_MAX + 1];
            let part = cut_part(part, &mut cut);
            if !node.children.contains_key(part) {
                let new = Node {
                    missed_max: node.missed_of_new(),
                    ..Node::default()
                };
                node.children.insert(part.into(), Box::new(new));
                self.nodes += 1;
            }
            let Some(child) = node.children.get_mut(part) else {
                break;
            };
            node = child;
            node.total.take(size_bytes);
            rest = behind;
        }
        node.here.take(size_bytes);
        if self.nodes > NODES_MAX {
            self.fold();
        }
    }

    /// Adds another tree, cut the same way.
    pub(super) fn merge(&mut self, other: Self) {
        self.root.merge(other.root);
        self.nodes = self.root.count();
        while self.nodes > NODES_MAX {
            self.fold();
        }
    }

    /// Folds the smaller half.
    fn fold(&mut self) {
        let mut sizes = Vec::with_capacity(self.nodes);
        self.root.sizes(&mut sizes);
        let half = sizes.len() / 2;
        let (smaller, at, _) = sizes.select_nth_unstable(half);
        let mut limit = Limit {
            bytes: *at,
            // Of those at the limit only as many as make up half.
            at_limit: half + 1 - smaller.iter().filter(|size| **size < *at).count(),
        };
        self.nodes = self.root.fold(&mut limit);
    }
}

/// What is folded in a round: below a size, and some at it.
struct Limit {
    bytes: u64,
    at_limit: usize,
}

impl Limit {
    fn is_folded(&mut self, node: &Node) -> bool {
        if node.total.bytes == self.bytes && self.at_limit > 0 {
            self.at_limit -= 1;
            return true;
        }
        node.total.bytes < self.bytes
    }
}

/// The depth bounds these recursions: [`PREFIX_DEPTH_MAX`].
impl Node {
    fn missed_of_new(&self) -> Sum {
        let mut missed = self.missed_max;
        missed.add(self.rounds);
        missed
    }

    fn count(&self) -> usize {
        let below = self.children.values().map(|child| 1 + child.count());
        below.sum()
    }

    fn sizes(&self, sizes: &mut Vec<u64>) {
        for child in self.children.values() {
            sizes.push(child.total.bytes);
            child.sizes(sizes);
        }
    }

    /// How many nodes are left below.
    fn fold(&mut self, limit: &mut Limit) -> usize {
        let mut left = 0;
        let mut largest = Sum::default();
        let folded = &mut self.folded;
        self.children.retain(|_, child| {
            if limit.is_folded(child) {
                folded.add(child.total);
                largest = largest.most(child.total);
                return false;
            }
            left += 1 + child.fold(limit);
            true
        });
        self.rounds.add(largest);
        // A table does not shrink by itself. One that will grow again at once is left as it is.
        if self.children.capacity() > 8 * self.children.len().max(8) {
            self.children.shrink_to_fit();
        }
        left
    }

    fn merge(&mut self, mut other: Self) {
        // A prefix that one of the trees does not know, it may have folded.
        let (missed_here, missed_there) = (self.missed_of_new(), other.missed_of_new());
        for (part, child) in &mut self.children {
            match other.children.remove(part) {
                Some(more) => child.merge(*more),
                None => child.miss(missed_there),
            }
        }
        for (part, mut child) in other.children {
            child.miss(missed_here);
            self.children.insert(part, child);
        }
        self.total.add(other.total);
        self.here.add(other.here);
        self.folded.add(other.folded);
        self.missed_max.add(other.missed_max);
        self.rounds.add(other.rounds);
    }

    fn miss(&mut self, missed: Sum) {
        self.missed_max.add(missed);
        for child in self.children.values_mut() {
            child.miss(missed);
        }
    }
}

/// The part before the first separator, and what is behind it.
fn split<'a>(name: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = match separator {
        [] => None,
        [one] => name.iter().position(|byte| byte == one),
        many => name.windows(many.len()).position(|window| window == many),
    }?;
    let (part, rest) = name.split_at(at);
    Some((part, rest.get(separator.len()..).unwrap_or_default()))
}

fn cut_part<'a>(part: &'a [u8], cut: &'a mut [u8; PART_BYTES_MAX + 1]) -> &'a [u8] {
    match part.get(..=PART_BYTES_MAX) {
        None => part,
        Some(longer) => {
            cut.copy_from_slice(longer);
            cut[PART_BYTES_MAX] = 0;
            cut
        }
    }
}

fn write_children<S: Serializer>(children: &Children, serializer: S) -> Result<S::Ok, S::Error> {
    let texts = children
        .iter()
        .map(|(part, child)| (latin1::text(part), child));
    serializer.collect_map(texts)
}

fn read_children<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Children, D::Error> {
    let texts = HashMap::<String, Box<Node>>::deserialize(deserializer)?;
    let children = texts.into_iter();
    children
        .map(|(part, child)| Ok((latin1::bytes(&part)?, child)))
        .collect()
}

/// A sum as `[keys, bytes]`.
mod pair {
    use super::*;

    pub(super) fn serialize<S: Serializer>(sum: &Sum, serializer: S) -> Result<S::Ok, S::Error> {
        (sum.keys, sum.bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sum, D::Error> {
        let (keys, bytes) = Deserialize::deserialize(deserializer)?;
        Ok(Sum { keys, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Prefixes {
        let mut tree = Prefixes::new(":", 3);
        names.iter().for_each(|name| tree.take(name.as_bytes(), 10));
        tree
    }

    fn at<'a>(tree: &'a Prefixes, path: &[&str]) -> Option<&'a Node> {
        path.iter().try_fold(&tree.root, |node, part| {
            node.children.get(part.as_bytes()).map(|child| &**child)
        })
    }

    #[test]
    fn where_names_go() {
        let tree = of(&["a", "a:1", "a:2", "a:b:1", "a:b:c:d:e", ":x", "", "a::z"]);
        for (path, total, here) in [
            (&[][..], 8, 2),
            (&["a"], 5, 2),
            (&["a", "b"], 2, 1),
            (&["a", "b", "c"], 1, 1),
            (&[""], 1, 1),
            (&["a", ""], 1, 1),
        ] {
            let node = at(&tree, path).unwrap();
            assert_eq!((node.total.keys, node.here.keys), (total, here), "{path:?}");
            assert_eq!(node.total.bytes, 10 * total);
        }
        assert_eq!(at(&tree, &["a", "b", "c", "d"]), None);
        assert_eq!(tree.nodes, 5);
    }

    #[test]
    fn long_parts_are_cut() {
        let mut tree = Prefixes::new(":", 1);
        for (length, end) in [(64, ""), (65, ""), (64, "a"), (64, "b"), (64, "ccc")] {
            tree.take(format!("{}{end}:1", "x".repeat(length)).as_bytes(), 1);
        }
        let mut keys: Vec<_> = tree
            .root
            .children
            .iter()
            .map(|(p, n)| (p.len(), n.total.keys))
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, [(64, 1), (65, 4)]);
    }

    #[test]
    fn separators() {
        type Row = (
            &'static str,
            &'static str,
            Option<(&'static str, &'static str)>,
        );
        let rows: [Row; 6] = [
            ("a:b:c", ":", Some(("a", "b:c"))),
            ("a::b::c", "::", Some(("a", "b::c"))),
            ("a:b", "::", None),
            ("a", "", None),
            ("", ":", None),
            ("::", "::", Some(("", ""))),
        ];
        for (name, separator, expected) in rows {
            let got = split(name.as_bytes(), separator.as_bytes());
            let expected = expected.map(|(part, rest)| (part.as_bytes(), rest.as_bytes()));
            assert_eq!(got, expected, "{name:?} at {separator:?}");
        }
    }

    /// What each prefix holds, counted without bounds.
    type Exact = HashMap<Vec<u8>, Sum>;

    fn check_sums(node: &Node, path: &mut Vec<u8>, exact: &Exact) {
        let mut sum = node.here;
        sum.add(node.folded);
        for (part, child) in &node.children {
            sum.add(child.total);
            let length = path.len();
            path.extend_from_slice(part);
            path.push(b':');
            check_sums(child, path, exact);
            let exact = exact[path.as_slice()];
            let mut most = child.total;
            most.add(child.missed_max);
            assert!(child.total.keys <= exact.keys && exact.keys <= most.keys);
            assert!(child.total.bytes <= exact.bytes && exact.bytes <= most.bytes);
            path.truncate(length);
        }
        assert_eq!(sum, node.total);
    }

    #[test]
    fn sums_and_bounds_hold_however_much_is_folded() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(6);
        let mut exact = Exact::new();
        let mut trees = [Prefixes::new(":", 3), Prefixes::new(":", 3)];
        for n in 0..150_000_u32 {
            // A third of the first parts come again and again.
            let first = match random.random_range(0..3) {
                0 => random.random_range(0..50),
                1 => random.random_range(0..30_000),
                _ => random.random_range(0..1_000_000),
            };
            let name = format!("{first}:{}:{n}", random.random_range(0..3));
            let size_bytes = random.random_range(50..500);
            trees[(n % 2) as usize].take(name.as_bytes(), size_bytes);
            for (at, _) in name.match_indices(':') {
                let prefix = name.as_bytes()[..=at].to_vec();
                exact.entry(prefix).or_default().take(size_bytes);
            }
        }
        let [mut tree, other] = trees;
        for one in [&tree, &other] {
            assert!(one.root.folded.keys > 0, "it was folded");
            assert_eq!(one.nodes, one.root.count());
        }
        tree.merge(other);
        assert!(tree.nodes <= NODES_MAX);
        assert_eq!(tree.root.total.keys, 150_000);
        check_sums(&tree.root, &mut Vec::new(), &exact);
        let again: Prefixes = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
        assert_eq!(again, tree);
    }
}
