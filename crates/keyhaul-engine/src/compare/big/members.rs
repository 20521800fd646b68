//! Digests of hashes, sets and sorted sets: the sum of those of their elements, in no order.

use bytes::BytesMut;
use keyhaul_client::{Page, ValueKind};
use keyhaul_resp::Token;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::BigAsk;
use super::hash::{Feed, One};
use super::page::{Halt, PageReader};

/// A hash or a set, by HSCAN or SSCAN.
pub(super) async fn scanned(
    reader: &mut PageReader<'_>,
    ask: BigAsk<'_>,
    kind: ValueKind,
) -> Result<u128, Halt> {
    let is_hash = kind == ValueKind::Hash;
    let may_expire = is_hash && ask.has_field_expiry;
    let mut one = One::new(ask.seed);
    let mut sum = 0_u128;
    // Of the fields of a page: their names as bulk strings, and digests of name and value.
    let (mut names, mut digests) = (BytesMut::new(), Vec::new());
    let mut cursor = 0;
    ask_scan(reader, kind, cursor).await?;
    loop {
        let args;
        (cursor, args) = reader.scan_head().await?;
        if cursor != 0 && !may_expire {
            // The server works on the next page while this one is taken in.
            ask_scan(reader, kind, cursor).await?;
        }
        match is_hash {
            false => {
                for _ in 0..args {
                    reader.text(b'm', &mut one, None).await?;
                    sum = sum.wrapping_add(one.finish());
                    reader.count(1);
                }
            }
            true => {
                for _ in 0..args / 2 {
                    let name = may_expire.then_some(&mut names);
                    reader.text(b'f', &mut one, name).await?;
                    reader.text(b'v', &mut one, None).await?;
                    reader.count(1);
                    match may_expire {
                        true => digests.push(one.finish()),
                        false => {
                            sum = sum.wrapping_add(with_expiry(one.finish(), 0, ask.seed));
                        }
                    }
                }
            }
        }
        reader.end_reply();
        if may_expire {
            if !digests.is_empty() {
                reader.ask_expiries(&names, digests.len()).await?;
            }
            if cursor != 0 {
                ask_scan(reader, kind, cursor).await?;
            }
            sum = sum.wrapping_add(expiring(reader, &digests, ask.seed).await?);
            names.clear();
            digests.clear();
        }
        reader.end_page().await?;
        if cursor == 0 {
            return Ok(sum);
        }
    }
}

async fn ask_scan(reader: &mut PageReader<'_>, kind: ValueKind, cursor: u64) -> Result<(), Halt> {
    let count = reader.page_count();
    let page = Page::Scan {
        kind,
        cursor,
        count,
    };
    reader.ask(page).await
}

/// Takes in when the fields of a page expire; returns the sum of their digests.
async fn expiring(reader: &mut PageReader<'_>, digests: &[u128], seed: u64) -> Result<u128, Halt> {
    let mut sum = 0_u128;
    if digests.is_empty() {
        return Ok(sum);
    }
    if reader.array("HPEXPIRETIME").await? != digests.len() as u64 {
        return Err(reader.unexpected("HPEXPIRETIME"));
    }
    for digest in digests {
        let Token::Int(at) = reader.token().await? else {
            return Err(reader.unexpected("HPEXPIRETIME"));
        };
        // -1: never; -2: it expired since the page was read.
        if at == -2 {
            reader.uncount(1);
            continue;
        }
        let at = u64::try_from(at).unwrap_or(0);
        sum = sum.wrapping_add(with_expiry(*digest, at, seed));
    }
    reader.end_reply();
    Ok(sum)
}

/// The digest of a field; expiry in absolute Unix ms, 0: never.
fn with_expiry(digest: u128, expire_at_ms: u64, seed: u64) -> u128 {
    let mut bytes = [0; 24];
    let (head, tail) = bytes.split_at_mut(16);
    head.copy_from_slice(&digest.to_le_bytes());
    tail.copy_from_slice(&expire_at_ms.to_le_bytes());
    xxh3_128_with_seed(&bytes, seed)
}

/// A sorted set, by rank.
pub(super) async fn ranked(reader: &mut PageReader<'_>, ask: BigAsk<'_>) -> Result<u128, Halt> {
    let mut one = One::new(ask.seed);
    let mut sum = 0_u128;
    let mut upto = ask_ranks(reader, 0).await?;
    loop {
        let (members, is_nested) = reader.ranks_head().await?;
        let asked = upto;
        if asked < reader.length {
            // The server works on the next page while this one is taken in.
            upto = ask_ranks(reader, asked).await?;
        }
        for _ in 0..members {
            if is_nested {
                reader.array("ZRANGE").await?;
            }
            reader.text(b'z', &mut one, None).await?;
            // -0 is 0, as in the canonical form.
            let score = reader.score().await? + 0.0;
            one.put(&score.to_le_bytes());
            sum = sum.wrapping_add(one.finish());
            reader.count(1);
        }
        reader.end_reply();
        reader.end_page().await?;
        if asked >= reader.length {
            return Ok(sum);
        }
    }
}

/// Asks for the members from a rank on; returns the rank where the page ends.
async fn ask_ranks(reader: &mut PageReader<'_>, first: u64) -> Result<u64, Halt> {
    let count = reader.page_count();
    reader.ask(Page::Ranks { first, count }).await?;
    Ok(first + count)
}
