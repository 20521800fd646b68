//! Looks the elements of one hash or set up in another, page by page.

use bytes::BytesMut;
use keyhaul_client::{Page, ValueKind};
use keyhaul_resp::{Token, encode};

use super::page::{Halt, PageReader};
use crate::compare::inside::text::{self, Lines, Side, Text};

/// Names of a page that are held and looked up, bytes; what is longer is passed over.
const NAMES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is held of a value, bytes.
const TEXT_HELD_MAX: usize = 4096;

/// What elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Members,
    Fields,
    /// Fields that may expire on both sides.
    ExpiringFields,
}

/// Looks the elements of `ours` up in `theirs`; `side` is that of `ours`. Values and expiries are compared when that
/// is the source, else they were already.
pub(super) async fn scanned(
    ours: &mut PageReader<'_>,
    theirs: &mut PageReader<'_>,
    kept: Kept,
    side: Side,
    lines: &mut Lines,
) -> Result<(), Halt> {
    let kind = match kept {
        Kept::Members => ValueKind::Set,
        _ => ValueKind::Hash,
    };
    let mut cursor = 0;
    loop {
        if lines.is_full() {
            lines.cut();
            return Ok(());
        }
        let count = ours.page_count();
        let page = Page::Scan {
            kind,
            cursor,
            count,
        };
        ours.ask(page).await?;
        let elements;
        (cursor, elements) = page_of(ours, kept).await?;
        match (kept, side) {
            (Kept::Members, _) | (_, Side::Target) => {
                let names: Vec<&[u8]> = names(&elements);
                let found = theirs.connection.contains(kind, theirs.key, &names).await?;
                let what = match kept {
                    Kept::Members => "member",
                    _ => "field",
                };
                for (name, _) in names.iter().zip(found).filter(|(_, found)| !found) {
                    lines.push(|| text::only(what, &text::shown(name), side));
                }
            }
            _ => fields(ours, theirs, kept, &elements, lines).await?,
        }
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Cursor and elements of a page: their names, and values of fields.
async fn page_of(
    reader: &mut PageReader<'_>,
    kept: Kept,
) -> Result<(u64, Vec<(Text, Option<Text>)>), Halt> {
    let (cursor, args) = reader.scan_head().await?;
    let count = match kept {
        Kept::Members => args,
        _ => args / 2,
    };
    let (mut elements, mut held) = (Vec::new(), 0);
    for _ in 0..count {
        let room = NAMES_BYTES_MAX.saturating_sub(held);
        let name = reader.held(room).await?;
        let value = match kept {
            Kept::Members => None,
            _ => reader.held(TEXT_HELD_MAX).await?,
        };
        reader.count(1);
        if let Some(name) = name.filter(|name| name.all().is_some()) {
            held += name.held().len();
            elements.push((name, value));
        }
    }
    reader.end_reply();
    Ok((cursor, elements))
}

fn names(elements: &[(Text, Option<Text>)]) -> Vec<&[u8]> {
    elements.iter().map(|(name, _)| name.held()).collect()
}

/// Compares fields of the source with those of the target.
async fn fields(
    source: &mut PageReader<'_>,
    target: &mut PageReader<'_>,
    kept: Kept,
    elements: &[(Text, Option<Text>)],
    lines: &mut Lines,
) -> Result<(), Halt> {
    if elements.is_empty() {
        return Ok(());
    }
    let names = names(elements);
    target.connection.ask_values(target.key, &names).await?;
    if target.array("HMGET").await? != names.len() as u64 {
        return Err(target.unexpected("HMGET"));
    }
    let mut common = Vec::new();
    for (name, value) in elements {
        let found = target.held(TEXT_HELD_MAX).await?;
        let shown = name.shown();
        match (value, found) {
            (Some(value), Some(found)) => {
                if *value != found {
                    lines.push(|| text::field_value(&shown, value, &found));
                }
                common.push(name.held());
            }
            _ => lines.push(|| text::only("field", &shown, Side::Source)),
        }
    }
    if kept != Kept::ExpiringFields || common.is_empty() {
        return Ok(());
    }
    let ours = expiries(source, &common).await?;
    let theirs = expiries(target, &common).await?;
    for ((name, one), other) in common.iter().zip(ours).zip(theirs) {
        if one != other {
            lines.push(|| text::field_expiry(&text::shown(name), one, other));
        }
    }
    Ok(())
}

/// When fields expire, absolute Unix ms.
async fn expiries(reader: &mut PageReader<'_>, names: &[&[u8]]) -> Result<Vec<Option<u64>>, Halt> {
    let mut bulks = BytesMut::new();
    names.iter().for_each(|name| encode::bulk(&mut bulks, name));
    reader.ask_expiries(&bulks, names.len()).await?;
    if reader.array("HPEXPIRETIME").await? != names.len() as u64 {
        return Err(reader.unexpected("HPEXPIRETIME"));
    }
    let mut all = Vec::with_capacity(names.len());
    for _ in names {
        match reader.token().await? {
            Token::Int(at) => all.push(u64::try_from(at).ok()),
            _ => return Err(reader.unexpected("HPEXPIRETIME")),
        }
    }
    reader.end_reply();
    Ok(all)
}
