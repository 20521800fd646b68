//! Digests of streams: entries in their order, then what the stream says of itself, groups, consumers' names and
//! what is pending. When a consumer was last seen or active does not count.

use keyhaul_client::Page;
use keyhaul_rdb::{StreamDetail, StreamId};
use keyhaul_resp::Token;
use xxhash_rust::xxh3::Xxh3;

use super::BigAsk;
use super::hash::Feed;
use super::page::{Halt, PageReader};
use super::pending::{self, PendingPages};

/// A stream.
pub(super) async fn digest(reader: &mut PageReader<'_>, ask: BigAsk<'_>) -> Result<u128, Halt> {
    // No server tells by WATCH that something was acknowledged, or read by a group.
    let before = about(reader, ask).await?;
    let mut hash = Xxh3::with_seed(ask.seed);
    let mut next = Some(StreamId::default());
    while let Some(first) = next {
        let entries = ask_entries(reader, first).await?;
        for _ in 0..entries {
            let (id, args) = entry_head(reader).await?;
            hash.put(b"e");
            hash.numbers(&[id.ms, id.seq, args / 2]);
            for index in 0..args {
                let letter = [b'n', b'v'][usize::from(index % 2 == 1)];
                reader.text(letter, &mut hash, None).await?;
            }
            reader.count(1);
            next = pending::next_id(id);
        }
        reader.end_reply();
        reader.end_page().await?;
        if entries == 0 {
            break;
        }
    }
    if about(reader, ask).await? != before {
        return Err(Halt::Written);
    }
    hash.put(&before.to_le_bytes());
    Ok(hash.digest128())
}

/// Asks for entries from an id on; returns how many come.
pub(super) async fn ask_entries(reader: &mut PageReader<'_>, first: StreamId) -> Result<u64, Halt> {
    let (first, count) = (first.to_string(), reader.page_count());
    let page = Page::Entries {
        first: first.as_bytes(),
        last: b"+",
        count,
    };
    reader.ask(page).await?;
    reader.array("XRANGE").await
}

/// Id of an entry and number of its names and values.
pub(super) async fn entry_head(reader: &mut PageReader<'_>) -> Result<(StreamId, u64), Halt> {
    if reader.array("XRANGE").await? == 2
        && let Token::Bulk(id) = reader.token().await?
        && let Some(id) = pending::parse_id(&id)
    {
        return Ok((id, reader.array("XRANGE").await?));
    }
    Err(reader.unexpected("XRANGE"))
}

/// A digest of all but the entries.
async fn about(reader: &mut PageReader<'_>, ask: BigAsk<'_>) -> Result<u128, Halt> {
    let has_offsets = ask.detail >= StreamDetail::Offsets;
    let told = pending::told(reader).await?;
    let mut hash = Xxh3::with_seed(ask.seed);
    hash.put(b"s");
    hash.numbers(&[told.last_id.ms, told.last_id.seq]);
    if has_offsets {
        hash.numbers(&[told.deleted_id.ms, told.deleted_id.seq]);
        hash.numbers(&[told.entries_added]);
    }
    for group in &told.groups {
        hash.text(b'g', &group.name);
        hash.numbers(&[group.last_id.ms, group.last_id.seq]);
        if has_offsets {
            hash.put(&group.entries_read.to_le_bytes());
        }
        for consumer in &group.consumers {
            hash.text(b'c', consumer);
        }
        let mut pages = PendingPages::new(group);
        while let Some(rows) = pages.next(reader).await? {
            for row in &rows {
                hash.put(b"p");
                hash.numbers(&[row.id.ms, row.id.seq]);
                hash.text(b'c', &row.consumer);
                hash.put(&row.delivered_at_ms.to_le_bytes());
                hash.put(&row.deliveries.to_le_bytes());
            }
            reader.end_page().await?;
        }
    }
    Ok(hash.digest128())
}
