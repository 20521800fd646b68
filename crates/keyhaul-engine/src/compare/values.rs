//! Reads keys of one side, wherever they are, as far as a comparison needs them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Action, Address, Asking, ClientError, KeyRead, ReadConnection, ServerError};
use keyhaul_rdb::{Canonical, KeyType};

use crate::compare::file_index::FileIndex;
use crate::compare::options::Depth;
use crate::compare::payload_digest::{DigestRules, PayloadReader};
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;
use crate::throttle::Throttle;

/// How often a key is read at once that was written while it was read.
const READS_MAX: u32 = 5;

/// Payloads that are asked for at once, bytes.
const PIPELINE_BYTES: u64 = 256 * 1024;
/// Keys that are asked for at once.
const PIPELINE_KEYS_MAX: usize = 256;

/// One side of a comparison.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    Servers {
        site: Arc<Site>,
        /// What its payloads are written in.
        rdb_version: u16,
        /// Keys above are compared element by element, MEMORY USAGE in bytes; `None`: none is that large.
        chunk_threshold: Option<u64>,
    },
    Files(Arc<FileIndex>),
}

/// How keys are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub depth: Depth,
    pub rules: DigestRules,
    /// The digests of values too, not only those of their bytes.
    pub canonical: bool,
    /// Payloads are kept as they are. Only for single keys.
    pub keeps: bool,
    /// Large keys are read in one piece too: they have no elements.
    pub whole: bool,
    /// Only whether they are there matters, with [`Depth::Quick`].
    pub existence: bool,
}

/// A key as one side has it.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Missing,
    Key(SeenKey),
    /// Too large to be read whole.
    Large,
    /// It was written each time it was read.
    Busy,
    Refused(ServerError),
}

/// What is there.
#[derive(Debug, Clone)]
pub(crate) struct SeenKey {
    /// As TYPE names it; of a module `module`, where a payload told it.
    pub type_name: Bytes,
    /// Lowest and highest possible expiry, Unix ms; `None`: never.
    pub expire_at_ms: Option<(i64, i64)>,
    /// Of the payload without its footer; `None`: none was read.
    pub raw: Option<u128>,
    /// Of the value.
    pub canonical: Option<Canonical>,
    /// It was asked for.
    pub tried_canonical: bool,
    /// The payload.
    pub payload: Option<Bytes>,
}

/// Reads keys of one side over connections of its own.
pub(crate) struct SideReader {
    pub(crate) side: Side,
    connections: HashMap<Address, ReadConnection>,
    /// How many were opened, ever.
    opened: u64,
    /// EXISTS is not permitted.
    lacks_exists: bool,
    /// Mean length of the payloads that came last, and how many were asked for.
    mean_bytes: u64,
    window: usize,
    patience: Patience,
    throttle: Arc<Throttle>,
}

impl SideReader {
    pub(crate) fn new(side: Side, retry_for: Duration, throttle: Arc<Throttle>) -> Self {
        Self {
            side,
            connections: HashMap::new(),
            opened: 0,
            lacks_exists: false,
            mean_bytes: 0,
            window: 1,
            patience: Patience::new(retry_for),
            throttle,
        }
    }

    /// One result for each key of a db, in order.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn read(
        &mut self,
        db: u32,
        keys: &[Bytes],
        how: How,
        ledger: &Ledger,
    ) -> Result<Vec<Seen>, GaveUp> {
        let site = match &self.side {
            Side::Servers { site, .. } => site.clone(),
            Side::Files(index) => return look_up(index, db, keys, ledger),
        };
        let mut results: Vec<Option<Seen>> = vec![None; keys.len()];
        let mut reads = 0;
        loop {
            let open: Vec<usize> = (0..keys.len())
                .filter(|index| results.get(*index).is_some_and(Option::is_none))
                .collect();
            if open.is_empty() {
                self.patience.success(ledger);
                return Ok(results.into_iter().flatten().collect());
            }
            if ledger.stop.is_cancelled() {
                return Err(GaveUp);
            }
            if let Err(e) = self.round(&site, db, keys, &open, how, &mut results).await {
                self.connections.clear();
                site.recover(&e, &mut self.patience, ledger).await?;
                continue;
            }
            reads += 1;
            if reads == READS_MAX {
                let written = results.iter_mut().filter(|result| result.is_none());
                written.for_each(|result| *result = Some(Seen::Busy));
            }
        }
    }

    /// Reads each of the open keys once. An error is returned when some of them need a wait.
    async fn round(
        &mut self,
        site: &Arc<Site>,
        db: u32,
        keys: &[Bytes],
        open: &[usize],
        how: How,
        results: &mut [Option<Seen>],
    ) -> Result<(), ClientError> {
        let mut groups: HashMap<Address, Vec<usize>> = HashMap::new();
        for index in open {
            if let Some(key) = keys.get(*index) {
                let address = site.address_of_key(key)?;
                groups.entry(address).or_default().push(*index);
            }
        }
        let mut passing = None;
        for (address, indexes) in groups {
            let names: Vec<Bytes> = (indexes.iter())
                .filter_map(|index| keys.get(*index).cloned())
                .collect();
            self.connection(site, &address).await?.select(db).await?;
            let seen = self.read_group(&address, &names, how, Asking::No).await?;
            for ((index, name), seen) in indexes.into_iter().zip(&names).zip(seen) {
                let seen = match seen {
                    Some(Seen::Refused(error)) => match error.action() {
                        Action::GiveUp => Some(Seen::Refused(error)),
                        Action::Moved { slot, announced } => {
                            site.routing.moved(slot, &announced);
                            passing = Some(error);
                            None
                        }
                        Action::Ask { announced } => {
                            let elsewhere = site.routing.named(&announced);
                            let elsewhere = match elsewhere {
                                Some(address) => address,
                                None => site.address_of_key(name)?,
                            };
                            self.connection(site, &elsewhere).await?;
                            let name = std::slice::from_ref(name);
                            let seen = self.read_group(&elsewhere, name, how, Asking::Yes).await?;
                            match seen.into_iter().next().flatten() {
                                Some(Seen::Refused(error)) if error.action() != Action::GiveUp => {
                                    passing = Some(error);
                                    None
                                }
                                seen => seen,
                            }
                        }
                        _ => {
                            passing = Some(error);
                            None
                        }
                    },
                    seen => seen,
                };
                if let Some(result) = results.get_mut(index) {
                    *result = seen;
                }
            }
        }
        match passing {
            Some(error) => {
                let address = site.address_of_key(b"")?;
                Err(ClientError::Server { address, error })
            }
            None => Ok(()),
        }
    }

    /// Reads keys of one node; `None`: to be read again.
    async fn read_group(
        &mut self,
        address: &Address,
        keys: &[Bytes],
        how: How,
        asking: Asking,
    ) -> Result<Vec<Option<Seen>>, ClientError> {
        let Side::Servers {
            rdb_version,
            chunk_threshold,
            ..
        } = &self.side
        else {
            return Ok(Vec::new());
        };
        let Some(connection) = self.connections.get_mut(address) else {
            return Ok(Vec::new());
        };
        if how.existence && asking == Asking::No && !self.lacks_exists {
            match connection.exist(keys).await {
                Ok(found) => {
                    return Ok(found
                        .into_iter()
                        .map(|there| Some(of_exists(there)))
                        .collect());
                }
                // A redirection is followed for the one key that it is about.
                Err(ClientError::Server { error, .. }) => self.lacks_exists = error.is_forbidden(),
                Err(e) => return Err(e),
            }
        }
        if how.depth == Depth::Quick {
            let looks = match asking {
                Asking::No => connection.look(keys).await?,
                Asking::Yes => {
                    let mut looks = Vec::new();
                    for key in keys {
                        looks.push(connection.look_asking(key).await?);
                    }
                    looks
                }
            };
            return Ok(looks.into_iter().map(|look| Some(of_look(look))).collect());
        }
        let mut sizes = vec![0; keys.len()];
        if let (Some(_), Asking::No, false) = (chunk_threshold, asking, how.whole) {
            sizes = match connection.memory_usage(keys).await {
                Ok(sizes) => sizes,
                // Where it is forbidden, large keys are read in one piece.
                Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => sizes,
                Err(e) => return Err(e),
            };
        }
        let is_large = |size: u64| chunk_threshold.is_some_and(|most| size > most);
        let whole = keys
            .iter()
            .zip(&sizes)
            .filter(|(_, size)| !is_large(**size));
        let whole: Vec<Bytes> = whole.map(|(key, _)| key.clone()).collect();
        let mut read = Vec::with_capacity(whole.len());
        let mut left = whole.as_slice();
        while !left.is_empty() {
            // A server makes all the replies of a pipeline at once, and holds them until they are read.
            let count = usize::try_from(PIPELINE_BYTES / self.mean_bytes.max(1)).unwrap_or(1);
            let most = self.window.saturating_mul(2);
            self.window = count.clamp(1, most.min(PIPELINE_KEYS_MAX));
            let (now, later) = left.split_at(self.window.min(left.len()));
            left = later;
            connection.ask_keys(now, asking).await?;
            let (mut bytes, mut longest, mut unpaid) = (0, 0, 0);
            for _ in now {
                let key = read_key(connection, *rdb_version, how, asking, &self.throttle).await?;
                bytes += key.payload_bytes;
                unpaid += if key.is_paid { 0 } else { key.payload_bytes };
                longest = key.payload_bytes.max(longest);
                read.push(key.seen);
            }
            // Not key by key: a timer's grain is coarser than what one of them owes.
            self.throttle.pass(unpaid).await;
            // Where some are far longer than the others, more of them may follow.
            self.mean_bytes = (bytes / now.len().max(1) as u64).max(longest / 8);
        }
        let mut read = read.into_iter();
        let mut seen = |size| match is_large(size) {
            true => Some(Seen::Large),
            false => read.next().flatten(),
        };
        Ok(sizes.into_iter().map(&mut seen).collect())
    }

    /// The connection to the node that owns a key, in its db.
    ///
    /// # Errors
    /// Those of dialling.
    pub(crate) async fn connection_of(
        &mut self,
        db: u32,
        key: &[u8],
    ) -> Result<Option<&mut ReadConnection>, ClientError> {
        let Side::Servers { site, .. } = &self.side else {
            return Ok(None);
        };
        let site = site.clone();
        let address = site.address_of_key(key)?;
        let connection = self.connection(&site, &address).await?;
        connection.select(db).await?;
        Ok(Some(connection))
    }

    /// Forgets all connections: replies may be outstanding.
    pub(crate) fn disconnect(&mut self) {
        self.connections.clear();
    }

    /// After an error on one of the connections.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn recover(
        &mut self,
        error: &ClientError,
        ledger: &Ledger,
    ) -> Result<(), GaveUp> {
        self.disconnect();
        match &self.side {
            Side::Servers { site, .. } => {
                let site = site.clone();
                site.recover(error, &mut self.patience, ledger).await
            }
            Side::Files(_) => Ok(()),
        }
    }

    /// Watches keys of a db; returns what must be told to [`SideReader::are_untouched`].
    ///
    /// # Errors
    /// Those of the connections, and refusals.
    pub(crate) async fn watch(&mut self, db: u32, keys: &[Bytes]) -> Result<u64, ClientError> {
        let Side::Servers { site, .. } = &self.side else {
            return Ok(0);
        };
        let site = site.clone();
        let mut groups: HashMap<Address, Vec<Bytes>> = HashMap::new();
        for key in keys {
            let address = site.address_of_key(key)?;
            groups.entry(address).or_default().push(key.clone());
        }
        for (address, keys) in groups {
            let connection = self.connection(&site, &address).await?;
            connection.select(db).await?;
            connection.watch_all(&keys).await?;
        }
        Ok(self.opened)
    }

    /// Whether nothing that is watched was written since; it is watched no more.
    ///
    /// # Errors
    /// Those of the connections.
    pub(crate) async fn are_untouched(&mut self, watched: u64) -> Result<bool, ClientError> {
        // A connection that was opened since watches nothing, and one that is gone tells nothing.
        let mut are = watched == self.opened;
        for connection in self.connections.values_mut() {
            are &= connection.are_untouched().await?;
        }
        Ok(are)
    }

    async fn connection(
        &mut self,
        site: &Arc<Site>,
        address: &Address,
    ) -> Result<&mut ReadConnection, ClientError> {
        if !self.connections.contains_key(address) {
            let connection = site.open(address).await?;
            self.opened += 1;
            self.connections.insert(address.clone(), connection);
        }
        let connection = self.connections.get_mut(address);
        Ok(connection.expect("it was just put there"))
    }
}

/// A key that was read.
struct ReadKey {
    /// `None`: to be read again.
    seen: Option<Seen>,
    payload_bytes: u64,
    /// The payload came in parts, which were charged to the rate limit each.
    is_paid: bool,
}

async fn read_key(
    connection: &mut ReadConnection,
    rdb_version: u16,
    how: How,
    asking: Asking,
    throttle: &Throttle,
) -> Result<ReadKey, ClientError> {
    let without_payload = |seen| ReadKey {
        seen,
        payload_bytes: 0,
        is_paid: true,
    };
    let (mut payload_bytes, mut is_paid) = (0, false);
    let mut reader = PayloadReader::new(how.rules, rdb_version, how.canonical);
    let (expire_at_ms, payload) = match connection.next_key(asking).await? {
        KeyRead::Gone => return Ok(without_payload(Some(Seen::Missing))),
        KeyRead::Unsettled => return Ok(without_payload(None)),
        KeyRead::Refused(error) => return Ok(without_payload(Some(Seen::Refused(error)))),
        KeyRead::Whole {
            payload,
            expire_at_ms,
        } => {
            payload_bytes = payload.len() as u64;
            reader.push(&payload);
            (expire_at_ms, how.keeps.then_some(payload))
        }
        KeyRead::Large { expire_at_ms, .. } => {
            is_paid = true;
            let mut kept = Vec::new();
            while let Some(part) = connection.next_part().await? {
                payload_bytes += part.len() as u64;
                throttle.pass(part.len() as u64).await;
                reader.push(&part);
                if how.keeps {
                    kept.extend_from_slice(&part);
                }
            }
            if !connection.finish_large().await? {
                return Ok(ReadKey {
                    seen: None,
                    payload_bytes,
                    is_paid,
                });
            }
            (expire_at_ms, how.keeps.then(|| kept.into()))
        }
    };
    let digests = reader.finish();
    let type_name = digests.key_type.map_or("unknown", KeyType::name);
    let seen = Seen::Key(SeenKey {
        type_name: Bytes::from_static(type_name.as_bytes()),
        expire_at_ms: expire_at_ms.map(|at| (at, at)),
        raw: Some(digests.raw),
        canonical: digests.canonical,
        tried_canonical: how.canonical,
        payload,
    });
    Ok(ReadKey {
        seen: Some(seen),
        payload_bytes,
        is_paid,
    })
}

fn of_exists(is_there: bool) -> Seen {
    match is_there {
        false => Seen::Missing,
        true => Seen::Key(SeenKey {
            type_name: Bytes::new(),
            expire_at_ms: None,
            raw: None,
            canonical: None,
            tried_canonical: false,
            payload: None,
        }),
    }
}

fn of_look(look: Result<keyhaul_client::KeyLook, ServerError>) -> Seen {
    match look {
        Err(error) => Seen::Refused(error),
        Ok(look) if look.is_missing() => Seen::Missing,
        Ok(look) => Seen::Key(SeenKey {
            type_name: look.key_type,
            expire_at_ms: look.expire_at_ms,
            raw: None,
            canonical: None,
            tried_canonical: false,
            payload: None,
        }),
    }
}

fn look_up(
    index: &FileIndex,
    db: u32,
    keys: &[Bytes],
    ledger: &Ledger,
) -> Result<Vec<Seen>, GaveUp> {
    let found = index.look(db, keys).map_err(|e| {
        ledger.halt(format!("the index of an RDB file cannot be read: {e}"));
        GaveUp
    })?;
    let seen = |key: Option<crate::compare::file_index::IndexedKey>| match key {
        None => Seen::Missing,
        Some(key) => Seen::Key(SeenKey {
            type_name: Bytes::from_static(key.key_type.name().as_bytes()),
            expire_at_ms: key.expire_at_ms.map(|at| (at, at)),
            raw: None,
            canonical: key.value,
            tried_canonical: true,
            payload: None,
        }),
    };
    Ok(found.into_iter().map(seen).collect())
}
