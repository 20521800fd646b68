//! Takes elements from a reader and makes chunks of them.
//!
//! A try that goes on from an earlier one reads from the start all the same: what was built is not sent again,
//! but its digest must be the same, or the value was written in between.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use keyhaul_client::ValueKind;
use xxhash_rust::xxh3::Xxh3;

use crate::bigkey::builder::Builder;
use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::{Broken, ChunkLimits};
use crate::checkpoint::Mark;
use crate::progress::BigKeyProgress;
use crate::throttle::Throttle;

/// What is built is written down each so many bytes.
const LOG_BYTES: u64 = 128 * 1024;

/// Where elements go.
pub(crate) struct Sink<'a> {
    pub(crate) builder: &'a mut Builder,
    pub(crate) limits: ChunkLimits,
    argument_max: u64,
    throttle: &'a Throttle,
    progress: &'a BigKeyProgress,
    /// Writes down what is built.
    log: Box<dyn FnMut(&Mark) + Send + Sync + 'a>,
    chunk: Chunk,
    in_chunk: u64,
    /// Where the arguments begin that tell of the elements before them, and do not count in their order.
    about_from: Option<usize>,
    total: u64,
    bytes: u64,
    /// Elements and bytes when the last page was asked for, and how many it should have.
    page_from: (u64, u64),
    page_asked: u64,
    digest: Xxh3,
    about_digest: Xxh3,
    /// What must come first, before anything is sent.
    expected: Option<Mark>,
    /// Marks of chunks that are sent and not applied yet.
    marks: VecDeque<Mark>,
    /// The mark of what is applied, if it was not written down yet, and how many bytes there were at the last.
    unlogged: Option<Mark>,
    logged_at: u64,
}

/// What a sink is made of.
pub(crate) struct SinkParts<'a> {
    pub builder: &'a mut Builder,
    pub limits: ChunkLimits,
    /// Longest argument that the target takes, bytes.
    pub argument_max: u64,
    pub throttle: &'a Arc<Throttle>,
    pub progress: &'a BigKeyProgress,
    pub log: Box<dyn FnMut(&Mark) + Send + Sync + 'a>,
    /// What is built already.
    pub expected: Option<Mark>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(parts: SinkParts<'a>) -> Self {
        parts.progress.set(0, 0);
        Self {
            limits: parts.limits.of(parts.builder.kind),
            builder: parts.builder,
            argument_max: parts.argument_max,
            throttle: parts.throttle,
            progress: parts.progress,
            log: parts.log,
            chunk: Chunk::default(),
            in_chunk: 0,
            about_from: None,
            total: 0,
            bytes: 0,
            page_from: (0, 0),
            page_asked: 0,
            digest: Xxh3::new(),
            about_digest: Xxh3::new(),
            expected: parts.expected.filter(|mark| mark.elements > 0),
            marks: VecDeque::new(),
            unlogged: None,
            logged_at: 0,
        }
    }

    /// The buffer that takes the arguments of the next element.
    pub(crate) fn args(&mut self) -> &mut BytesMut {
        self.chunk.args()
    }

    /// The chunk that is being filled.
    pub(crate) fn chunk(&mut self) -> &mut Chunk {
        &mut self.chunk
    }

    /// Counts elements whose arguments were appended.
    pub(crate) fn count(&mut self, elements: u64) {
        self.in_chunk += elements;
    }

    /// Elements of the chunk that is being filled.
    pub(crate) fn in_chunk(&self) -> u64 {
        self.in_chunk
    }

    /// All elements so far.
    pub(crate) fn total(&self) -> u64 {
        self.total + self.in_chunk
    }

    /// How many more elements fit the chunk; of those that are built already, so many that the last one of
    /// them ends it.
    pub(crate) fn room(&self) -> u64 {
        let until_known = match &self.expected {
            Some(mark) => mark.elements.saturating_sub(self.total()),
            None => u64::MAX,
        };
        let until_full = self.limits.elements.saturating_sub(self.in_chunk);
        until_known.min(until_full)
    }

    /// Whether the chunk should be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.room() == 0 || self.chunk.bytes() >= self.limits.bytes
    }

    /// Whether the target takes an argument of this length.
    ///
    /// # Errors
    /// [`Broken::Refused`] if not.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), Broken> {
        match bytes > self.argument_max {
            true => Err(Broken::Refused(format!(
                "an element of {bytes} bytes is longer than the target takes: raise proto-max-bulk-len there (it is {})",
                self.argument_max
            ))),
            false => Ok(()),
        }
    }

    /// How many elements the next page should have, about a chunk's bytes: by the mean of all and by that of the
    /// last page, whichever is longer. Pages grow slowly, for longer elements may follow.
    pub(crate) fn page_count(&mut self, mean_bytes: u64) -> u64 {
        const FIRST_MAX: u64 = 100;
        const GROWTH_MAX: u64 = 4;
        let (total, bytes) = (self.total(), self.bytes + self.chunk.bytes() as u64);
        let last = (bytes - self.page_from.1) / (total - self.page_from.0).max(1);
        let mean = mean_bytes.max(bytes / total.max(1)).max(last).max(1);
        self.page_from = (total, bytes);
        let most = match self.page_asked {
            0 => FIRST_MAX,
            asked => asked.saturating_mul(GROWTH_MAX),
        };
        let fitting = self.limits.bytes as u64 / mean;
        self.page_asked = fitting.clamp(1, self.limits.elements.min(most));
        self.page_asked
    }

    /// Whether what is built already is read again.
    pub(crate) fn is_comparing(&self) -> bool {
        self.expected.is_some()
    }

    /// What follows in this chunk tells of its elements: it counts, but not in the order of the elements.
    pub(crate) fn begin_about(&mut self) {
        self.about_from = Some(self.chunk.bytes());
    }

    /// Sends the chunk.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        let args = chunk.args();
        let upto = self.about_from.take().unwrap_or(args.len());
        let (elements, about) = args.split_at(upto.min(args.len()));
        self.digest.update(elements);
        self.about_digest.update(about);
        let bytes = args.len() as u64;
        self.total += std::mem::take(&mut self.in_chunk);
        self.bytes += bytes;
        if self.expected.is_some() {
            return self.compare(chunk.last_id);
        }
        if self.builder.ledger.stop.is_cancelled() {
            // What is in flight counts; it makes the way back shorter.
            self.builder.drain().await?;
            self.note_built(true);
            return Err(Broken::Stopped);
        }
        self.throttle.pass(bytes).await;
        chunk.elements_after = self.total;
        let mark = self.mark(chunk.last_id.clone());
        self.note_sent(mark);
        self.builder.send(chunk).await?;
        self.note_built(false);
        Ok(())
    }

    /// Sends the chunk and waits until all is applied.
    ///
    /// # Errors
    /// [`Broken`]; [`Broken::Outdated`] also when the value ended before what is built already.
    pub(crate) async fn finish(&mut self) -> Result<(), Broken> {
        self.flush().await?;
        if self.expected.is_some() {
            return Err(Broken::Outdated);
        }
        self.builder.drain().await?;
        self.note_built(true);
        Ok(())
    }

    /// Begins an element that passes through: `prefix` are those of its arguments that were held, encoded.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn open_passage(
        &mut self,
        words: Words,
        arg_count: usize,
        prefix: &[u8],
    ) -> Result<(), Broken> {
        if self.expected.is_none() {
            self.builder.open_passage(words, arg_count).await?;
        }
        self.pass(prefix).await
    }

    /// The next bytes of it.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn pass(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.pass_shared(Bytes::copy_from_slice(bytes)).await
    }

    /// The same, not copied.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn pass_shared(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.digest.update(&bytes);
        self.bytes += bytes.len() as u64;
        if self.expected.is_some() || bytes.is_empty() {
            return Ok(());
        }
        if self.builder.ledger.stop.is_cancelled() {
            // Half a command can be left, the target forgets it.
            self.builder.drop_link();
            self.note_built(true);
            return Err(Broken::Stopped);
        }
        let length = bytes.len() as u64;
        self.throttle.pass(length).await;
        self.builder.pass(bytes).await?;
        let counter = &self.builder.ledger.progress.bytes_copied;
        crate::progress::Progress::add(counter, length);
        self.progress.passed(length);
        Ok(())
    }

    /// Its end. It was so many elements, one unless they are bytes.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn close_passage(
        &mut self,
        elements: u64,
        last_id: Option<String>,
    ) -> Result<(), Broken> {
        self.total += elements;
        if self.expected.is_some() {
            return self.compare(last_id);
        }
        let mark = self.mark(last_id.clone());
        self.note_sent(mark);
        self.builder.close_passage(self.total, last_id).await?;
        self.note_built(false);
        Ok(())
    }

    /// Compares what was read again with what is built.
    fn compare(&mut self, last_id: Option<String>) -> Result<(), Broken> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        self.progress.set(self.total, self.bytes);
        if self.total < expected.elements {
            return match self.builder.ledger.stop.is_cancelled() {
                true => Err(Broken::Stopped),
                false => Ok(()),
            };
        }
        let found = self.mark(last_id);
        if self.total > expected.elements || found.digest != expected.digest {
            return Err(Broken::Outdated);
        }
        self.expected = None;
        Ok(())
    }

    fn mark(&self, last_id: Option<String>) -> Mark {
        let about = self.about_digest.digest128();
        Mark {
            elements: self.total,
            digest: self.digest.digest128() ^ about.rotate_left(64),
            last_id,
            generation: 0,
            length: 0,
        }
    }

    /// Notes a chunk that is about to be sent. Of a stream that is written down: how far it came is found by
    /// that, as nothing can be taken off its end.
    fn note_sent(&mut self, mut mark: Mark) {
        mark.generation = self.builder.generation;
        if self.builder.kind == ValueKind::Stream {
            (self.log)(&mark);
        }
        self.marks.push_back(mark);
    }

    /// Writes down what the target has acknowledged, from time to time, or at once.
    fn note_built(&mut self, at_once: bool) {
        let built = self.builder.built.elements;
        let mut last = None;
        while let Some(mark) = self.marks.front()
            && mark.elements <= built
        {
            last = self.marks.pop_front();
        }
        if let Some(mut mark) = last {
            mark.generation = self.builder.generation;
            mark.length = self.builder.built.length;
            self.progress.set(mark.elements, self.bytes);
            if self.builder.kind != ValueKind::Stream {
                self.unlogged = Some(mark);
            }
        }
        if (at_once || self.bytes - self.logged_at >= LOG_BYTES)
            && let Some(mark) = self.unlogged.take()
        {
            (self.log)(&mark);
            self.logged_at = self.bytes;
        }
    }
}
