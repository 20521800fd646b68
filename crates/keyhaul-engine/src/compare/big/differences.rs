//! Finds out where two large values differ, page by page on both sides. Best effort: it ends at the first few
//! differences, and a value that is written meanwhile may show some that come and go.

use std::cmp::Ordering;

use keyhaul_client::{ClientError, Page, ReadConnection, ValueKind};
use keyhaul_rdb::StreamDetail;

use super::cursor::{Cursor, Piece};
use super::lookups::{Kept, scanned};
use super::page::{Halt, PageReader};
use super::pending::{self, PendingPages};
use crate::compare::inside::stream::{About, Group, Pending, about_differences, entry_differences};
use crate::compare::inside::text::{self, Lines, Side, Text};

/// Rows of what is pending that are looked at in a group.
const ROWS_MAX: usize = 10_000;

/// One side.
#[derive(Debug)]
pub(crate) struct BigSide<'a> {
    pub connection: &'a mut ReadConnection,
    pub key: &'a [u8],
    /// Fields of this server's hashes may expire (Redis >= 7.4, Valkey >= 9.0).
    pub has_field_expiry: bool,
}

/// The first differences inside two values of the same kind, in the words of [`crate::compare::inside`]: at most
/// `most` lines, and one that says whether there may be more. `detail`: what both sides know of a stream.
///
/// # Errors
/// Any; the connections are of no further use then.
pub(crate) async fn differences(
    source: BigSide<'_>,
    target: BigSide<'_>,
    kind: ValueKind,
    detail: StreamDetail,
    most: usize,
) -> Result<Vec<String>, ClientError> {
    let mut lines = Lines::new(most);
    match found(source, target, kind, detail, &mut lines).await {
        Ok(()) => {}
        Err(Halt::Client(error)) => return Err(error),
        // What was found was so at that time.
        Err(Halt::Written | Halt::Stopped) => lines.cut(),
    }
    Ok(lines.finish())
}

async fn found(
    source: BigSide<'_>,
    target: BigSide<'_>,
    kind: ValueKind,
    detail: StreamDetail,
    lines: &mut Lines,
) -> Result<(), Halt> {
    let may_expire = source.has_field_expiry && target.has_field_expiry;
    let mut lengths = [0; 2];
    lengths[0] = source.connection.length(kind, source.key).await?;
    lengths[1] = target.connection.length(kind, target.key).await?;
    if lengths[0] != lengths[1] {
        lines.push(|| text::lengths("length", lengths[0], lengths[1]));
    }
    let source = PageReader::begin(source.connection, source.key, kind, lengths[0]).await?;
    let target = PageReader::begin(target.connection, target.key, kind, lengths[1]).await?;
    let (mut ours, mut theirs) = (source, target);
    match kind {
        ValueKind::String => string(&mut ours, &mut theirs, lines).await,
        ValueKind::Hash | ValueKind::Set => {
            let kept = match (kind, may_expire) {
                (ValueKind::Hash, true) => Kept::ExpiringFields,
                (ValueKind::Hash, false) => Kept::Fields,
                _ => Kept::Members,
            };
            scanned(&mut ours, &mut theirs, kept, Side::Source, lines).await?;
            scanned(&mut theirs, &mut ours, kept, Side::Target, lines).await
        }
        _ => {
            let (mut ours, mut theirs) = (Cursor::new(ours, kind), Cursor::new(theirs, kind));
            match kind {
                ValueKind::List => list(&mut ours, &mut theirs, lines).await,
                ValueKind::SortedSet => ranked(&mut ours, &mut theirs, lines).await,
                _ => stream(&mut ours, &mut theirs, detail, lines).await,
            }
        }
    }
}

async fn string(
    source: &mut PageReader<'_>,
    target: &mut PageReader<'_>,
    lines: &mut Lines,
) -> Result<(), Halt> {
    let count = source.page_bytes();
    let mut first = 0;
    loop {
        source.ask(Page::Bytes { first, count }).await?;
        target.ask(Page::Bytes { first, count }).await?;
        let held_max = usize::try_from(count).unwrap_or(usize::MAX);
        let (ours, theirs) = (source.held(held_max).await?, target.held(held_max).await?);
        source.end_reply();
        target.end_reply();
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            return Err(source.unexpected("GETRANGE"));
        };
        if ours != theirs {
            let (ours, theirs) = (ours.held(), theirs.held());
            let at = text::first_difference(ours, theirs);
            lines.push(|| text::at_byte(first + at as u64, ours, theirs, at));
            lines.cut();
            return Ok(());
        }
        if (ours.held().len() as u64) < count {
            return Ok(());
        }
        first += count;
    }
}

async fn list(
    source: &mut Cursor<'_>,
    target: &mut Cursor<'_>,
    lines: &mut Lines,
) -> Result<(), Halt> {
    let mut index = 0;
    loop {
        let (Some(Piece::Item(one)), Some(Piece::Item(other))) =
            (source.next().await?, target.next().await?)
        else {
            return Ok(());
        };
        if one != other {
            if lines.is_full() {
                lines.cut();
                return Ok(());
            }
            lines.push(|| text::item(index, &one, &other));
        }
        index += 1;
    }
}

/// Both sides are in the order of scores and members, so that what only one of them has shows where the orders part.
async fn ranked(
    source: &mut Cursor<'_>,
    target: &mut Cursor<'_>,
    lines: &mut Lines,
) -> Result<(), Halt> {
    // Members whose scores were told to differ come again at the other score.
    let mut told: Vec<Text> = Vec::new();
    loop {
        let side = match (source.peek().await?, target.peek().await?) {
            (Some(Piece::Scored(one, score)), Some(Piece::Scored(other, other_score))) => {
                if one == other && text::same_score(*score, *other_score) {
                    source.next().await?;
                    target.next().await?;
                    continue;
                }
                let order = (score + 0.0).total_cmp(&(other_score + 0.0));
                match order.then_with(|| one.held().cmp(other.held())) {
                    Ordering::Greater => Side::Target,
                    _ => Side::Source,
                }
            }
            (Some(_), None) => Side::Source,
            (None, Some(_)) => Side::Target,
            _ => return Ok(()),
        };
        let piece = match side {
            Side::Source => source.next().await?,
            Side::Target => target.next().await?,
        };
        let Some(Piece::Scored(member, score)) = piece else {
            return Ok(());
        };
        if told.contains(&member) {
            continue;
        }
        if lines.is_full() {
            lines.cut();
            return Ok(());
        }
        let found = match side {
            Side::Source => target.score(&member).await?,
            Side::Target => source.score(&member).await?,
        };
        match (found, side) {
            (None, side) => lines.push(|| text::only("member", &member.shown(), side)),
            (Some(found), _) if text::same_score(found, score) => continue,
            (Some(found), Side::Source) => lines.push(|| text::scores(&member, score, found)),
            (Some(found), Side::Target) => lines.push(|| text::scores(&member, found, score)),
        }
        told.push(member);
    }
}

async fn stream(
    source: &mut Cursor<'_>,
    target: &mut Cursor<'_>,
    detail: StreamDetail,
    lines: &mut Lines,
) -> Result<(), Halt> {
    // What is short is looked at first.
    let (ours, theirs) = (about(source.reader()).await?, about(target.reader()).await?);
    about_differences(&ours, &theirs, detail, lines);
    while !lines.is_full() {
        let order = match (source.peek().await?, target.peek().await?) {
            (Some(Piece::Entry(one)), Some(Piece::Entry(other))) => one.0.cmp(&other.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            _ => return Ok(()),
        };
        let one = match order {
            Ordering::Greater => None,
            _ => source.next().await?,
        };
        let other = match order {
            Ordering::Less => None,
            _ => target.next().await?,
        };
        let entry = |piece: &'_ Option<Piece>| match piece {
            Some(Piece::Entry(entry)) => Some(entry.clone()),
            _ => None,
        };
        entry_differences(entry(&one).as_ref(), entry(&other).as_ref(), lines);
    }
    lines.cut();
    Ok(())
}

/// All but the entries; of what is pending in a group, the first rows.
async fn about(reader: &mut PageReader<'_>) -> Result<About, Halt> {
    let told = pending::told(reader).await?;
    let mut about = About {
        last_id: told.last_id,
        deleted_id: told.deleted_id,
        entries_added: told.entries_added,
        ..About::default()
    };
    for told in &told.groups {
        let mut group = Group {
            last_id: told.last_id,
            entries_read: told.entries_read,
            consumers: told.consumers.iter().map(|name| name.to_vec()).collect(),
            pending: Vec::new(),
        };
        let mut pages = PendingPages::new(told);
        while group.pending.len() < ROWS_MAX
            && let Some(rows) = pages.next(reader).await?
        {
            group.pending.extend(rows.iter().map(|row| {
                Pending {
                    id: row.id,
                    delivered_at_ms: row.delivered_at_ms,
                    deliveries: row.deliveries.cast_unsigned(),
                    consumer: told
                        .consumers
                        .binary_search(&row.consumer)
                        .unwrap_or(usize::MAX),
                }
            }));
        }
        about.groups.insert(told.name.to_vec(), group);
    }
    Ok(about)
}
