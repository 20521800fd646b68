//! Buckets of deadlines by their time: which one a deadline goes to, and how far one has come.

use super::frame::{Note, frame_note};

pub(super) const MINUTE_MS: i64 = 60 * 1000;
/// Deadlines that are nearer than this go into buckets of a minute, minutes.
const MINUTES_NEAR: u32 = 2 * 60;
/// Those that are nearer than this into buckets of an hour, minutes.
const MINUTES_MIDDLE: u32 = 48 * 60;

/// The minute that a moment lies in, counted from 1970.
pub(super) fn minute_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / MINUTE_MS).unwrap_or(u32::MAX)
}

/// How much time a bucket covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    Minute,
    Hour,
    Day,
}

impl Span {
    pub(super) fn minutes(self) -> u32 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 24 * 60,
        }
    }

    /// What a bucket of this span is split into.
    pub(super) fn smaller(self) -> Self {
        match self {
            Self::Minute | Self::Hour => Self::Minute,
            Self::Day => Self::Hour,
        }
    }

    /// How long before it begins a bucket is split, minutes.
    fn lead_minutes(self) -> u32 {
        match self {
            Self::Minute => 0,
            Self::Hour => MINUTES_NEAR,
            Self::Day => MINUTES_MIDDLE,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BucketId {
    pub(super) span: Span,
    /// How many of its span are between 1970 and it.
    pub(super) index: u32,
}

impl BucketId {
    /// The bucket of this span that a minute lies in.
    pub(super) fn around(span: Span, minute: u32) -> Self {
        let index = minute / span.minutes();
        Self { span, index }
    }

    /// The bucket for a new deadline: the largest that is not split yet.
    pub(super) fn for_new(minute: u32, now_minute: u32) -> Self {
        let spans = [Span::Day, Span::Hour, Span::Minute];
        let mut ids = spans.map(|span| Self::around(span, minute)).into_iter();
        let not_split = ids.find(|id| id.span == Span::Minute || !id.is_to_split(now_minute));
        not_split.unwrap_or(Self::around(Span::Minute, minute))
    }

    pub(super) fn is_to_split(self, now_minute: u32) -> bool {
        self.span != Span::Minute
            && self.begin_minute() <= now_minute.saturating_add(self.span.lead_minutes())
    }

    pub(super) fn begin_minute(self) -> u32 {
        self.index.saturating_mul(self.span.minutes())
    }
}

/// What is known of a bucket. Its frames lie in its file and then in memory; positions are counted over both, in bytes, and
/// never move: what is in memory is appended to the file in its order.
///
/// ```text
///  |── settled ──|──────────|── held ──|─────────|─ plain_end ─|──────|
///  0           start                 held                            end
/// ```
///
/// The log holds all but the memory; the memory is what the log holds of notes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Number of the file, 0: none yet. No number is used twice, so that a file is never of two buckets.
    pub(super) file: u64,
    /// So much of the file counts.
    pub(super) file_bytes: u64,
    /// What is before is settled, or moved on to smaller buckets.
    pub(super) start: u64,
    /// What is before is held.
    pub(super) held: u64,
    /// What is before was set to what it is by a release, and not held again.
    pub(super) released: u64,
    /// Where the last one ends that was written as it is, and so is still to be held.
    pub(super) plain_end: u64,
    /// Something of it is later on the target than it is.
    pub(super) has_held: bool,
    /// It was released once: notes that say they are held may not be.
    pub(super) was_released: bool,
    /// Frames behind those of the file.
    pub(super) buffer: Vec<u8>,
}

impl Bucket {
    pub(super) fn end(&self) -> u64 {
        self.file_bytes + self.buffer.len() as u64
    }

    /// All positions are within the file.
    pub(super) fn is_sound(&self) -> bool {
        let positions = [self.held, self.released, self.plain_end];
        let has_file = self.file != 0 || self.file_bytes == 0;
        has_file
            && self.start < self.file_bytes
            && positions
                .iter()
                .all(|position| *position <= self.file_bytes)
    }

    pub(super) fn push(&mut self, note: &Note<'_>) {
        frame_note(note, &mut self.buffer);
        if note.is_plain() {
            self.plain_end = self.end();
        } else {
            self.has_held = true;
        }
    }

    /// Where those begin that are still to be held, if there are any.
    pub(super) fn to_hold(&self) -> Option<u64> {
        let begin = self.held.max(self.start);
        (begin < self.plain_end).then_some(begin)
    }

    /// Where those begin that are still to be released, if there are any.
    pub(super) fn to_release(&self) -> Option<u64> {
        let begin = self.released.max(self.start);
        (self.has_held && begin < self.end()).then_some(begin)
    }

    pub(super) fn advance(&mut self, step: Advance, position: u64) {
        match step {
            Advance::Held => {
                self.held = position;
                self.released = 0;
                self.has_held = true;
            }
            Advance::Released => {
                self.released = position;
                self.held = 0;
                self.plain_end = self.end();
                self.was_released = true;
            }
            Advance::Passed => self.start = position,
        }
    }
}

/// What a bucket has come on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    Held,
    Released,
    /// Settled, or moved on.
    Passed,
}
