//! Settles a large value that is written again and again: only elements that differ go over, page by page.
//!
//! What a reader of the target sees meanwhile is the old value with some of the new elements in it, as after some of the
//! writes. Who was told of no write since it began has the value of one moment in the end. Where the target has no such
//! value yet, it is built under a staging name and takes its place when all elements were gone over once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use keyhaul_client::{ClientError, KeyExpiry, Page, ReadConnection, TargetConnection, ValueKind};
use keyhaul_resp::{Value, encode};

use crate::bigkey::job::Rules;
use crate::bigkey::staging::{LIFE_MS, Purpose};
use crate::checkpoint::BigKey;

/// Elements on a page, and what they may take by the mean of all, bytes.
const PAGE_ELEMENTS: u64 = 500;
const PAGE_BYTES: u64 = 256 * 1024;

/// A value that both sides have.
struct Hot<'a> {
    source: ReadConnection,
    target: TargetConnection,
    key: &'a [u8],
    /// The key that is written.
    target_key: Bytes,
    /// It is none of the user's.
    is_staging: bool,
    kind: ValueKind,
    count: u64,
    rules: &'a Arc<Rules>,
}

/// An element: its name, and its value or score.
type Element = (Bytes, Option<Bytes>);

/// Writes the elements of a key that differ, and removes those that the source has no more. `false`: that cannot be done
/// with this key, which is to be copied as a whole.
///
/// # Errors
/// Those of either side; some elements may be written.
pub(super) async fn settle(rules: &Arc<Rules>, big: &BigKey) -> Result<bool, ClientError> {
    let mut source = rules
        .source
        .open(&rules.source.address_of_key(&big.key)?)
        .await?;
    source.select(big.db).await?;
    let (target_db, target_key) = rules.outlet.target_name(big.db, &big.key);
    let address = rules.target.address_of_key(&target_key)?;
    let connector = rules.target.routing.connector();
    let mut target = TargetConnection::open(connector, &address, rules.target.expiry).await?;
    target.reads().select(target_db).await?;
    let name = type_of(&mut source, &big.key).await?;
    let kind = match ValueKind::of_type_name(&name) {
        Some(kind @ (ValueKind::Hash | ValueKind::Set | ValueKind::SortedSet)) => kind,
        _ => return Ok(false),
    };
    if !rules
        .outlet
        .filter()
        .takes_type(kind.type_name().parse().ok())
    {
        return Ok(false);
    }
    let is_there = type_of(target.reads(), &target_key).await? == name;
    let purpose = Purpose {
        job: rules.job_id,
        source_db: big.db,
        source_key: big.key.clone(),
        target_key: target_key.clone(),
    };
    let staging = (!is_there).then(|| purpose.name(0));
    let length = source.length(kind, &big.key).await?;
    let mean_bytes = (big.memory_bytes / length.max(1)).max(1);
    let mut hot = Hot {
        source,
        target,
        key: &big.key,
        target_key: staging.clone().unwrap_or_else(|| target_key.clone()),
        is_staging: !is_there,
        kind,
        count: (PAGE_BYTES / mean_bytes).clamp(1, PAGE_ELEMENTS),
        rules,
    };
    if let Some(staging) = &staging {
        hot.target.raw().call(&[b"UNLINK", staging]).await?;
    }
    let is_possible = hot.forth().await?;
    if let Some(staging) = &staging {
        // A key that is gone, or another one by now, was told.
        let is_same = type_of(&mut hot.source, &big.key).await? == name;
        if !is_possible || !is_same {
            hot.target.raw().call(&[b"UNLINK", staging]).await?;
            return Ok(is_possible);
        }
        let place: [&[u8]; 3] = [b"RENAME", staging, &target_key];
        hot.target.raw().call(&place).await?;
        (hot.target_key, hot.is_staging) = (target_key, false);
    }
    if !is_possible {
        return Ok(false);
    }
    let ours = hot.source.length(kind, hot.key).await?;
    if ours != hot.target.reads().length(kind, &hot.target_key).await? {
        hot.back().await?;
    }
    hot.expire().await?;
    Ok(true)
}

async fn type_of(connection: &mut ReadConnection, key: &Bytes) -> Result<Bytes, ClientError> {
    let looks = connection.look(std::slice::from_ref(key)).await?;
    match looks.into_iter().next() {
        Some(Ok(look)) => Ok(look.key_type),
        Some(Err(error)) => Err(connection.refusal(error)),
        None => Err(connection.unexpected("TYPE")),
    }
}

impl Hot<'_> {
    /// Writes what differs. `false`: there are fields that expire.
    async fn forth(&mut self) -> Result<bool, ClientError> {
        let mut cursor = 0;
        loop {
            let page = page(&mut self.source, self.key, self.kind, (cursor, self.count)).await?;
            cursor = page.0;
            if !self.write(page.1).await? {
                return Ok(false);
            }
            if cursor == 0 {
                return Ok(true);
            }
        }
    }

    async fn write(&mut self, elements: Vec<Element>) -> Result<bool, ClientError> {
        if elements.is_empty() {
            return Ok(true);
        }
        let names: Vec<&[u8]> = elements.iter().map(|(name, _)| name.as_ref()).collect();
        if self.kind == ValueKind::Hash {
            let abilities = self.rules.abilities;
            let expire = abilities.source_field_expiry
                && any_expires(&mut self.source, self.key, &names).await?;
            let target = self.target.reads();
            let expired = abilities.target_field_expiry
                && any_expires(target, &self.target_key, &names).await?;
            if expire || expired {
                return Ok(false);
            }
        }
        let found = self.look_up(&names).await?;
        let command: &[u8] = match self.kind {
            ValueKind::Hash => b"HSET",
            ValueKind::SortedSet => b"ZADD",
            _ => b"SADD",
        };
        let mut args: Vec<&[u8]> = vec![command, &self.target_key];
        for ((name, value), found) in elements.iter().zip(&found) {
            match (self.kind, value) {
                _ if !self.differs(value.as_ref(), found) => {}
                (ValueKind::Hash, Some(value)) => args.extend([name.as_ref(), value]),
                (ValueKind::SortedSet, Some(score)) => args.extend([score.as_ref(), name]),
                _ => args.push(name),
            }
        }
        if args.len() > 2 {
            let bytes = args.iter().map(|arg| arg.len() as u64).sum();
            self.rules.outlet.throttle().pass(bytes).await;
            self.target.raw().call(&args).await?;
            if self.is_staging {
                let live: [&[u8]; 3] = [b"PEXPIRE", &self.target_key, LIFE_MS];
                self.target.raw().call(&live).await?;
            }
        }
        Ok(true)
    }

    /// What the target has for these elements.
    async fn look_up(&mut self, names: &[&[u8]]) -> Result<Vec<Value>, ClientError> {
        let key = self.target_key.clone();
        let raw = self.target.raw();
        if self.kind == ValueKind::Hash {
            let args: Vec<&[u8]> = [&b"HMGET"[..], &key]
                .into_iter()
                .chain(names.iter().copied())
                .collect();
            let reply = raw.call(&args).await?.into_list();
            return reply.ok_or_else(|| raw.unexpected("HMGET"));
        }
        let command: &[u8] = match self.kind {
            ValueKind::SortedSet => b"ZSCORE",
            _ => b"SISMEMBER",
        };
        for name in names {
            encode::command(raw.output(), &[command, &key, name]);
        }
        raw.flush().await?;
        let mut found = Vec::with_capacity(names.len());
        for _ in names {
            found.push(raw.reply().await?);
        }
        Ok(found)
    }

    fn differs(&self, ours: Option<&Bytes>, theirs: &Value) -> bool {
        let number = |text: &Bytes| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
        match self.kind {
            ValueKind::Hash => theirs.as_bytes() != ours,
            ValueKind::SortedSet => {
                let theirs = match theirs {
                    Value::Double(score) => Some(*score),
                    theirs => theirs.as_bytes().and_then(number),
                };
                // Zero has a sign.
                theirs.map(f64::to_bits) != ours.and_then(number).map(f64::to_bits)
            }
            _ => theirs.as_int() != Some(1),
        }
    }

    /// Removes what only the target has.
    async fn back(&mut self) -> Result<(), ClientError> {
        let command: &[u8] = match self.kind {
            ValueKind::Hash => b"HDEL",
            ValueKind::SortedSet => b"ZREM",
            _ => b"SREM",
        };
        let mut cursor = 0;
        loop {
            let target_key = self.target_key.clone();
            let target = self.target.reads();
            let page = page(target, &target_key, self.kind, (cursor, self.count)).await?;
            cursor = page.0;
            let names: Vec<&[u8]> = page.1.iter().map(|(name, _)| name.as_ref()).collect();
            let found = self.source.contains(self.kind, self.key, &names).await?;
            let extra = names.iter().zip(found).filter(|(_, found)| !found);
            let mut args: Vec<&[u8]> = vec![command, &target_key];
            args.extend(extra.map(|(name, _)| *name));
            if args.len() > 2 {
                self.target.raw().call(&args).await?;
            }
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Gives the key its time.
    async fn expire(&mut self) -> Result<(), ClientError> {
        let ours = self.source.key_expiry(self.key).await?;
        if ours == self.target.reads().key_expiry(&self.target_key).await? {
            return Ok(());
        }
        let key: &[u8] = &self.target_key;
        match ours {
            KeyExpiry::At(at) => {
                let at = at.to_string();
                let args: [&[u8]; 3] = [b"PEXPIREAT", key, at.as_bytes()];
                self.target.raw().call(&args).await?;
            }
            KeyExpiry::Never => {
                self.target.raw().call(&[b"PERSIST", key]).await?;
            }
            // It is told.
            KeyExpiry::Gone => {}
        }
        Ok(())
    }
}

/// A page of elements, and where the next one begins; 0: it was the last.
async fn page(
    connection: &mut ReadConnection,
    key: &[u8],
    kind: ValueKind,
    (cursor, count): (u64, u64),
) -> Result<(u64, Vec<Element>), ClientError> {
    let page = Page::Scan {
        kind,
        cursor,
        count,
    };
    connection.ask_page(key, page).await?;
    let reply = connection.next_reply().await?;
    elements(reply, kind).ok_or_else(|| connection.unexpected("HSCAN, SSCAN or ZSCAN"))
}

fn elements(reply: Value, kind: ValueKind) -> Option<(u64, Vec<Element>)> {
    let [cursor, items]: [Value; 2] = reply.into_list()?.try_into().ok()?;
    let cursor = u64::try_from(cursor.as_int()?).ok()?;
    let mut items = items.into_list()?.into_iter().map(Value::into_bytes);
    let mut elements = Vec::new();
    while let Some(name) = items.next() {
        let value = match kind {
            ValueKind::Set => None,
            _ => Some(items.next()??),
        };
        elements.push((name?, value));
    }
    Some((cursor, elements))
}

/// Whether any of these fields of a hash has a time of its own.
async fn any_expires(
    connection: &mut ReadConnection,
    key: &[u8],
    names: &[&[u8]],
) -> Result<bool, ClientError> {
    let mut bulks = BytesMut::new();
    names.iter().for_each(|name| encode::bulk(&mut bulks, name));
    connection
        .ask_field_expiries(key, &bulks, names.len())
        .await?;
    let reply = connection.next_reply().await?;
    let times = reply.as_list().unwrap_or_default();
    Ok(times
        .iter()
        .any(|time| time.as_int().is_some_and(|at| at >= 0)))
}
