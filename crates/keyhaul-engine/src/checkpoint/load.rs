//! Reads a journal, and writes down anew what of it is alive.
//!
//! Whatever stands behind a line that cannot be read is dropped: it may have been written by a machine
//! that lost its power in the middle. A shorter journal only means more work; it is never wrong.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;

use super::record::{Header, LINE_BYTES_MAX, Record, VERSION, Version, line};
use super::{BigKeyState, JobIdentity, MARKS_KEPT, NotMovedRecord, OpenKey, ScanPosition};

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Loaded {
    /// Empty, no journal, of a format that is not read any more, or of another job.
    Nothing,
    /// Of a later keyhaul.
    Newer(u64),
    /// A journal of this job.
    Journal(Box<Alive>),
}

/// A position as it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    pub at_ms: i64,
    pub position: ScanPosition,
}

/// What of a journal is not overtaken by later lines.
#[derive(Debug, Default)]
pub(super) struct Alive {
    pub began_at_ms: i64,
    /// What the target was said to be last.
    pub target: Option<String>,
    /// The target held nothing when the job was begun.
    pub target_was_empty: bool,
    /// What was last noted of statistics.
    pub stats: Option<serde_json::Value>,
    /// The last one of each db of each node; the latest of all is the last.
    pub positions: Vec<Saved>,
    /// Keys that the job was done with, as noted last.
    pub keys_done: u64,
    /// At the place that is its number.
    pub big_keys: Vec<BigKeyState>,
    /// Each key once, with the last reason.
    pub not_moved: Vec<NotMovedRecord>,
    /// Keys of a comparison that are not known to be the same.
    pub open: BTreeSet<OpenKey>,
    /// Lines behind the readable part. A last line without an end does not count: that is how a
    /// journal looks after a power cut.
    pub lines_dropped: u64,
    not_moved_places: HashMap<(u32, Bytes), usize>,
}

impl Alive {
    pub(super) fn new(began_at_ms: i64) -> Self {
        Self {
            began_at_ms,
            ..Self::default()
        }
    }

    /// Takes a line in; `None` if it cannot stand here.
    fn apply(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Position {
                at_ms,
                position,
                keys_done,
            } => {
                let is_other = |saved: &Saved| !saved.position.is_of_the_same_scan(&position);
                self.positions.retain(is_other);
                self.positions.push(Saved { at_ms, position });
                self.keys_done = keys_done;
            }
            Record::Open(key) => {
                self.open.insert(key);
            }
            Record::Settled { key, keys_done } => {
                self.open.remove(&key);
                self.keys_done = keys_done;
            }
            Record::Target { target } => self.target = Some(target),
            Record::TargetWasEmpty => self.target_was_empty = true,
            Record::Stats { state } => self.stats = Some(state),
            Record::Anew => {
                self.positions.clear();
                self.open.clear();
                self.keys_done = 0;
                for state in &mut self.big_keys {
                    state.marks.clear();
                    state.is_done = false;
                }
            }
            Record::Big { big, key } => {
                if big != self.big_keys.len() as u64 {
                    return None;
                }
                self.big_keys.push(BigKeyState {
                    key,
                    marks: Vec::new(),
                    is_done: false,
                });
            }
            // A key that is built again is not done, whatever was said before.
            Record::Mark { big, mark } => {
                let state = self.big(big)?;
                state.is_done = false;
                if state.marks.len() == MARKS_KEPT {
                    state.marks.remove(0);
                }
                state.marks.push(mark);
            }
            Record::Reset { big } => self.clear_big(big, false)?,
            Record::Done { big } => self.clear_big(big, true)?,
            Record::NotMoved(record) => {
                let name = (record.db, record.key.clone());
                let place = *self
                    .not_moved_places
                    .entry(name)
                    .or_insert(self.not_moved.len());
                match self.not_moved.get_mut(place) {
                    Some(earlier) => *earlier = record,
                    None => self.not_moved.push(record),
                }
            }
        }
        Some(())
    }

    fn big(&mut self, big: u64) -> Option<&mut BigKeyState> {
        self.big_keys.get_mut(usize::try_from(big).ok()?)
    }

    fn clear_big(&mut self, big: u64, is_done: bool) -> Option<()> {
        let state = self.big(big)?;
        state.marks.clear();
        state.is_done = is_done;
        Some(())
    }

    /// Writes a journal that says the same, without what is overtaken.
    ///
    /// # Errors
    /// Those of `output`.
    pub(super) fn write(&self, identity: &JobIdentity, output: &mut impl Write) -> io::Result<()> {
        output.write_all(&line(&Header {
            keyhaul_journal: VERSION,
            identity: identity.clone(),
            began_at_ms: self.began_at_ms,
        })?)?;
        if let Some(target) = self.target.clone() {
            output.write_all(&line(&Record::Target { target })?)?;
        }
        if self.target_was_empty {
            output.write_all(&line(&Record::TargetWasEmpty)?)?;
        }
        if let Some(state) = self.stats.clone() {
            output.write_all(&line(&Record::Stats { state })?)?;
        }
        for (big, state) in (0..).zip(&self.big_keys) {
            let key = state.key.clone();
            output.write_all(&line(&Record::Big { big, key })?)?;
            for mark in state.marks.iter().cloned() {
                output.write_all(&line(&Record::Mark { big, mark })?)?;
            }
            if state.is_done {
                output.write_all(&line(&Record::Done { big })?)?;
            }
        }
        for record in &self.not_moved {
            output.write_all(&line(&Record::NotMoved(record.clone()))?)?;
        }
        // What is not settled stands before the positions that are behind it: a journal that is cut short must not claim
        // more than it holds.
        for key in &self.open {
            output.write_all(&line(&Record::Open(key.clone()))?)?;
        }
        for saved in self.positions.iter().cloned() {
            output.write_all(&line(&Record::Position {
                at_ms: saved.at_ms,
                position: saved.position,
                keys_done: self.keys_done,
            })?)?;
        }
        Ok(())
    }
}

/// Reads a journal of the job `identity`.
///
/// # Errors
/// Those of `input`; what it holds is never an error.
pub(super) fn load(mut input: impl BufRead, identity: &JobIdentity) -> io::Result<Loaded> {
    let mut text = Vec::new();
    if read_line(&mut input, &mut text)? != Line::Whole {
        return Ok(Loaded::Nothing);
    }
    match serde_json::from_slice(&text) {
        Ok(Version { keyhaul_journal }) if keyhaul_journal > VERSION => {
            return Ok(Loaded::Newer(keyhaul_journal));
        }
        Ok(Version { keyhaul_journal }) if keyhaul_journal == VERSION => {}
        _ => return Ok(Loaded::Nothing),
    }
    let header = match serde_json::from_slice::<Header>(&text) {
        Ok(header) if header.identity == *identity => header,
        _ => return Ok(Loaded::Nothing),
    };
    let mut alive = Alive::new(header.began_at_ms);
    while read_line(&mut input, &mut text)? == Line::Whole {
        let record = serde_json::from_slice(&text).ok();
        if record.and_then(|record| alive.apply(record)).is_none() {
            alive.lines_dropped = 1 + count_lines(&mut input)?;
            break;
        }
    }
    Ok(Loaded::Journal(Box::new(alive)))
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole,
    /// The end of the file, a line without an end, or one that is too long.
    Torn,
}

fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<Line> {
    text.clear();
    input.take(LINE_BYTES_MAX).read_until(b'\n', text)?;
    Ok(match text.last() {
        Some(b'\n') => Line::Whole,
        _ => Line::Torn,
    })
}

/// How many lines end in the rest; none of it is kept.
fn count_lines(input: &mut impl BufRead) -> io::Result<u64> {
    let mut count = 0;
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(count);
        }
        count += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let taken = bytes.len();
        input.consume(taken);
    }
}
