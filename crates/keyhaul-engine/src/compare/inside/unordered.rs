//! Sets, sorted sets and hashes: what differs has a name. Of all elements of the source only digests are held,
//! and those that turn out to differ are looked for again.

use std::collections::{HashMap, hash_map::RandomState};
use std::hash::BuildHasher;

use keyhaul_rdb::{Element, Flaw};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Part;
use super::text::{self, Lines, Side, Text};

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
enum Holds<'a> {
    /// A member of a set.
    Nothing,
    /// A member of a sorted set.
    Score(f64),
    /// A field: its value, and when it expires, absolute Unix ms.
    Value(&'a [u8], Option<u64>),
}

/// The same, to be kept.
#[derive(Debug)]
enum Held {
    Nothing,
    Score(f64),
    Value(Text, Option<u64>),
}

/// Compares two values.
pub(super) fn compare(source: Part<'_>, target: Part<'_>, lines: &mut Lines) -> Result<(), Flaw> {
    let seed = RandomState::new().hash_one(0);
    let mut left: HashMap<u64, u64> = HashMap::new();
    source.for_each(|element| {
        if let Some((name, holds)) = split(element) {
            left.insert(xxh3_64_with_seed(name, seed), digest(holds, seed));
        }
    })?;
    let most = lines.room();
    let mut changed: HashMap<u64, Held> = HashMap::new();
    let mut extra: Vec<Vec<u8>> = Vec::new();
    let (mut more, mut what) = (0, "member");
    target.for_each(|element| {
        let Some((name, holds)) = split(element) else {
            return;
        };
        if let Holds::Value(..) = holds {
            what = "field";
        }
        let key = xxh3_64_with_seed(name, seed);
        match left.remove(&key) {
            Some(found) if found == digest(holds, seed) => {}
            Some(_) if changed.len() < most => {
                changed.insert(key, keep(holds));
            }
            None if extra.len() < most => extra.push(name.to_vec()),
            _ => more += 1,
        }
    })?;
    if left.is_empty() && changed.is_empty() && extra.is_empty() {
        return Ok(());
    }
    let mut missing = Vec::new();
    source.for_each(|element| {
        let Some((name, holds)) = split(element) else {
            return;
        };
        if let Holds::Value(..) = holds {
            what = "field";
        }
        let key = xxh3_64_with_seed(name, seed);
        if let Some(other) = changed.remove(&key) {
            tell(name, holds, &other, lines);
        } else if left.contains_key(&key) {
            match missing.len() < most {
                true => missing.push(name.to_vec()),
                false => more += 1,
            }
        }
    })?;
    for (names, side) in [(missing, Side::Source), (extra, Side::Target)] {
        for name in names {
            lines.push(|| text::only(what, &text::shown(&name), side));
        }
    }
    lines.add_more(more);
    Ok(())
}

fn split(element: Element<'_>) -> Option<(&[u8], Holds<'_>)> {
    match element {
        Element::Member(member) => Some((member, Holds::Nothing)),
        Element::Scored { member, score } => Some((member, Holds::Score(score))),
        Element::Field {
            field,
            value,
            expire_at_ms,
        } => Some((field, Holds::Value(value, expire_at_ms))),
        _ => None,
    }
}

fn digest(holds: Holds<'_>, seed: u64) -> u64 {
    match holds {
        Holds::Nothing => 0,
        Holds::Score(score) => (score + 0.0).to_bits(),
        Holds::Value(value, at) => xxh3_64_with_seed(value, seed ^ at.unwrap_or(0)),
    }
}

fn keep(holds: Holds<'_>) -> Held {
    match holds {
        Holds::Nothing => Held::Nothing,
        Holds::Score(score) => Held::Score(score),
        Holds::Value(value, at) => Held::Value(Text::whole(value), at),
    }
}

fn tell(name: &[u8], source: Holds<'_>, target: &Held, lines: &mut Lines) {
    match (source, target) {
        (Holds::Score(score), Held::Score(other)) => {
            lines.push(|| text::scores(&Text::whole(name), score, *other));
        }
        (Holds::Value(value, at), Held::Value(other, other_at)) => {
            let (value, name) = (Text::whole(value), text::shown(name));
            if value != *other {
                lines.push(|| text::field_value(&name, &value, other));
            }
            if at != *other_at {
                lines.push(|| text::field_expiry(&name, at, *other_at));
            }
        }
        _ => {}
    }
}
