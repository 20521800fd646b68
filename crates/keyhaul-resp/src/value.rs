//! Whole values: the tree that the client looks into, and its builder.
//!
//! Bounded in depth and memory. Attributes are passed over.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::limits::Limits;
use crate::number;
use crate::token::Token;

/// What an element of an aggregate costs beside its payload, bytes.
const ELEMENT_BYTES: usize = size_of::<Value>();

/// Room for so many elements is made at once; for more as they come, whatever the peer announced.
const ELEMENTS_RESERVED_MAX: u64 = 1024;

/// A whole reply. Payloads are slices of the buffer that was decoded, and keep it alive.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A status such as `OK`.
    Simple(Bytes),
    /// An error reply, code first.
    Error(Bytes),
    /// An integer.
    Int(i64),
    /// RESP3; in RESP2 the same is a bulk string.
    Double(f64),
    /// RESP3; in RESP2 the same is 0 or 1.
    Bool(bool),
    /// RESP3: decimal digits with an optional sign.
    BigNumber(Bytes),
    /// A missing value, of any form.
    Null,
    /// A string.
    Bulk(Bytes),
    /// RESP3: a text for people, without its format prefix. In RESP2 the same is a bulk string.
    Verbatim(Bytes),
    /// Elements in order.
    Array(Vec<Value>),
    /// RESP3: pairs in the order sent, not checked for double keys. In RESP2 the same is a flat array.
    Map(Vec<(Value, Value)>),
    /// RESP3: elements in the order sent, not checked for doubles. In RESP2 the same is an array.
    Set(Vec<Value>),
    /// RESP3: a message out of band, no reply to any command.
    Push(Vec<Value>),
}

impl Value {
    /// The bytes of a string of any form: [`Value::Simple`], [`Value::Bulk`], [`Value::Verbatim`].
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Value::Simple(bytes) | Value::Bulk(bytes) | Value::Verbatim(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// As [`Value::as_bytes`], without a copy.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Value::Simple(bytes) | Value::Bulk(bytes) | Value::Verbatim(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer, or a bulk or simple string that is the decimal text of one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bulk(text) | Value::Simple(text) => number::integer(text),
            _ => None,
        }
    }

    /// The elements of [`Value::Array`], [`Value::Set`] or [`Value::Push`].
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// As [`Value::as_list`], without a copy.
    pub fn into_list(self) -> Option<Vec<Value>> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of a [`Value::Map`], or of a flat [`Value::Array`] of even length, which is what RESP2
    /// has instead.
    pub fn pairs(&self) -> Option<Pairs<'_>> {
        match self {
            Value::Map(pairs) => Some(Pairs(PairsOf::Map(pairs.iter()))),
            Value::Array(items) => match items.as_chunks() {
                (pairs, []) => Some(Pairs(PairsOf::Flat(pairs.iter()))),
                _ => None,
            },
            _ => None,
        }
    }

    /// This is an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The text of an error reply.
    pub fn as_error(&self) -> Option<&Bytes> {
        match self {
            Value::Error(text) => Some(text),
            _ => None,
        }
    }

    /// This is a missing value.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn payload_len(&self) -> usize {
        match self {
            Value::Simple(bytes)
            | Value::Error(bytes)
            | Value::BigNumber(bytes)
            | Value::Bulk(bytes)
            | Value::Verbatim(bytes) => bytes.len(),
            // Elements were counted when they came.
            _ => 0,
        }
    }
}

/// Iterates over key and value of each pair, see [`Value::pairs`].
#[derive(Debug, Clone)]
pub struct Pairs<'a>(PairsOf<'a>);

#[derive(Debug, Clone)]
enum PairsOf<'a> {
    Map(std::slice::Iter<'a, (Value, Value)>),
    Flat(std::slice::Iter<'a, [Value; 2]>),
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a Value, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            PairsOf::Map(pairs) => pairs.next().map(|(key, value)| (key, value)),
            PairsOf::Flat(pairs) => pairs.next().map(|[key, value]| (key, value)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            PairsOf::Map(pairs) => pairs.size_hint(),
            PairsOf::Flat(pairs) => pairs.size_hint(),
        }
    }
}

impl ExactSizeIterator for Pairs<'_> {}

/// Makes values out of tokens, one token at a time.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// The aggregates that are open, outermost first.
    open: Vec<Frame>,
    /// What the elements so far cost.
    bytes: usize,
    /// An attribute was passed over whose value has not come.
    value_due: bool,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// Elements that have not come; never 0 while the frame is open.
    missing: u64,
    items: Vec<Value>,
    /// False in an attribute, at any depth: elements are dropped as they come.
    kept: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Map,
    Set,
    Push,
    Attribute,
}

impl Builder {
    /// No value is half built.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && !self.value_due
    }

    /// How long a payload may be now.
    pub(crate) fn payload_max(&self, limits: &Limits) -> usize {
        limits.value_bytes_max.saturating_sub(self.bytes)
    }

    /// Takes a token; gives a value when it is whole.
    // Inlined, it saves a copy of the value: a third of the time for a status reply.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        token: Token,
        limits: &Limits,
    ) -> Result<Option<Value>, DecodeError> {
        let value = match token {
            Token::Simple(bytes) => Value::Simple(bytes),
            Token::Error(bytes) => Value::Error(bytes),
            Token::Int(n) => Value::Int(n),
            Token::Double(n) => Value::Double(n),
            Token::Bool(truth) => Value::Bool(truth),
            Token::BigNumber(bytes) => Value::BigNumber(bytes),
            Token::Null => Value::Null,
            Token::Bulk(bytes) => Value::Bulk(bytes),
            Token::Verbatim(bytes) => Value::Verbatim(bytes),
            Token::Array(count) => return self.begin(Kind::Array, count, limits),
            Token::Map(count) => return self.begin(Kind::Map, count, limits),
            Token::Set(count) => return self.begin(Kind::Set, count, limits),
            Token::Push(count) => return self.begin(Kind::Push, count, limits),
            Token::Attribute(count) => return self.begin(Kind::Attribute, count, limits),
            // Only a payload above `payload_max` comes in parts here.
            Token::BulkStart(_) => {
                return Err(DecodeError::TooLarge {
                    limit: limits.value_bytes_max,
                });
            }
            Token::BulkPart(_) | Token::BulkEnd => return Err(DecodeError::MidBulk),
        };
        if self.is_idle() {
            return Ok(Some(value));
        }
        self.add(value, limits)
    }

    /// Opens an aggregate of `count` elements or pairs.
    fn begin(
        &mut self,
        kind: Kind,
        count: u64,
        limits: &Limits,
    ) -> Result<Option<Value>, DecodeError> {
        if self.open.len() >= limits.depth_max {
            return Err(DecodeError::TooDeep {
                limit: limits.depth_max,
            });
        }
        if kind == Kind::Push && !self.open.is_empty() {
            return Err(DecodeError::NestedPush);
        }
        let per_count = if matches!(kind, Kind::Map | Kind::Attribute) {
            2
        } else {
            1
        };
        let missing = count.saturating_mul(per_count);
        let kept = kind != Kind::Attribute && self.open.last().is_none_or(|frame| frame.kept);
        // What cannot fit in the end is refused before the first element is taken.
        let cost = missing.saturating_mul(ELEMENT_BYTES as u64);
        if kept && cost > self.payload_max(limits) as u64 {
            return Err(DecodeError::TooLarge {
                limit: limits.value_bytes_max,
            });
        }
        let reserved = if kept {
            missing.min(ELEMENTS_RESERVED_MAX)
        } else {
            0
        };
        let items = Vec::with_capacity(usize::try_from(reserved).unwrap_or(0));
        let frame = Frame {
            kind,
            missing,
            items,
            kept,
        };
        if missing > 0 {
            self.open.push(frame);
            return Ok(None);
        }
        match frame.into_value() {
            Some(value) => self.add(value, limits),
            None => Ok(self.pass_over()),
        }
    }

    /// Adds a whole value to the innermost aggregate, and closes what is complete then.
    fn add(&mut self, mut value: Value, limits: &Limits) -> Result<Option<Value>, DecodeError> {
        while let Some(frame) = self.open.last_mut() {
            if frame.kept {
                let cost = ELEMENT_BYTES.saturating_add(value.payload_len());
                self.bytes = self.bytes.saturating_add(cost);
                if self.bytes > limits.value_bytes_max {
                    return Err(DecodeError::TooLarge {
                        limit: limits.value_bytes_max,
                    });
                }
                frame.items.push(value);
            }
            frame.missing = frame.missing.saturating_sub(1);
            if frame.missing > 0 {
                return Ok(None);
            }
            match self.open.pop().and_then(Frame::into_value) {
                Some(whole) => value = whole,
                None => return Ok(self.pass_over()),
            }
        }
        self.bytes = 0;
        self.value_due = false;
        Ok(Some(value))
    }

    /// An attribute is complete: it was no value, the one it is about comes next.
    fn pass_over(&mut self) -> Option<Value> {
        self.value_due = true;
        None
    }
}

impl Frame {
    /// The aggregate with all its elements; None for an attribute.
    fn into_value(self) -> Option<Value> {
        match self.kind {
            Kind::Array => Some(Value::Array(self.items)),
            Kind::Set => Some(Value::Set(self.items)),
            Kind::Push => Some(Value::Push(self.items)),
            Kind::Map => {
                let mut pairs = Vec::with_capacity(self.items.len() / 2);
                let mut items = self.items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Some(Value::Map(pairs))
            }
            Kind::Attribute => None,
        }
    }
}
