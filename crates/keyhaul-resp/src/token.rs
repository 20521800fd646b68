//! Bytes to tokens: the flat stream of scalars, bulk strings and heads of aggregates.
//!
//! Keeps just enough state to go on where the bytes ended. What belongs together is left to the caller
//! or to the value builder.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{DecodeError, Excerpt};
use crate::limits::Limits;
use crate::number;

/// Lines up to here are searched byte by byte, which is faster than setting up a vector search.
const SHORT_LINE_BYTES: usize = 16;

/// The format of a verbatim string and its colon: `txt:`.
const VERBATIM_PREFIX_BYTES: usize = 4;

/// The smallest unit of RESP. Payloads are slices of the buffer that was decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// `+`: a status.
    Simple(Bytes),
    /// `-`, or `!` (RESP3): an error reply, code first.
    Error(Bytes),
    /// `:`
    Int(i64),
    /// `,` (RESP3)
    Double(f64),
    /// `#` (RESP3)
    Bool(bool),
    /// `(` (RESP3): decimal digits with an optional sign, any number of them.
    BigNumber(Bytes),
    /// `_` (RESP3), `$-1` or `*-1`.
    Null,
    /// `$`: a bulk string, whole.
    Bulk(Bytes),
    /// `=` (RESP3): a text, without its format prefix.
    Verbatim(Bytes),
    /// A bulk string, or a verbatim text, that is too long to be whole: so many bytes come in parts.
    BulkStart(u64),
    /// The next bytes of it; never empty.
    BulkPart(Bytes),
    /// All parts were given.
    BulkEnd,
    /// `*`: so many elements follow.
    Array(u64),
    /// `%` (RESP3): so many pairs follow.
    Map(u64),
    /// `~` (RESP3): so many elements follow.
    Set(u64),
    /// `>` (RESP3): so many elements follow. Out of band: no reply to a command.
    Push(u64),
    /// `|` (RESP3): so many pairs follow, and then the value that they are about.
    Attribute(u64),
}

/// Takes tokens off a buffer. The buffer must be the same one in each call, and only be appended to.
///
/// ```text
///             header of a short bulk, payload not there yet
///          ┌────────────────────────────► Whole ───┐ payload and line end are there: Bulk
///  Between ┤                                       ├──► Between
///          └────────────────────────────► Parts ───┘ left is 0 and line end is there: BulkEnd
///             header of a long bulk: BulkStart        each call before: BulkPart
/// ```
#[derive(Debug)]
pub(crate) struct Tokenizer {
    state: State,
    /// So many bytes at the begin of the buffer hold no line feed, and are not searched again.
    searched: usize,
    wanted: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The buffer begins with a token.
    Between,
    /// The buffer begins with the payload of a bulk string whose header is consumed.
    Whole { kind: BulkKind, len: usize },
    /// The buffer begins with so many bytes of a long bulk string, and its line end.
    Parts { left: u64 },
}

#[derive(Debug, Clone, Copy)]
enum BulkKind {
    String,
    Error,
    Verbatim,
}

/// A line, understood.
enum Line {
    Token(Token),
    Text(fn(Bytes) -> Token),
    Bulk(BulkKind, u64),
}

impl Tokenizer {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Between,
            searched: 0,
            wanted: 0,
        }
    }

    /// The next token, or None when more bytes are needed. Bulk strings above `whole_max` come in parts.
    ///
    /// On an error the offending bytes stay in the buffer.
    #[inline]
    pub(crate) fn next(
        &mut self,
        buf: &mut BytesMut,
        whole_max: usize,
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        self.wanted = 0;
        match self.state {
            State::Between => self.begin(buf, whole_max, limits),
            State::Whole { kind, len } => self.whole(buf, kind, 0, len, limits),
            State::Parts { left } => self.part(buf, left, limits),
        }
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// No token is half seen.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Between) && self.searched == 0
    }

    /// The shortcuts: what most tokens are, if it is there in full.
    #[inline]
    fn begin(
        &mut self,
        buf: &mut BytesMut,
        whole_max: usize,
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        let Some((&mark, rest)) = buf.split_first() else {
            return Ok(None);
        };
        match mark {
            b'+' if rest.starts_with(b"OK\r\n") => {
                self.consume(buf, b"+OK\r\n".len());
                return Ok(Some(Token::Simple(Bytes::from_static(b"OK"))));
            }
            b':' => {
                if let Some((n, used)) = number::short_integer(rest) {
                    self.consume(buf, 1 + used);
                    return Ok(Some(Token::Int(n)));
                }
            }
            b'$' => {
                if let Some((len, used)) = number::short_length(rest) {
                    return self.bulk(buf, BulkKind::String, 1 + used, len, whole_max, limits);
                }
            }
            _ => {}
        }
        self.line(buf, mark, whole_max, limits)
    }

    /// Any token, from its line on.
    fn line(
        &mut self,
        buf: &mut BytesMut,
        mark: u8,
        whole_max: usize,
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        if !b"+-:$*,#(_!=%~>|".contains(&mark) {
            return Err(DecodeError::NotResp {
                byte: mark,
                sent: Excerpt::new(buf),
            });
        }
        let Some(line_feed) = self.line_feed(buf, limits)? else {
            return Ok(None);
        };
        let Some((line, b"\r\n")) = buf.get(..=line_feed).and_then(split_end) else {
            return Err(DecodeError::MissingCrlf {
                sent: Excerpt::new(buf),
            });
        };
        let text_len = line.len().saturating_sub(1);
        match decode_line(line, limits)? {
            Line::Token(token) => {
                self.consume(buf, line_feed + 1);
                Ok(Some(token))
            }
            Line::Text(token) => {
                self.consume(buf, 1);
                let text = buf.split_to(text_len).freeze();
                buf.advance(b"\r\n".len());
                Ok(Some(token(text)))
            }
            Line::Bulk(kind, len) => self.bulk(buf, kind, line_feed + 1, len, whole_max, limits),
        }
    }

    /// Where the first line of the buffer ends, if it does.
    fn line_feed(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, DecodeError> {
        let limit = limits.line_len_max;
        let unsearched = buf.get(self.searched..).unwrap_or_default();
        let (near, far) = unsearched.split_at(unsearched.len().min(SHORT_LINE_BYTES));
        let found = near
            .iter()
            .position(|&byte| byte == b'\n')
            .or_else(|| memchr::memchr(b'\n', far).map(|index| near.len() + index))
            .map(|index| self.searched + index);
        // The mark and `\r` come before the line feed, and do not count.
        if found.unwrap_or(buf.len()).saturating_sub(2) > limit {
            return Err(DecodeError::LineTooLong { limit });
        }
        if found.is_none() {
            self.searched = buf.len();
        }
        Ok(found)
    }

    /// A bulk string whose header is the first `header` bytes of the buffer.
    #[inline]
    fn bulk(
        &mut self,
        buf: &mut BytesMut,
        kind: BulkKind,
        header: usize,
        len: u64,
        whole_max: usize,
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        if len > limits.bulk_len_max {
            return Err(DecodeError::BulkTooLong {
                len,
                limit: limits.bulk_len_max,
            });
        }
        match usize::try_from(len) {
            Ok(len) if len <= whole_max => self.whole(buf, kind, header, len, limits),
            _ => self.begin_parts(buf, kind, header, len, whole_max),
        }
    }

    /// A bulk string of `len` bytes, behind the first `header` bytes of the buffer.
    #[inline]
    fn whole(
        &mut self,
        buf: &mut BytesMut,
        kind: BulkKind,
        header: usize,
        len: usize,
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        let end = header.saturating_add(len);
        match buf.get(end..).and_then(|rest| rest.get(..2)) {
            Some(b"\r\n") => {}
            Some(sent) => {
                return Err(DecodeError::MissingCrlf {
                    sent: Excerpt::new(sent),
                });
            }
            None => {
                self.consume(buf, header);
                self.state = State::Whole { kind, len };
                let missing = len.saturating_add(2).saturating_sub(buf.len());
                self.wanted = missing.min(limits.bulk_whole_max);
                return Ok(None);
            }
        }
        let prefix = match kind {
            BulkKind::String | BulkKind::Error => 0,
            BulkKind::Verbatim => verbatim_prefix(buf.get(header..end).unwrap_or_default())?,
        };
        self.consume(buf, header + prefix);
        let payload = match len - prefix {
            0 => Bytes::new(),
            len => buf.split_to(len).freeze(),
        };
        buf.advance(b"\r\n".len());
        self.state = State::Between;
        Ok(Some(match kind {
            BulkKind::String => Token::Bulk(payload),
            BulkKind::Error => Token::Error(payload),
            BulkKind::Verbatim => Token::Verbatim(payload),
        }))
    }

    /// A bulk string that is too long to be whole, with its header at the begin of the buffer.
    fn begin_parts(
        &mut self,
        buf: &mut BytesMut,
        kind: BulkKind,
        header: usize,
        len: u64,
        whole_max: usize,
    ) -> Result<Option<Token>, DecodeError> {
        let prefix = match kind {
            BulkKind::String => 0,
            // Parts are data. An error must not be taken for it.
            BulkKind::Error => {
                return Err(DecodeError::BulkTooLong {
                    len,
                    limit: whole_max as u64,
                });
            }
            BulkKind::Verbatim => {
                let there = buf.get(header..).unwrap_or_default();
                if there.len() < VERBATIM_PREFIX_BYTES {
                    self.wanted = VERBATIM_PREFIX_BYTES - there.len();
                    // The header is decoded again when the prefix is there: its line feed is known.
                    self.searched = header.saturating_sub(1);
                    return Ok(None);
                }
                verbatim_prefix(there)?
            }
        };
        let left = len.saturating_sub(prefix as u64);
        self.consume(buf, header + prefix);
        self.state = State::Parts { left };
        Ok(Some(Token::BulkStart(left)))
    }

    /// The next part of a long bulk string of which so many bytes are `left`, or its end.
    fn part(
        &mut self,
        buf: &mut BytesMut,
        left: u64,
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        if left == 0 {
            return match buf.get(..2) {
                Some(b"\r\n") => {
                    buf.advance(b"\r\n".len());
                    self.state = State::Between;
                    Ok(Some(Token::BulkEnd))
                }
                Some(sent) => Err(DecodeError::MissingCrlf {
                    sent: Excerpt::new(sent),
                }),
                None => {
                    self.wanted = 2 - buf.len();
                    Ok(None)
                }
            };
        }
        if buf.is_empty() {
            self.wanted = 1;
            return Ok(None);
        }
        let there = buf.len().min(limits.bulk_whole_max.max(1));
        let part_len = usize::try_from(left).map_or(there, |left| there.min(left));
        self.state = State::Parts {
            left: left - part_len as u64,
        };
        Ok(Some(Token::BulkPart(buf.split_to(part_len).freeze())))
    }

    #[inline]
    fn consume(&mut self, buf: &mut BytesMut, count: usize) {
        buf.advance(count);
        self.searched = 0;
    }
}

/// A line with its mark and without its end. Flat: one arm for each type of RESP.
fn decode_line(line: &[u8], limits: &Limits) -> Result<Line, DecodeError> {
    let (mark, text) = line
        .split_first()
        .map_or((0, line), |(&mark, text)| (mark, text));
    let sent = || Excerpt::new(line);
    let bad_number = || DecodeError::BadNumber { sent: sent() };
    let length = || match number::length(text) {
        Some(len) => Ok(len),
        None if text == b"?" => Err(DecodeError::Streamed { sent: sent() }),
        None => Err(DecodeError::BadLength { sent: sent() }),
    };
    let count = || {
        let (len, limit) = (length()?, limits.aggregate_len_max);
        if len > limit {
            Err(DecodeError::AggregateTooLong { len, limit })
        } else {
            Ok(len)
        }
    };
    Ok(match (mark, text) {
        (b'$' | b'*', b"-1") | (b'_', b"") => Line::Token(Token::Null),
        (b'#', b"t") => Line::Token(Token::Bool(true)),
        (b'#', b"f") => Line::Token(Token::Bool(false)),
        (b'#' | b'_', _) => return Err(DecodeError::BadConstant { sent: sent() }),
        (b'+', _) => Line::Text(Token::Simple),
        (b'-', _) => Line::Text(Token::Error),
        (b'(', _) if number::is_big_number(text) => Line::Text(Token::BigNumber),
        (b'(', _) => return Err(bad_number()),
        (b':', _) => Line::Token(Token::Int(number::integer(text).ok_or_else(bad_number)?)),
        (b',', _) => Line::Token(Token::Double(number::double(text).ok_or_else(bad_number)?)),
        (b'$', _) => Line::Bulk(BulkKind::String, length()?),
        (b'!', _) => Line::Bulk(BulkKind::Error, length()?),
        (b'=', _) => Line::Bulk(BulkKind::Verbatim, length()?),
        (b'*', _) => Line::Token(Token::Array(count()?)),
        (b'%', _) => Line::Token(Token::Map(count()?)),
        (b'~', _) => Line::Token(Token::Set(count()?)),
        (b'>', _) => Line::Token(Token::Push(count()?)),
        (b'|', _) => Line::Token(Token::Attribute(count()?)),
        _ => {
            return Err(DecodeError::NotResp {
                byte: mark,
                sent: sent(),
            });
        }
    })
}

/// A line and its last two bytes.
fn split_end(line: &[u8]) -> Option<(&[u8], &[u8; 2])> {
    line.split_last_chunk()
}

/// How long the format prefix of a verbatim string is.
fn verbatim_prefix(text: &[u8]) -> Result<usize, DecodeError> {
    match text {
        [_, _, _, b':', ..] => Ok(VERBATIM_PREFIX_BYTES),
        _ => Err(DecodeError::BadVerbatim {
            sent: Excerpt::new(text),
        }),
    }
}
