//! The decoder of one connection: tokens or values, as the caller asks.

use bytes::BytesMut;

use crate::error::DecodeError;
use crate::limits::Limits;
use crate::token::{Token, Tokenizer};
use crate::value::{Builder, Value};

/// Takes replies off a buffer that is filled from one connection.
///
/// The buffer must be the same one in each call, and between calls only be appended to, unless
/// [`Decoder::is_idle`] holds. After an error the connection is of no further use: it is not known where
/// the next reply begins.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    tokens: Tokenizer,
    builder: Builder,
}

impl Decoder {
    /// A decoder for a connection on which nothing was read yet.
    pub fn new(limits: Limits) -> Decoder {
        Decoder {
            limits,
            tokens: Tokenizer::new(),
            builder: Builder::default(),
        }
    }

    /// The next token, or None when more bytes are needed; the buffer keeps what is not decoded.
    ///
    /// Payload bytes are slices of the buffer, not copies. Not to be mixed with [`Decoder::value`] within
    /// one reply.
    ///
    /// # Errors
    /// The bytes are no RESP, or break a limit.
    #[inline]
    pub fn token(&mut self, buf: &mut BytesMut) -> Result<Option<Token>, DecodeError> {
        self.tokens
            .next(buf, self.limits.bulk_whole_max, &self.limits)
    }

    /// The next whole value, or None when more bytes are needed.
    ///
    /// State is kept between calls: an aggregate that arrives in pieces is not decoded again from its
    /// start. Bulk strings are gathered whole, whatever their length, up to
    /// [`Limits::value_bytes_max`] for the whole value. Attributes are skipped. A push comes as
    /// [`Value::Push`], between replies.
    ///
    /// # Errors
    /// The bytes are no RESP, or break a limit; [`DecodeError::MidBulk`] for a caller that mixes.
    pub fn value(&mut self, buf: &mut BytesMut) -> Result<Option<Value>, DecodeError> {
        loop {
            let whole_max = self.builder.payload_max(&self.limits);
            let token = match self.tokens.next(buf, whole_max, &self.limits) {
                Ok(Some(token)) => token,
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            };
            match self.builder.push(token, &self.limits) {
                Ok(None) => {}
                done => return done,
            }
        }
    }

    /// How many more bytes the bulk string or line at hand needs before a call can succeed; 0 when that is
    /// unknown. For the caller to reserve: never above [`Limits::bulk_whole_max`], whatever was announced.
    pub fn bytes_wanted(&self) -> usize {
        self.tokens.wanted()
    }

    /// No value and no token is half decoded. What [`Decoder::token`] gave out is not followed: the head
    /// of an aggregate is a whole token.
    pub fn is_idle(&self) -> bool {
        self.tokens.is_idle() && self.builder.is_idle()
    }
}
