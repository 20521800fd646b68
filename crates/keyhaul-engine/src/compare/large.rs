//! Compares keys that are too large to be read whole, element by element.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use keyhaul_client::{ClientError, KeyExpiry};
use tokio::task::JoinSet;

use crate::compare::big::{self, BigAsk, BigDigest, BigRead, BigSide};
use crate::compare::comparer::Comparer;
use crate::compare::judge::Finding;
use crate::compare::pair_reader::PairReader;
use crate::compare::recheck::{INSIDE_MAX, pause, step};
use crate::compare::values::{Side, SideReader};
use crate::patience::GaveUp;
use crate::progress::BigKeyProgress;

/// Keys that are compared at the same time: each holds a page of either side.
const AT_ONCE: usize = 2;
/// Fields of hashes may expire on servers that write at least this RDB version (Redis 7.4, Valkey 9.0).
const FIELD_EXPIRY_SINCE: u16 = 12;

/// Compares all keys that were left for this.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn compare(comparer: &Arc<Comparer>) -> Result<(), GaveUp> {
    let mut keys = comparer.take_large();
    keys.sort();
    keys.dedup();
    let keys = Arc::new(Mutex::new(keys.into_iter()));
    let mut running = JoinSet::new();
    for _ in 0..AT_ONCE {
        running.spawn(work(comparer.clone(), keys.clone()));
    }
    while let Some(joined) = running.join_next().await {
        match joined {
            Ok(done) => done?,
            Err(e) => {
                comparer.ledger.halt(format!("a task failed: {e}"));
                return Err(GaveUp);
            }
        }
    }
    Ok(())
}

type Keys = Arc<Mutex<std::vec::IntoIter<(u32, Bytes)>>>;

/// Looks at one key after another until it is known what each is.
async fn work(comparer: Arc<Comparer>, keys: Keys) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    loop {
        let next = keys.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((db, key)) = next else {
            return Ok(());
        };
        let progress = comparer.ledger.progress.begin_big_key(db, &key);
        let compared = settle(&mut reader, db, &key, &progress).await;
        comparer.ledger.progress.end_big_key(&progress);
        let (finding, inside) = compared?;
        comparer.settle(db, &key, finding, inside);
    }
}

async fn settle(
    reader: &mut PairReader,
    db: u32,
    key: &Bytes,
    progress: &BigKeyProgress,
) -> Result<(Finding, Vec<String>), GaveUp> {
    let comparer = reader.comparer.clone();
    let mut before = None;
    for round in 0..=comparer.rechecks {
        let (wait, _, _) = step(round);
        pause(wait, &comparer.ledger).await?;
        let read = read(reader, db, key, progress).await?;
        let finding = match judge(&comparer, &read) {
            Some(finding) => finding,
            None => reader.look_whole(db, key).await?,
        };
        match &finding {
            Finding::Same | Finding::OutOfScope | Finding::Error(_) => {
                return Ok((finding, Vec::new()));
            }
            Finding::Unsettled => before = None,
            // Read from start to end twice, and the same both times.
            _ if before.as_ref() == Some(&read) => {
                let inside = match (&finding, &read) {
                    (Finding::Value(..), (BigRead::Digest(found), _)) => {
                        inside(reader, db, key, found).await?
                    }
                    _ => Vec::new(),
                };
                return Ok((finding, inside));
            }
            _ => before = Some(read),
        }
    }
    Ok((Finding::Unsettled, Vec::new()))
}

/// Both sides, read at the same time.
async fn read(
    reader: &mut PairReader,
    db: u32,
    key: &Bytes,
    progress: &BigKeyProgress,
) -> Result<(BigRead, BigRead), GaveUp> {
    let comparer = reader.comparer.clone();
    let target_db = comparer.db_map.target_db(db);
    let names = comparer.target_names(std::slice::from_ref(key));
    let target_key = names.first().unwrap_or(key);
    let of_target = BigKeyProgress::default();
    let (source, target) = tokio::join!(
        read_side(&mut reader.source, (db, key), progress, &comparer),
        read_side(
            &mut reader.target,
            (target_db, target_key),
            &of_target,
            &comparer
        ),
    );
    Ok((source?, target?))
}

async fn read_side(
    side: &mut SideReader,
    (db, key): (u32, &Bytes),
    progress: &BigKeyProgress,
    comparer: &Comparer,
) -> Result<BigRead, GaveUp> {
    loop {
        let has_field_expiry = has_field_expiry(&side.side);
        let read: Result<BigRead, ClientError> = async {
            let Some(connection) = side.connection_of(db, key).await? else {
                return Ok(BigRead::Missing);
            };
            let ask = BigAsk {
                key,
                seed: comparer.rules.seed,
                detail: comparer.rules.detail,
                has_field_expiry,
                progress,
                throttle: &comparer.throttle,
                stop: &comparer.ledger.stop,
            };
            big::digest(connection, ask).await
        }
        .await;
        match read {
            Ok(BigRead::Stopped) => return Err(GaveUp),
            Ok(read) => return Ok(read),
            Err(e) => side.recover(&e, &comparer.ledger).await?,
        }
    }
}

/// What two readings say; `None`: they have no elements.
fn judge(comparer: &Comparer, (source, target): &(BigRead, BigRead)) -> Option<Finding> {
    let type_name = |read: &BigRead| match read {
        BigRead::Digest(found) => found.kind.type_name().to_owned(),
        BigRead::NoElements(name) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    };
    let (source, target) = match (source, target) {
        (BigRead::Written | BigRead::Stopped, _) | (_, BigRead::Written | BigRead::Stopped) => {
            return Some(Finding::Unsettled);
        }
        (BigRead::Missing, _) => return Some(Finding::OutOfScope),
        (BigRead::Digest(source), _) if !takes_type(comparer, source.kind.type_name()) => {
            return Some(Finding::OutOfScope);
        }
        (BigRead::NoElements(name), _) if !takes_type(comparer, &String::from_utf8_lossy(name)) => {
            return Some(Finding::OutOfScope);
        }
        (_, BigRead::Missing) => return Some(Finding::Missing),
        (BigRead::NoElements(_), BigRead::NoElements(_)) => return None,
        (BigRead::Digest(source), BigRead::Digest(target)) if source.kind == target.kind => {
            (source, target)
        }
        (one, other) => {
            return Some(Finding::Type(format!(
                "type {} on the source, {} on the target",
                type_name(one),
                type_name(other)
            )));
        }
    };
    if (source.elements, source.digest) != (target.elements, target.digest) {
        let what = match source.elements == target.elements {
            true => format!("value differs ({} elements on both)", source.elements),
            false => format!(
                "value differs: {} elements on the source, {} on the target",
                source.elements, target.elements
            ),
        };
        return Some(Finding::Value(what, (source.digest, target.digest)));
    }
    let at = |expiry: KeyExpiry| match expiry {
        KeyExpiry::At(at) => Some((at, at)),
        KeyExpiry::Never | KeyExpiry::Gone => None,
    };
    let expiries = comparer.judge_expiries(at(source.expiry), at(target.expiry));
    Some(expiries.map_or(Finding::Same, Finding::Expiry))
}

/// Whether values of the type of this name are compared.
fn takes_type(comparer: &Comparer, name: &str) -> bool {
    comparer.filter.takes_type(name.parse().ok())
}

fn has_field_expiry(side: &Side) -> bool {
    match side {
        Side::Servers { rdb_version, .. } => *rdb_version >= FIELD_EXPIRY_SINCE,
        Side::Files(_) => false,
    }
}

/// What differs inside, where that is wanted.
async fn inside(
    reader: &mut PairReader,
    db: u32,
    key: &Bytes,
    found: &BigDigest,
) -> Result<Vec<String>, GaveUp> {
    let comparer = reader.comparer.clone();
    if !comparer.shows_diffs {
        return Ok(Vec::new());
    }
    let target_db = comparer.db_map.target_db(db);
    let names = comparer.target_names(std::slice::from_ref(key));
    let target_key = names.first().unwrap_or(key);
    let of_source = has_field_expiry(&reader.source.side);
    let of_target = has_field_expiry(&reader.target.side);
    let told: Result<Vec<String>, ClientError> = async {
        let source = reader.source.connection_of(db, key).await?;
        let target = reader.target.connection_of(target_db, target_key).await?;
        let (Some(source), Some(target)) = (source, target) else {
            return Ok(Vec::new());
        };
        big::differences(
            BigSide {
                connection: source,
                key,
                has_field_expiry: of_source,
            },
            BigSide {
                connection: target,
                key: target_key,
                has_field_expiry: of_target,
            },
            found.kind,
            comparer.rules.detail,
            INSIDE_MAX,
        )
        .await
    }
    .await;
    // That they differ is known; this is for the eye.
    Ok(told.unwrap_or_else(|e| {
        reader.source.disconnect();
        reader.target.disconnect();
        vec![format!("where is not known: {}", keyhaul_client::chain(&e))]
    }))
}
