//! The buckets, in memory and on the disk, and what makes both the same.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::bucket::{Advance, Bucket, BucketId, Span, minute_of};
use super::due::Given;
use super::files::{Files, unless_gone};
use super::frame::{Frame, Note, damaged, decode, frame_advance, frame_bucket, frame_note};
use super::log::{self, Log};
use super::{EARLY_MS, FAR_MS, HELD_LEAST_MS, HOLD_MS, KEY_BYTES_MAX, SHIFT_MS};

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A log that has grown by so much is begun anew, bytes. The memory of all buckets is no more than this and what
    /// is admitted between two flushes.
    pub(super) log_bytes: u64,
    /// How much of a bucket is moved on at once, bytes.
    pub(super) split_bytes: usize,
}

const LIMITS: Limits = Limits {
    log_bytes: 4 * 1024 * 1024,
    split_bytes: 1024 * 1024,
};

/// Deadlines that are longer past count as past for so long, ms: so there are only so many buckets.
const PAST_MS: i64 = SHIFT_MS;

#[derive(Debug)]
pub(super) struct Store {
    pub(super) files: Files,
    log: Log,
    /// What goes to the log with the next write.
    pending: Vec<u8>,
    /// Memory has come further than log and `pending` say: only a new log can follow.
    is_ahead: bool,
    pub(super) buckets: BTreeMap<BucketId, Bucket>,
    file_next: u64,
    /// Files that no bucket has any more, to be removed once the log says so.
    files_unused: Vec<u64>,
    /// As of this minute, buckets of hours and days that come near are split.
    pub(super) near_minute: u32,
    /// All that the source did before is applied, as last told.
    pub(super) applied_ms: Option<i64>,
    pub(super) given: Option<Given>,
    pub(super) limits: Limits,
}

impl Store {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let files = Files::new(folder)?;
        let mut buckets = BTreeMap::new();
        let log = match Log::open(folder, |frame| replay(&mut buckets, frame))? {
            Some(log) => log,
            None => Log::begin(folder, &[])?,
        };
        let file_last = buckets.values().map(|bucket| bucket.file).max();
        files.tidy_up(buckets.values())?;
        Ok(Self {
            files,
            log,
            pending: Vec::new(),
            is_ahead: false,
            file_next: file_last.unwrap_or(0).saturating_add(1),
            buckets,
            files_unused: Vec::new(),
            near_minute: 0,
            applied_ms: None,
            given: None,
            limits: LIMITS,
        })
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        let buckets = std::mem::take(&mut self.buckets);
        let files = buckets.values().map(|bucket| bucket.file);
        self.files_unused.extend(files.filter(|file| *file != 0));
        self.applied_ms = None;
        self.near_minute = 0;
        self.given = None;
        self.is_ahead = true;
        self.begin_log()
    }

    pub(super) fn admit(&mut self, db: u32, key: &[u8], at_ms: i64, target_now_ms: i64) -> i64 {
        if key.len() > KEY_BYTES_MAX || at_ms > target_now_ms.saturating_add(FAR_MS) {
            return at_ms;
        }
        let written_ms = written_ms(at_ms, target_now_ms);
        let minute = self.minute_for(at_ms, target_now_ms);
        let near_minute = self.near_minute.max(minute_of(target_now_ms));
        // Only buckets of a minute are held and released.
        let span = match written_ms == at_ms {
            true => BucketId::for_new(minute, near_minute).span,
            false => Span::Minute,
        };
        let note = Note {
            span,
            minute,
            at_ms,
            written_ms,
            db,
            key,
        };
        frame_note(&note, &mut self.pending);
        self.push(&note);
        written_ms
    }

    /// The minute that a deadline is sorted by. One that is past comes with the minute behind the one that is being
    /// applied: its command is not settled yet, and must be when its minute is.
    pub(super) fn minute_for(&self, at_ms: i64, target_now_ms: i64) -> u32 {
        let earliest = minute_of(target_now_ms.saturating_sub(PAST_MS));
        let minute = minute_of(at_ms).max(earliest);
        match self.applied_ms {
            Some(applied_ms) if at_ms < applied_ms => {
                minute.max(minute_of(applied_ms).saturating_add(1))
            }
            _ => minute,
        }
    }

    fn push(&mut self, note: &Note<'_>) {
        self.buckets.entry(note.bucket()).or_default().push(note);
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.is_ahead
            || self.log.grown_bytes() + self.pending.len() as u64 > self.limits.log_bytes
        {
            return self.begin_log();
        }
        if !self.pending.is_empty() {
            self.log.append(&self.pending)?;
            self.pending.clear();
        }
        self.remove_unused()
    }

    /// What is in memory goes to the files, and a log that says so takes the place of the one that is there. As long as it
    /// has not, that one is as true as before: it counts less of the files.
    fn begin_log(&mut self) -> io::Result<()> {
        let mut table = Vec::new();
        for (id, bucket) in &mut self.buckets {
            if !bucket.buffer.is_empty() {
                if bucket.file == 0 {
                    bucket.file = self.file_next;
                    self.file_next += 1;
                }
                self.files.append_buffer(bucket)?;
            }
            frame_bucket(*id, bucket, &mut table);
        }
        self.log = Log::begin(self.files.folder(), &table)?;
        for bucket in self.buckets.values_mut() {
            bucket.file_bytes = bucket.end();
            bucket.buffer = Vec::new();
        }
        self.pending.clear();
        self.is_ahead = false;
        self.remove_unused()
    }

    fn remove_unused(&mut self) -> io::Result<()> {
        while let Some(file) = self.files_unused.last() {
            self.files.remove(*file)?;
            self.files_unused.pop();
        }
        Ok(())
    }

    /// A bucket has come on. To be logged by who calls.
    fn advance(&mut self, id: BucketId, step: Advance, position: u64) -> io::Result<()> {
        let file = advance(&mut self.buckets, id, step, position)?;
        self.files_unused.extend(file);
        Ok(())
    }

    /// A bucket has come on, which the next flush writes.
    pub(super) fn advance_logged(
        &mut self,
        id: BucketId,
        step: Advance,
        position: u64,
    ) -> io::Result<()> {
        frame_advance(id, step, position, &mut self.pending);
        self.advance(id, step, position)
    }

    /// Moves some of a bucket on to smaller ones. It is in the files of those before the log says that it has left this one.
    pub(super) fn split(&mut self, id: BucketId, target_now_ms: i64) -> io::Result<()> {
        if self.is_ahead {
            self.begin_log()?;
        }
        let Some(bucket) = self.buckets.get(&id) else {
            return Ok(());
        };
        let begin = bucket.start;
        let portion = self.files.read(bucket, begin, self.limits.split_bytes)?;
        self.is_ahead = true;
        let mut moved = 0;
        while let Some((frame, length)) = decode(portion.get(moved..).unwrap_or_default())? {
            let Frame::Note(note) = frame else {
                return Err(damaged());
            };
            self.push(&Note {
                span: id.span.smaller(),
                minute: self.minute_for(note.at_ms, target_now_ms),
                ..note
            });
            moved += length;
        }
        self.advance(id, Advance::Passed, begin + moved as u64)?;
        self.begin_log()
    }
}

/// Removes the folder, if there is one. Without a log the rest of it is of no account.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    unless_gone(std::fs::remove_file(folder.join(log::NAME)))?;
    unless_gone(std::fs::remove_dir_all(folder))
}

/// What is written for a deadline.
fn written_ms(at_ms: i64, target_now_ms: i64) -> i64 {
    if at_ms >= target_now_ms.saturating_add(HOLD_MS + EARLY_MS) {
        return at_ms;
    }
    let held_ms = at_ms.saturating_add(SHIFT_MS);
    if held_ms >= target_now_ms.saturating_add(HELD_LEAST_MS) {
        held_ms
    } else {
        target_now_ms.saturating_add(SHIFT_MS)
    }
}

/// What the log says, said again.
fn replay(buckets: &mut BTreeMap<BucketId, Bucket>, frame: Frame<'_>) -> io::Result<()> {
    match frame {
        Frame::Note(note) => buckets.entry(note.bucket()).or_default().push(&note),
        Frame::Advance(id, step, position) => {
            advance(buckets, id, step, position)?;
        }
        Frame::Bucket(id, bucket) => {
            if !bucket.is_sound() || buckets.insert(id, bucket).is_some() {
                return Err(damaged());
            }
        }
    }
    Ok(())
}

/// The bucket goes when all of it is passed. Gives the file that nobody needs any more then.
fn advance(
    buckets: &mut BTreeMap<BucketId, Bucket>,
    id: BucketId,
    step: Advance,
    position: u64,
) -> io::Result<Option<u64>> {
    let bucket = buckets.get_mut(&id).ok_or_else(damaged)?;
    if position > bucket.end() {
        return Err(damaged());
    }
    bucket.advance(step, position);
    if bucket.start < bucket.end() {
        return Ok(None);
    }
    let file = bucket.file;
    buckets.remove(&id);
    Ok((file != 0).then_some(file))
}
