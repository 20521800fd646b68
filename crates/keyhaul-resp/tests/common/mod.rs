//! What the tests of the decoder share: samples of every type, and ways to feed them.

#![allow(dead_code, reason = "each test binary uses its own part")]

use bytes::{Bytes, BytesMut};
use keyhaul_resp::{DecodeError, Decoder, Limits, Token, Value};

/// Replies as servers write them, each one whole. Those with a command beside them were captured from
/// Redis 7.0.15.
pub(crate) const REPLIES: &[&[u8]] = &[
    b"+OK\r\n",
    b"+QUEUED\r\n",
    b"+\r\n",
    b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n",
    b":0\r\n",
    b":-1\r\n",
    b":9223372036854775807\r\n",
    b":-9223372036854775808\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$0\r\n\r\n",
    b"*0\r\n",
    b"%0\r\n",
    b"~0\r\n",
    b"$5\r\na\r\n\0\xff\r\n",
    b"!21\r\nSYNTAX invalid syntax\r\n",
    // DEBUG PROTOCOL string | integer | double | null | array | set | map | verbatim | true | bignum
    b"$11\r\nHello World\r\n",
    b":12345\r\n",
    b",3.141\r\n",
    b"_\r\n",
    b"*3\r\n:0\r\n:1\r\n:2\r\n",
    b"~3\r\n:0\r\n:1\r\n:2\r\n",
    b"%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
    b"=29\r\ntxt:This is a verbatim\nstring\r\n",
    b"#t\r\n",
    b"(1234567999999999999999999999999999999\r\n",
    // DEBUG PROTOCOL attrib
    b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n\
      $39\r\nSome real reply following the attribute\r\n",
    // The push of CLIENT TRACKING ON BCAST after SET k, and after FLUSHALL
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
    b">2\r\n$10\r\ninvalidate\r\n_\r\n",
    // ZRANGE z 0 -1 WITHSCORES
    b"*3\r\n*2\r\n$1\r\no\r\n,-inf\r\n*2\r\n$1\r\nm\r\n,1.5\r\n*2\r\n$1\r\nn\r\n,inf\r\n",
    // HELLO 2 and HELLO 3
    b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n\
      $2\r\nid\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
      $7\r\nmodules\r\n*0\r\n",
    b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
      $2\r\nid\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
      $7\r\nmodules\r\n*0\r\n",
];

/// A payload or text of a test.
pub(crate) fn text(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// All tokens of `pieces`, which arrive one after the other.
///
/// # Errors
/// As the decoder.
pub(crate) fn tokens(pieces: &[&[u8]], limits: Limits) -> Result<Vec<Token>, DecodeError> {
    decode_all(pieces, limits, Decoder::token)
}

/// All values of `pieces`, which arrive one after the other.
///
/// # Errors
/// As the decoder.
pub(crate) fn values(pieces: &[&[u8]], limits: Limits) -> Result<Vec<Value>, DecodeError> {
    decode_all(pieces, limits, Decoder::value)
}

fn decode_all<T>(
    pieces: &[&[u8]],
    limits: Limits,
    mut next: impl FnMut(&mut Decoder, &mut BytesMut) -> Result<Option<T>, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut decoder = Decoder::new(limits);
    let mut buf = BytesMut::new();
    let mut all = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Some(item) = next(&mut decoder, &mut buf)? {
            all.push(item);
        }
        assert!(
            decoder.bytes_wanted() <= limits.bulk_whole_max,
            "wanted is bounded"
        );
    }
    Ok(all)
}

/// Parts joined to whole strings: how a long string is cut into parts depends on how it arrives.
pub(crate) fn join_parts(tokens: Vec<Token>) -> Vec<Token> {
    let mut joined = Vec::new();
    let mut parts: Option<Vec<u8>> = None;
    for token in tokens {
        match (token, &mut parts) {
            (Token::BulkStart(_), parts) => *parts = Some(Vec::new()),
            (Token::BulkPart(part), Some(whole)) => whole.extend_from_slice(&part),
            (Token::BulkEnd, parts) => joined.extend(parts.take().map(|b| Token::Bulk(b.into()))),
            (token, _) => joined.push(token),
        }
    }
    joined
}

/// A small generator of numbers that a seed determines (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// A generator; `seed` must not be 0.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits fit") % end.max(1)
    }
}
