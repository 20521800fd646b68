//! Cuts a replication stream into commands, at exact offsets. What a command means is left to `command`.
//!
//! ```text
//!            the chunk holds it whole                    it does not, or it is very long
//!  chunk ──────────────────────────► slice of the chunk ; chunk ──► assembly ──► copy of what is held
//! ```

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::command::{ArgRange, Args, CUT};

/// An argument above this is not held.
pub(crate) const ARG_BYTES_MAX: u64 = 4 << 20;
/// So much of one command is held: its arguments and what stands between them.
pub(crate) const HELD_BYTES_MAX: usize = 32 << 20;
/// So many arguments of one command are told. Servers took 1,048,576 from a client before Redis 7.0, and take what fits an
/// `int` since.
const ARGS_MAX: usize = 2 << 20;
/// A mark, 19 digits and a line end. No server writes leading zeros.
const LINE_BYTES_MAX: usize = 22;
const LINE_END: &[u8] = b"\r\n";
/// Places for so many arguments are kept from command to command.
const ARGS_KEPT: usize = 4096;

/// The stream is not one of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no command of a replication stream at offset {offset}: {what}")]
pub(crate) struct StreamError {
    /// So many bytes of the stream are before what cannot be read.
    pub(crate) offset: u64,
    what: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
enum Fault {
    #[error("byte {0:#04x} where a command has to begin")]
    NoCommand(u8),
    #[error("byte {0:#04x} where an argument has to begin")]
    NoArgument(u8),
    #[error("a length that is none")]
    Length,
    #[error("a command without a name")]
    Empty,
    #[error("an argument that does not end where it has to")]
    ArgumentEnd,
}

/// See the file. A second of a busy source is half a million commands: no allocation for a command that lies whole in a chunk.
#[derive(Debug)]
pub(crate) struct Parser {
    /// What is not cut yet.
    chunk: Bytes,
    /// Of the chunk, what was cut.
    used: usize,
    /// Of the stream, what was cut or assembled.
    offset: u64,
    /// Of the command that was cut last.
    ranges: Vec<ArgRange>,
    assembly: Option<Assembly>,
    /// The last command, if it was assembled.
    assembled: Bytes,
}

/// One command of the stream.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    /// Who has applied it has applied the stream up to this offset, as servers count.
    pub(crate) end: u64,
    bytes: &'a Bytes,
    range: Range<usize>,
    ranges: &'a [ArgRange],
    is_cut_off: bool,
    is_cut_short: bool,
}

impl<'a> Cut<'a> {
    /// Its arguments.
    pub(crate) fn args(&self) -> Args<'a> {
        let bytes = self.bytes.get(self.range.clone()).unwrap_or_default();
        if self.is_cut_off {
            Args::cut_off(bytes, self.ranges)
        } else {
            Args::new(bytes, self.ranges)
        }
    }

    /// Not all of its bytes are held: it cannot be sent.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// It as it came; shares the chunk. To be sent only if it is not cut short.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.bytes.slice(self.range.clone())
    }
}

/// A command that no chunk holds whole, or that is not held whole.
#[derive(Debug)]
struct Assembly {
    start: u64,
    held: BytesMut,
    /// What has come of a line, or of a line end.
    line: Line,
    /// How many arguments are still to come.
    args_left: u64,
    expected: Expected,
    is_cut_off: bool,
    is_cut_short: bool,
}

/// What comes next of a command.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// `*3\r\n`
    Head,
    /// `$3\r\n`
    BulkHead,
    /// So many bytes of an argument, which is held.
    Body(usize),
    /// So many bytes of an argument that is not.
    PassedOver(u64),
    /// The line end behind an argument.
    BodyEnd,
}

#[derive(Debug, Default)]
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

/// What is wrong, and how far before what was taken.
type FaultBefore = (usize, Fault);

/// What a look at bytes gave.
enum Look<T> {
    Done(T),
    /// The bytes end before.
    More,
    /// Too long for the short way.
    Long,
}

impl Parser {
    /// A stream of which so many bytes were taken before.
    pub(crate) fn new(offset: u64) -> Self {
        Self {
            chunk: Bytes::new(),
            used: 0,
            offset,
            ranges: Vec::new(),
            assembly: None,
            assembled: Bytes::new(),
        }
    }

    /// The next bytes of the stream. Best when [`Parser::next`] has said that there is no whole command: what is left of
    /// the chunk before is copied.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.used < self.chunk.len() {
            let rest = self.chunk.get(self.used..).unwrap_or_default();
            self.chunk = [rest, &chunk].concat().into();
        } else {
            self.chunk = chunk;
        }
        self.used = 0;
        self.assembled = Bytes::new();
    }

    /// So many bytes of the stream belong to commands that were given out, or stood between them. What was begun of the
    /// next command is not counted.
    pub(crate) fn offset(&self) -> u64 {
        match &self.assembly {
            Some(assembly) => assembly.start,
            None => self.offset,
        }
    }

    /// The next command; `None`: it is not there whole.
    ///
    /// # Errors
    /// The bytes are no stream of commands. Nothing more can be read from it then.
    pub(crate) fn next(&mut self) -> Result<Option<Cut<'_>>, StreamError> {
        if self.assembly.is_none() {
            self.pass_newlines();
            let rest = self.chunk.get(self.used..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            match cut_whole(rest, &mut self.ranges) {
                Ok(Look::Done(len)) => return Ok(Some(self.give_whole(len))),
                Ok(Look::More | Look::Long) => self.begin_assembly(),
                Err((at, what)) => {
                    let offset = self.offset + at as u64;
                    return Err(StreamError { offset, what });
                }
            }
        }
        self.assemble()
    }

    /// Keep-alives of a server that has nothing to send.
    fn pass_newlines(&mut self) {
        while self.chunk.get(self.used) == Some(&b'\n') {
            self.used += 1;
            self.offset += 1;
        }
    }

    fn give_whole(&mut self, len: usize) -> Cut<'_> {
        let range = self.used..self.used + len;
        self.used = range.end;
        self.offset += len as u64;
        Cut {
            end: self.offset,
            bytes: &self.chunk,
            range,
            ranges: &self.ranges,
            is_cut_off: false,
            is_cut_short: false,
        }
    }

    fn begin_assembly(&mut self) {
        self.ranges.clear();
        self.ranges.shrink_to(ARGS_KEPT);
        self.assembly = Some(Assembly {
            start: self.offset,
            held: BytesMut::new(),
            line: Line::default(),
            args_left: 0,
            expected: Expected::Head,
            is_cut_off: false,
            is_cut_short: false,
        });
    }

    fn assemble(&mut self) -> Result<Option<Cut<'_>>, StreamError> {
        let Some(assembly) = &mut self.assembly else {
            return Ok(None);
        };
        let mut rest = self.chunk.get(self.used..).unwrap_or_default();
        let before = rest.len();
        let step = assembly.take(&mut rest, &mut self.ranges);
        let taken = before - rest.len();
        self.used += taken;
        self.offset += taken as u64;
        let offset = self.offset;
        let step = step.map_err(|(before, what)| StreamError {
            offset: offset - before as u64,
            what,
        });
        if !step? {
            // The whole chunk is copied or passed over: its memory is given back.
            self.chunk = Bytes::new();
            self.used = 0;
            return Ok(None);
        }
        let Some(done) = self.assembly.take() else {
            return Ok(None);
        };
        self.assembled = done.held.freeze();
        Ok(Some(Cut {
            end: self.offset,
            range: 0..self.assembled.len(),
            bytes: &self.assembled,
            ranges: &self.ranges,
            is_cut_off: done.is_cut_off,
            is_cut_short: done.is_cut_short,
        }))
    }
}

impl Assembly {
    /// Takes what belongs to the command off the bytes; true: that was its end.
    fn take(&mut self, rest: &mut &[u8], ranges: &mut Vec<ArgRange>) -> Result<bool, FaultBefore> {
        loop {
            match self.expected {
                Expected::Head => {
                    let Some(count) = self.line.take(rest, b'*')? else {
                        return Ok(false);
                    };
                    if count == 0 {
                        return Err((0, Fault::Empty));
                    }
                    self.hold_line();
                    self.args_left = count;
                    self.expected = Expected::BulkHead;
                }
                Expected::BulkHead => {
                    let Some(len) = self.line.take(rest, b'$')? else {
                        return Ok(false);
                    };
                    self.begin_argument(len, ranges);
                }
                Expected::Body(left) => {
                    let taken = left.min(rest.len());
                    let (now, later) = rest.split_at(taken);
                    self.held.extend_from_slice(now);
                    *rest = later;
                    if taken < left {
                        self.expected = Expected::Body(left - taken);
                        return Ok(false);
                    }
                    self.expected = Expected::BodyEnd;
                }
                Expected::PassedOver(left) => {
                    let passed =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    rest.advance(passed);
                    let left = left - passed as u64;
                    if left > 0 {
                        self.expected = Expected::PassedOver(left);
                        return Ok(false);
                    }
                    self.expected = Expected::BodyEnd;
                }
                Expected::BodyEnd => {
                    if !self.line.take_end(rest)? {
                        return Ok(false);
                    }
                    self.hold_line();
                    self.args_left = self.args_left.saturating_sub(1);
                    if self.args_left == 0 {
                        return Ok(true);
                    }
                    self.expected = Expected::BulkHead;
                }
            }
        }
    }

    /// Decides whether an argument of this length is held.
    fn begin_argument(&mut self, len: u64, ranges: &mut Vec<ArgRange>) {
        self.hold_line();
        let start = self.held.len();
        let is_listed = ranges.len() < ARGS_MAX;
        let room = HELD_BYTES_MAX.saturating_sub(start) as u64;
        let range = range_of(start, len).filter(|_| len <= ARG_BYTES_MAX.min(room) && is_listed);
        self.expected = match range {
            Some(range) => {
                let len = range.len();
                ranges.push(range);
                Expected::Body(len)
            }
            None => {
                if is_listed {
                    ranges.push(CUT);
                }
                self.is_cut_off |= !is_listed;
                self.is_cut_short = true;
                Expected::PassedOver(len)
            }
        };
    }

    /// Nobody needs the lines of a command that cannot be sent, and there may be any number of them.
    fn hold_line(&mut self) {
        if !self.is_cut_short {
            self.held.extend_from_slice(self.line.bytes());
        }
        self.line.len = 0;
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes a line with a number, in as many pieces as it comes. It stays here until it is held.
    fn take(&mut self, rest: &mut &[u8], mark: u8) -> Result<Option<u64>, FaultBefore> {
        while self.take_byte(rest) {
            let line = number_line(self.bytes(), mark).map_err(|fault| (self.len, fault))?;
            if let Some((number, _)) = line {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The same for the line end behind an argument.
    fn take_end(&mut self, rest: &mut &[u8]) -> Result<bool, FaultBefore> {
        while self.len < LINE_END.len() {
            if !self.take_byte(rest) {
                return Ok(false);
            }
        }
        if self.bytes() == LINE_END {
            Ok(true)
        } else {
            Err((self.len, Fault::ArgumentEnd))
        }
    }

    fn take_byte(&mut self, rest: &mut &[u8]) -> bool {
        let (Some((&byte, later)), Some(place)) =
            (rest.split_first(), self.bytes.get_mut(self.len))
        else {
            return false;
        };
        *place = byte;
        self.len += 1;
        *rest = later;
        true
    }
}

/// The length of the command at the begin of `bytes`, and where its arguments are.
fn cut_whole(bytes: &[u8], ranges: &mut Vec<ArgRange>) -> Result<Look<usize>, (usize, Fault)> {
    ranges.clear();
    let head = number_line(bytes, b'*').map_err(|fault| (0, fault))?;
    let Some((count, mut at)) = head else {
        return Ok(Look::More);
    };
    if count == 0 {
        return Err((at, Fault::Empty));
    }
    if count > ARGS_KEPT as u64 {
        return Ok(Look::Long);
    }
    for _ in 0..count {
        let rest = bytes.get(at..).unwrap_or_default();
        let head = number_line(rest, b'$').map_err(|fault| (at, fault))?;
        let Some((len, used)) = head else {
            return Ok(Look::More);
        };
        let start = at + used;
        if len > ARG_BYTES_MAX || start as u64 + len > HELD_BYTES_MAX as u64 {
            return Ok(Look::Long);
        }
        let Some(range) = range_of(start, len) else {
            return Ok(Look::Long);
        };
        let end = start + range.len();
        at = end + LINE_END.len();
        match bytes.get(end..at) {
            Some(LINE_END) => ranges.push(range),
            Some(_) => return Err((end, Fault::ArgumentEnd)),
            None => return Ok(Look::More),
        }
    }
    Ok(Look::Done(at))
}

fn range_of(start: usize, len: u64) -> Option<ArgRange> {
    let start = u32::try_from(start).ok()?;
    Some(start..start.checked_add(u32::try_from(len).ok()?)?)
}

/// A line of a mark and a number at the begin of `bytes`, and how long it is; `None`: its end is not there.
fn number_line(bytes: &[u8], mark: u8) -> Result<Option<(u64, usize)>, Fault> {
    let Some((&first, digits)) = bytes.split_first() else {
        return Ok(None);
    };
    if first != mark {
        return Err(if mark == b'*' {
            Fault::NoCommand(first)
        } else {
            Fault::NoArgument(first)
        });
    }
    let mut number = 0_u64;
    for (index, &byte) in digits.iter().take(LINE_BYTES_MAX - 2).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            // 19 digits fit.
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'\r' && index > 0 {
            return match digits.get(index + 1) {
                Some(b'\n') => Ok(Some((number, index + 3))),
                Some(_) => Err(Fault::Length),
                None => Ok(None),
            };
        } else {
            return Err(Fault::Length);
        }
    }
    if digits.len() < LINE_BYTES_MAX - 2 {
        Ok(None)
    } else {
        Err(Fault::Length)
    }
}

#[cfg(test)]
mod tests;
