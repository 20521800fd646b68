//! Digests of lists and strings: one hash over all elements in their order.

use keyhaul_client::Page;
use xxhash_rust::xxh3::Xxh3;

use super::BigAsk;
use super::page::{Halt, PageReader};

/// A list.
pub(super) async fn list(reader: &mut PageReader<'_>, ask: BigAsk<'_>) -> Result<u128, Halt> {
    let mut hash = Xxh3::with_seed(ask.seed);
    let mut upto = ask_items(reader, 0).await?;
    loop {
        let items = reader.array("LRANGE").await?;
        let asked = upto;
        if asked < reader.length {
            // The server works on the next page while this one is taken in.
            upto = ask_items(reader, asked).await?;
        }
        for _ in 0..items {
            reader.text(b'i', &mut hash, None).await?;
            reader.count(1);
        }
        reader.end_reply();
        reader.end_page().await?;
        if asked >= reader.length {
            return Ok(hash.digest128());
        }
    }
}

/// Asks for the items from an index on; returns the index where the page ends.
async fn ask_items(reader: &mut PageReader<'_>, first: u64) -> Result<u64, Halt> {
    let count = reader.page_count();
    reader.ask(Page::Items { first, count }).await?;
    Ok(first + count)
}

/// A string.
pub(super) async fn string(reader: &mut PageReader<'_>, ask: BigAsk<'_>) -> Result<u128, Halt> {
    let mut hash = Xxh3::with_seed(ask.seed);
    let count = reader.page_bytes();
    let mut first = 0;
    if reader.length > 0 {
        reader.ask(Page::Bytes { first, count }).await?;
    }
    while first < reader.length {
        let next = first + count;
        if next < reader.length {
            // The server works on the next page while this one is taken in.
            let page = Page::Bytes { first: next, count };
            reader.ask(page).await?;
        }
        let bytes = reader.raw(&mut hash).await?;
        reader.count(bytes);
        reader.end_reply();
        reader.end_page().await?;
        first = next;
    }
    Ok(hash.digest128())
}
