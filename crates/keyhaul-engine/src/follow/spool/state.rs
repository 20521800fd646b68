//! What a spool holds at one moment, and what follows from that. No I/O, no waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::block::RAW_BYTES_MAX;
use super::segment::{FIRST_BLOCK, Segment};
use super::{MEMORY_BYTES_MAX, Piece, SEGMENT_BYTES};

/// What a chunk costs beyond its bytes, about.
const CHUNK_BYTES: usize = 128;

/// ```text
///          applied      read                      end        offsets
///  ───────────┼──────────┼─────────────────────────┼
///   [ segment ][ segment ][ segment ]                        on the disk, if anything is
///                     [      memory                ]
/// ```
///
/// Memory reaches to the end, and where something is on the disk it begins there or before. What is not applied is in
/// one of the two; but for what was read already, which is given up when the disk takes no more.
#[derive(Debug)]
pub(super) struct State<B> {
    /// What is to be told before the first byte.
    begin: Option<B>,
    /// The names of the history, each from an offset on; never empty once there is a position.
    replids: VecDeque<(u64, Arc<str>)>,
    told_replid: Option<Arc<str>>,
    /// Offset of the last byte that was applied.
    pub applied: u64,
    /// Offset of the next byte to be read.
    pub read: u64,
    /// Offset of the byte behind the last one.
    pub end: u64,
    memory: VecDeque<(u64, Bytes)>,
    memory_bytes: usize,
    pub segments: VecDeque<Segment>,
    /// Where behind the last block that was read the next one lies: number of the segment, and place in it.
    next_block: (u64, u64),
    /// The segment that is being written to: it has to stay.
    pub writing: Option<u64>,
    /// Counts how often everything was void.
    pub generation: u64,
    /// Why what lies on the disk cannot be read.
    pub damage: Option<String>,
    /// Nothing will come any more.
    pub is_closed: bool,
}

/// What a look for the next piece found.
pub(super) enum Look<B> {
    Piece(Piece<B>),
    OnDisk(BlockPlace),
    Nothing,
}

/// Where the next bytes lie.
pub(super) struct BlockPlace {
    pub segment: Segment,
    pub at: u64,
    pub offset: u64,
    pub generation: u64,
}

/// A block to be written.
pub(super) struct Write {
    /// `None`: to a new segment.
    pub to: Option<Segment>,
    pub replid: Arc<str>,
    pub first: u64,
    pub chunks: Vec<Bytes>,
}

impl<B> State<B> {
    /// Of nothing, or of what an earlier run has left.
    pub(super) fn new(wanted: Option<(&str, u64)>, segments: VecDeque<Segment>) -> Self {
        let (replid, next) = wanted.unzip();
        let next = next.unwrap_or(1);
        let mut replids: VecDeque<(u64, Arc<str>)> = VecDeque::new();
        for segment in &segments {
            if replids
                .back()
                .is_none_or(|(_, last)| *last != segment.replid)
            {
                replids.push_back((segment.first, segment.replid.clone()));
            }
        }
        if let (Some(replid), true) = (replid, replids.is_empty()) {
            replids.push_back((next, replid.into()));
        }
        Self {
            begin: None,
            replids,
            told_replid: replid.map(Arc::from),
            applied: next.saturating_sub(1),
            read: next,
            end: segments.back().map_or(next, |last| last.end),
            memory: VecDeque::new(),
            memory_bytes: 0,
            segments,
            next_block: (0, 0),
            writing: None,
            generation: 0,
            damage: None,
            is_closed: false,
        }
    }

    /// Everything is void: another stream begins. What was on the disk.
    pub(super) fn begin(&mut self, begin: B, replid: &str, first: u64) -> VecDeque<Segment> {
        let replid: Arc<str> = replid.into();
        self.begin = Some(begin);
        self.told_replid = Some(replid.clone());
        self.replids = VecDeque::from([(first, replid)]);
        (self.applied, self.read) = (first.saturating_sub(1), first);
        self.forget_unread()
    }

    /// What was not read is void and has to come again. What was on the disk.
    pub(super) fn forget_unread(&mut self) -> VecDeque<Segment> {
        self.generation += 1;
        self.damage = None;
        self.end = self.read;
        while self.replids.len() > 1 && self.replids.back().is_some_and(|(at, _)| *at > self.end) {
            self.replids.pop_back();
        }
        self.memory.clear();
        self.memory_bytes = 0;
        std::mem::take(&mut self.segments)
    }

    /// The name of the history at its end, and the offset of the next byte that is wanted.
    pub(super) fn position(&self) -> Option<(String, u64)> {
        let (_, replid) = self.replids.back()?;
        Some((replid.to_string(), self.end))
    }

    /// The history goes by this name from here on.
    pub(super) fn rename(&mut self, replid: &str) {
        if self
            .replids
            .back()
            .is_some_and(|(_, last)| **last != *replid)
        {
            self.replids.push_back((self.end, replid.into()));
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        let first = self.end;
        self.end += bytes.len() as u64;
        self.memory_bytes += bytes.len() + CHUNK_BYTES;
        self.memory.push_back((first, bytes));
    }

    /// The next piece, or where it lies.
    pub(super) fn look(&mut self) -> Look<B> {
        if let Some(begin) = self.begin.take() {
            return Look::Piece(Piece::Begin(begin));
        }
        let replid = self.replid_at(self.read);
        if replid.is_some() && replid != self.told_replid {
            self.told_replid = replid.clone();
            let replid = replid.map(|replid| replid.to_string());
            return Look::Piece(Piece::Replid(replid.unwrap_or_default()));
        }
        if self.read >= self.memory_first() {
            return match self.in_memory() {
                Some(bytes) => Look::Piece(self.take(bytes)),
                None => Look::Nothing,
            };
        }
        let behind = self
            .segments
            .partition_point(|segment| segment.end <= self.read);
        match self.segments.get(behind) {
            Some(segment) if self.damage.is_none() => Look::OnDisk(BlockPlace {
                at: match self.next_block {
                    (number, at) if number == segment.number && at > 0 => at,
                    _ => FIRST_BLOCK,
                },
                segment: segment.clone(),
                offset: self.read,
                generation: self.generation,
            }),
            _ => Look::Nothing,
        }
    }

    /// A block was read that begins here; `None`: it is void.
    pub(super) fn was_read(
        &mut self,
        place: &BlockPlace,
        first: u64,
        mut raw: Bytes,
        next: u64,
    ) -> Option<Piece<B>> {
        if place.generation != self.generation {
            return None;
        }
        let before = usize::try_from(self.read.checked_sub(first)?).ok()?;
        self.next_block = (place.segment.number, next);
        (before < raw.len()).then(|| self.take(raw.split_off(before)))
    }

    fn take(&mut self, bytes: Bytes) -> Piece<B> {
        let first = self.read;
        self.read += bytes.len() as u64;
        Piece::Bytes { first, bytes }
    }

    fn in_memory(&self) -> Option<Bytes> {
        let behind = self
            .memory
            .partition_point(|(first, _)| *first <= self.read);
        let (first, bytes) = self.memory.get(behind.checked_sub(1)?)?;
        let before = usize::try_from(self.read - first).ok()?;
        (before < bytes.len()).then(|| bytes.slice(before..))
    }

    /// Offset of the first byte in memory, or the end.
    fn memory_first(&self) -> u64 {
        self.memory.front().map_or(self.end, |(first, _)| *first)
    }

    fn disk_end(&self) -> Option<u64> {
        self.segments.back().map(|last| last.end)
    }

    fn replid_at(&self, offset: u64) -> Option<Arc<str>> {
        let behind = self.replids.partition_point(|(from, _)| *from <= offset);
        let (_, replid) = self.replids.get(behind.saturating_sub(1))?;
        Some(replid.clone())
    }

    /// Notes how far the stream is applied; what of the disk is of no use any more. `None`: the offset is of a stream that
    /// is void.
    pub(super) fn applied(&mut self, offset: u64) -> Option<Vec<Segment>> {
        if self.begin.is_some() || offset >= self.read || offset < self.applied {
            return None;
        }
        self.applied = offset;
        while self.first_chunk_ends_by(offset + 1) {
            self.pop_chunk();
        }
        while self.replids.get(1).is_some_and(|(from, _)| *from <= offset) {
            self.replids.pop_front();
        }
        let mut useless = Vec::new();
        // All that is needed is in memory, and there is room for more.
        let is_enough = self.memory_first() <= offset + 1
            && self.read >= self.memory_first()
            && self.memory_bytes <= MEMORY_BYTES_MAX / 2;
        while let Some(first) = self.segments.front()
            && self.writing.is_none_or(|number| number != first.number)
            && (is_enough || first.end <= offset + 1)
        {
            useless.extend(self.segments.pop_front());
        }
        Some(useless)
    }

    /// Whether memory holds no more than it may, once what is on the disk too is given up.
    pub(super) fn fits(&mut self) -> bool {
        while self.memory_bytes > MEMORY_BYTES_MAX
            && self
                .disk_end()
                .is_some_and(|end| self.first_chunk_ends_by(end))
        {
            self.pop_chunk();
        }
        self.memory_bytes <= MEMORY_BYTES_MAX
    }

    /// The same, once what was read is given up too.
    pub(super) fn fits_without_read(&mut self) -> bool {
        while self.memory_bytes > MEMORY_BYTES_MAX && self.first_chunk_ends_by(self.read) {
            self.pop_chunk();
        }
        self.memory_bytes <= MEMORY_BYTES_MAX
    }

    fn first_chunk_ends_by(&self, offset: u64) -> bool {
        let first = self.memory.front();
        first.is_some_and(|(first, bytes)| first + bytes.len() as u64 <= offset)
    }

    fn pop_chunk(&mut self) {
        if let Some((_, bytes)) = self.memory.pop_front() {
            self.memory_bytes -= bytes.len() + CHUNK_BYTES;
        }
    }

    /// What is to be written next; `None`: all is on the disk.
    pub(super) fn next_write(&mut self) -> Option<Write> {
        let first = self.disk_end().unwrap_or(0).max(self.memory_first());
        let replid = self.replid_at(first)?;
        // A block, as a segment, is of one history.
        let renamed = self.replids.iter().find(|(from, _)| *from > first);
        let mut room = usize::try_from(renamed.map_or(u64::MAX, |(from, _)| from - first))
            .map_or(RAW_BYTES_MAX, |bytes| bytes.min(RAW_BYTES_MAX));
        let behind = self.memory.partition_point(|(from, _)| *from <= first);
        let mut chunks = Vec::new();
        for (from, bytes) in self.memory.iter().skip(behind.saturating_sub(1)) {
            let before = usize::try_from(first.saturating_sub(*from)).unwrap_or(0);
            let left = bytes.get(before..).unwrap_or_default();
            let taken = left.len().min(room);
            if taken > 0 {
                chunks.push(bytes.slice(before..before + taken));
            }
            room -= taken;
            if room == 0 {
                break;
            }
        }
        if chunks.is_empty() {
            return None;
        }
        let last = self.segments.back().filter(|last| {
            last.end == first && last.replid == replid && last.file_bytes < SEGMENT_BYTES
        });
        let to = last.cloned();
        self.writing = to.as_ref().map(|to| to.number);
        Some(Write {
            to,
            replid,
            first,
            chunks,
        })
    }

    /// A block of a write is on the disk, in this segment now.
    pub(super) fn was_written(&mut self, segment: Segment) {
        self.writing = None;
        match self.segments.back_mut() {
            Some(last) if last.number == segment.number => *last = segment,
            _ => self.segments.push_back(segment),
        }
    }
}

impl Write {
    /// The bytes in one.
    pub(super) fn raw(&self) -> Bytes {
        match self.chunks.as_slice() {
            [one] => one.clone(),
            chunks => {
                let mut raw = BytesMut::with_capacity(RAW_BYTES_MAX);
                for chunk in chunks {
                    raw.extend_from_slice(chunk);
                }
                raw.freeze()
            }
        }
    }
}
