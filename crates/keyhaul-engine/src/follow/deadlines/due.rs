//! What is to be done next, and that it was.

use std::io;

use super::bucket::{Advance, Bucket, BucketId, Span, minute_of};
use super::frame::{Frame, Note, damaged, decode};
use super::store::Store;
use super::{HOLD_MS, Record, SHIFT_MS, Work};

/// What a note takes on the disk at about, bytes: how much is read for a number of records.
const NOTE_BYTES_USUAL: usize = 64;
/// How much is read for a portion of records, bytes.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;

/// A portion that was given and is not done.
#[derive(Debug)]
pub(super) struct Given {
    id: BucketId,
    step: Advance,
    /// Where in the bucket it ends.
    end: u64,
    records: Vec<Record>,
}

impl Given {
    fn work(&self) -> Option<Work> {
        let records = self.records.clone();
        match self.step {
            Advance::Held => Some(Work::Hold(records)),
            Advance::Passed => Some(Work::Settle(records)),
            Advance::Released => None,
        }
    }
}

impl Store {
    pub(super) fn step(
        &mut self,
        target_now_ms: i64,
        applied_ms: Option<i64>,
        count: usize,
    ) -> io::Result<Option<Work>> {
        if let Some(work) = self.given.as_ref().and_then(Given::work) {
            return Ok(Some(work));
        }
        self.given = None;
        self.applied_ms = applied_ms.or(self.applied_ms);
        // What is not done yet by either clock is to be found.
        let near_ms = applied_ms.map_or(target_now_ms, |applied| applied.max(target_now_ms));
        self.near_minute = minute_of(near_ms);
        if let Some(id) = self.to_split() {
            self.split(id, target_now_ms)?;
        }
        let applied_minute = applied_ms.map_or(0, minute_of);
        let hold_minute = minute_of(target_now_ms.saturating_add(HOLD_MS));
        if let Some((id, begin)) = self.to_hold(applied_minute, hold_minute) {
            self.give(id, Advance::Held, begin, count)?;
        } else if self
            .to_split()
            .is_some_and(|id| id.begin_minute() <= hold_minute.max(applied_minute))
        {
            // More of what is due is in there. One portion a call.
            return Ok(Some(Work::Hold(Vec::new())));
        } else if let Some((id, begin)) = self.to_settle(applied_minute) {
            self.give(id, Advance::Passed, begin, count)?;
        }
        Ok(self.given.as_ref().and_then(Given::work))
    }

    pub(super) fn release(&mut self, count: usize) -> io::Result<Option<Vec<Record>>> {
        let is_given = |given: &Given| given.step == Advance::Released;
        if !self.given.as_ref().is_some_and(is_given) {
            self.given = None;
            let minutes = self.buckets.range(..=last(Span::Minute));
            let mut to_release =
                minutes.filter_map(|(id, bucket)| Some((*id, bucket.to_release()?)));
            if let Some((id, begin)) = to_release.next() {
                self.give(id, Advance::Released, begin, count)?;
            }
        }
        Ok(self.given.as_ref().map(|given| given.records.clone()))
    }

    pub(super) fn done(&mut self) -> io::Result<()> {
        let Some(given) = self.given.take() else {
            return Ok(());
        };
        self.advance_logged(given.id, given.step, given.end)?;
        self.flush()
    }

    /// The first bucket that is to be split.
    fn to_split(&self) -> Option<BucketId> {
        let firsts = [Span::Hour, Span::Day].map(|span| {
            let mut ids = self.buckets.range(first(span)..=last(span));
            ids.next().map(|(id, _)| *id)
        });
        let due = firsts
            .into_iter()
            .flatten()
            .filter(|id| id.is_to_split(self.near_minute));
        due.min_by_key(|id| id.begin_minute())
    }

    /// The first place with deadlines that have come near and are as they are. Those that all is applied of need not
    /// be held any more.
    fn to_hold(&self, applied_minute: u32, hold_minute: u32) -> Option<(BucketId, u64)> {
        if applied_minute > hold_minute {
            return None;
        }
        let ids = [applied_minute, hold_minute].map(|m| BucketId::around(Span::Minute, m));
        let mut near = self.buckets.range(ids[0]..=ids[1]);
        near.find_map(|(id, bucket)| Some((*id, bucket.to_hold()?)))
    }

    /// The first place of the first minute that all is applied of.
    fn to_settle(&self, applied_minute: u32) -> Option<(BucketId, u64)> {
        let end = BucketId::around(Span::Minute, applied_minute);
        let (id, bucket) = self.buckets.range(..end).next()?;
        Some((*id, bucket.start))
    }

    /// Reads the next portion of a bucket. It may have no records, where all were written later at once.
    fn give(&mut self, id: BucketId, step: Advance, begin: u64, count: usize) -> io::Result<()> {
        let bucket = self.buckets.get(&id).ok_or_else(damaged)?;
        let count = count.max(1);
        let bytes = count.saturating_mul(NOTE_BYTES_USUAL);
        let portion =
            self.files
                .read(bucket, begin, bytes.clamp(READ_BYTES_MIN, READ_BYTES_MAX))?;
        let mut taken = 0;
        let mut records = Vec::new();
        while records.len() < count
            && let Some((frame, length)) = decode(portion.get(taken..).unwrap_or_default())?
        {
            let Frame::Note(note) = frame else {
                return Err(damaged());
            };
            if is_concerned(bucket, step, &note) {
                records.push(Record {
                    db: note.db,
                    key: portion.slice_ref(note.key),
                    at_ms: note.at_ms,
                    held_ms: held_ms(&note),
                });
            }
            taken += length;
        }
        if step == Advance::Held
            && let Some(bucket) = self.buckets.get_mut(&id)
        {
            // Also if it is never told to be done.
            bucket.has_held = true;
        }
        self.given = Some(Given {
            id,
            step,
            end: begin + taken as u64,
            records,
        });
        Ok(())
    }
}

fn first(span: Span) -> BucketId {
    BucketId { span, index: 0 }
}

fn last(span: Span) -> BucketId {
    let index = u32::MAX;
    BucketId { span, index }
}

fn is_concerned(bucket: &Bucket, step: Advance, note: &Note<'_>) -> bool {
    step != Advance::Held || note.is_plain() || bucket.was_released
}

/// What a deadline is while it is held, also where it never was.
fn held_ms(note: &Note<'_>) -> i64 {
    if note.is_plain() {
        note.at_ms.saturating_add(SHIFT_MS)
    } else {
        note.written_ms
    }
}
