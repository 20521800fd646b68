//! A sample of a source's keys: some from random places of each db, with size, type and, where they are
//! small, value. Bounded in keys, bytes and commands; large values are never read.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keyhaul_client::{Asking, ClientError, KeyRead, ReadConnection, ScanOptions};
use keyhaul_rdb::{KeyType, Reader};

use crate::plan::DbPlan;
use crate::site::Site;
use crate::survey::kinds::{Fate, Kinds, KindsBasis};
use crate::transform::KeyFilter;

/// Keys of a whole sample, about: of each node and db at least [`KEYS_MIN`].
const KEYS: u64 = 1000;
const KEYS_MIN: u64 = 10;
/// Random places where SCAN begins in a db, at most: fewer where fewer keys are looked at.
const PLACES: u64 = 10;
/// SCAN calls of a whole sample.
const SCANS: u64 = 200;
/// How long a whole sample takes, about.
const TIME: Duration = Duration::from_secs(3);
/// SCAN steps for one place; a table that has shrunk has empty places.
const STEPS_MAX: usize = 20;
/// Keys above are not read, bytes of memory.
const VALUE_BYTES_MAX: u64 = 64 * 1024;
/// All values that are read, bytes of memory.
const VALUES_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Keys in one pipeline.
const BATCH: usize = 50;

/// What decides over keys.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub filter: &'a KeyFilter,
    pub reader: &'a Reader,
    /// Keys above are listed, bytes of memory.
    pub mem_limit: Option<u64>,
    /// Keys above go by chunks, bytes of memory; `None`: none does.
    pub chunk_threshold: Option<u64>,
    /// MEMORY USAGE is permitted. Without, no value is read: it might be a large one.
    pub tells_sizes: bool,
}

/// What is left of the bounds of a whole sample.
#[derive(Debug)]
struct Bounds {
    scans: u64,
    until: Instant,
    /// Bytes of memory of values that may still be read.
    bytes: u64,
}

impl Bounds {
    fn new() -> Self {
        Self {
            scans: SCANS,
            until: Instant::now() + TIME,
            bytes: VALUES_BYTES_MAX,
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    fn is_spent(&self) -> bool {
        self.scans == 0 || self.is_late()
    }
}

/// One db of one node.
#[derive(Debug, Clone, Copy)]
struct Part {
    db: u32,
    /// How many keys it holds, if that could be told.
    keys: Option<u64>,
    /// How many are looked at.
    wanted: u64,
}

/// Samples the keys of these dbs on every primary.
///
/// # Errors
/// Those of the connections; what a server refuses is left out.
pub(super) async fn take(
    site: &Site,
    nodes: &[Option<Vec<(u32, u64)>>],
    dbs: &[DbPlan],
    rules: &Rules<'_>,
) -> Result<Kinds, ClientError> {
    let mut kinds = Kinds {
        basis: KindsBasis::AllKeys,
        ..Kinds::default()
    };
    let mut bounds = Bounds::new();
    let known = nodes.iter().flatten().flatten();
    let in_all: u64 = known
        .filter(|(db, _)| dbs.iter().any(|one| one.source_db == *db))
        .map(|(_, keys)| keys)
        .sum();
    for ((_, address), keyspace) in site.primaries().iter().zip(nodes) {
        let parts = dbs
            .iter()
            .map(|db| part(db.source_db, keyspace.as_deref(), in_all));
        let parts: Vec<Part> = parts.filter(|part| part.wanted > 0).collect();
        if parts.is_empty() {
            continue;
        }
        if bounds.is_spent() {
            kinds.pass_over(parts.len() as u64);
            continue;
        }
        let mut connection = site.open(address).await?;
        for part in parts {
            if bounds.is_spent() {
                kinds.pass_over(1);
                continue;
            }
            match of_db(&mut connection, part, rules, &mut kinds, &mut bounds).await {
                Ok(()) => {}
                // A db that may not be selected, a SCAN that is forbidden: the rights say so.
                Err(ClientError::Server { .. }) => {
                    kinds.basis = KindsBasis::Sample;
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(kinds)
}

/// A share of the sample by the share of the keys.
fn part(db: u32, keyspace: Option<&[(u32, u64)]>, in_all: u64) -> Part {
    let keys = keyspace.map(|dbs| {
        let found = dbs.iter().find(|(d, _)| *d == db);
        found.map_or(0, |(_, keys)| *keys)
    });
    let wanted = match keys {
        Some(0) => 0,
        Some(keys) => (KEYS.saturating_mul(keys) / in_all.max(1)).max(KEYS_MIN),
        None => KEYS,
    };
    Part { db, keys, wanted }
}

async fn of_db(
    connection: &mut ReadConnection,
    part: Part,
    rules: &Rules<'_>,
    kinds: &mut Kinds,
    bounds: &mut Bounds,
) -> Result<(), ClientError> {
    connection.select(part.db).await?;
    let keys = names(connection, part, bounds).await?;
    if part.keys.is_none_or(|all| all > keys.len() as u64) {
        kinds.basis = KindsBasis::Sample;
        kinds.is_cut |= bounds.is_spent();
    }
    let keys: Vec<Bytes> = keys.into_iter().collect();
    for batch in keys.chunks(BATCH) {
        if bounds.is_late() {
            kinds.pass_over(0);
            break;
        }
        kinds.looked_at += batch.len() as u64;
        let is_taken = |key: &&Bytes| rules.filter.takes_name(key);
        let batch: Vec<Bytes> = batch.iter().filter(is_taken).cloned().collect();
        of_batch(connection, &batch, rules, kinds, &mut bounds.bytes).await?;
    }
    Ok(())
}

/// Names of keys: all of a small db, else some from each of some random places.
async fn names(
    connection: &mut ReadConnection,
    part: Part,
    bounds: &mut Bounds,
) -> Result<HashSet<Bytes>, ClientError> {
    let mut names = HashSet::new();
    if part.keys.is_some_and(|keys| keys <= part.wanted) {
        add_from(connection, 0, part.wanted, &mut names, bounds).await?;
        return Ok(names);
    }
    let places = (part.wanted / KEYS_MIN).clamp(1, PLACES);
    for _ in 0..places {
        let upto = names.len() as u64 + part.wanted.div_ceil(places);
        match add_from(connection, random(), upto, &mut names, bounds).await {
            Ok(()) => {}
            // A proxy may take no cursor but its own.
            Err(ClientError::Server { .. }) => {
                return add_from(connection, 0, part.wanted, &mut names, bounds)
                    .await
                    .map(|()| names);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(names)
}

/// Scans on from a cursor until there are so many names, or the end comes.
async fn add_from(
    connection: &mut ReadConnection,
    mut cursor: u64,
    upto: u64,
    names: &mut HashSet<Bytes>,
    bounds: &mut Bounds,
) -> Result<(), ClientError> {
    for _ in 0..STEPS_MAX {
        let missing = upto.saturating_sub(names.len() as u64);
        if missing == 0 || bounds.is_spent() {
            break;
        }
        bounds.scans -= 1;
        let scan = ScanOptions {
            count: u32::try_from(missing.max(KEYS_MIN)).unwrap_or(u32::MAX),
            ..ScanOptions::default()
        };
        let page = connection.scan(cursor, &scan).await?;
        names.extend(page.keys);
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
    }
    Ok(())
}

/// Any number: the hasher of a set is seeded anew each time.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

async fn of_batch(
    connection: &mut ReadConnection,
    keys: &[Bytes],
    rules: &Rules<'_>,
    kinds: &mut Kinds,
    budget: &mut u64,
) -> Result<(), ClientError> {
    let mut known = Vec::with_capacity(keys.len());
    for (key, look) in keys.iter().zip(connection.look(keys).await?) {
        match look {
            Ok(look) if look.is_missing() => {}
            Ok(look) => known.push((key.clone(), look)),
            // Out of this user's reach, or moved away.
            Err(_) => {
                kinds.taken += 1;
                kinds.count("unknown", Fate::IsUnknown);
            }
        }
    }
    let keys: Vec<Bytes> = known.iter().map(|(key, _)| key.clone()).collect();
    let sizes = match rules.tells_sizes {
        true => connection.memory_usage(&keys).await?,
        false => vec![0; keys.len()],
    };
    let mut small = Vec::new();
    for ((key, look), memory_bytes) in known.into_iter().zip(sizes) {
        let key_type = String::from_utf8_lossy(&look.key_type).into_owned();
        let named = key_type.parse::<KeyType>().ok();
        if !rules.filter.takes_type(named) {
            continue;
        }
        kinds.taken += 1;
        kinds.expiring += u64::from(look.expire_at_ms.is_some());
        if rules.mem_limit.is_some_and(|limit| memory_bytes > limit) {
            kinds.count(&key_type, Fate::IsLeftOut);
        } else if named.is_some()
            && rules
                .chunk_threshold
                .is_some_and(|most| memory_bytes > most)
        {
            kinds.count(&key_type, Fate::GoesByChunks);
        } else if rules.tells_sizes && memory_bytes <= VALUE_BYTES_MAX.min(*budget) {
            *budget -= memory_bytes;
            small.push((key, key_type, memory_bytes));
        } else {
            kinds.count(&key_type, Fate::IsUnknown);
        }
    }
    read(connection, &small, rules, kinds).await
}

/// Reads small values and judges them.
async fn read(
    connection: &mut ReadConnection,
    small: &[(Bytes, String, u64)],
    rules: &Rules<'_>,
    kinds: &mut Kinds,
) -> Result<(), ClientError> {
    let keys: Vec<Bytes> = small.iter().map(|(key, ..)| key.clone()).collect();
    connection.ask_keys(&keys, Asking::No).await?;
    for (_, key_type, memory_bytes) in small {
        match connection.next_key(Asking::No).await? {
            KeyRead::Whole { payload, .. } => {
                kinds.judge(key_type, &payload, rules.reader);
                kinds.read.keys += 1;
                kinds.read.memory_bytes += memory_bytes;
                kinds.read.payload_bytes += payload.len() as u64;
            }
            KeyRead::Gone => kinds.taken = kinds.taken.saturating_sub(1),
            KeyRead::Unsettled | KeyRead::Refused(_) => kinds.count(key_type, Fate::IsUnknown),
            // It has grown meanwhile: it passes by.
            KeyRead::Large { .. } => {
                while connection.next_part().await?.is_some() {}
                connection.finish_large().await?;
                kinds.count(key_type, Fate::IsUnknown);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_sample() {
        let keyspace: &[(u32, u64)] = &[(0, 9_000_000), (3, 100), (5, 0)];
        let wanted = |db, keyspace, in_all| part(db, keyspace, in_all).wanted;
        assert_eq!(wanted(0, Some(keyspace), 9_000_100), 999);
        assert_eq!(wanted(3, Some(keyspace), 9_000_100), KEYS_MIN);
        assert_eq!(wanted(5, Some(keyspace), 9_000_100), 0);
        assert_eq!(wanted(9, Some(keyspace), 9_000_100), 0);
        assert_eq!(wanted(0, None, 0), KEYS);
        assert_eq!(wanted(3, Some(&[(3, 7)]), 7), KEYS);
    }
}
