//! Reads sorted sets: ZRANGE by rank.
//!
//! Not ZSCAN: ranks give each member once, in an order that is the same on every server, so that a try can go on
//! from an earlier one even when the source was restarted; and a target takes members in the order of
//! their scores faster than in any other.

use bytes::{Bytes, BytesMut};
use keyhaul_client::{ClientError, Page, ReadConnection};
use keyhaul_resp::{Token, encode};

use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::scan::hold;
use crate::bigkey::sentry::Sentry;
use crate::bigkey::sink::Sink;
use crate::bigkey::{Broken, ELEMENT_HELD_MAX};
use crate::source::stored::Spool;

const ZADD: Words = &[b"ZADD"];
const ZREM: Words = &[b"ZREM"];

/// Longer than a member of a small sorted set (`zset-max-listpack-value`, 64 unless changed), bytes.
const LARGE_MEMBER_BYTES: usize = 16 * 1024;

/// Reads a sorted set.
pub(crate) struct RankReader<'a> {
    pub connection: &'a mut ReadConnection,
    pub sentry: &'a mut Sentry,
    pub key: &'a [u8],
    /// Members, by ZCARD.
    pub length: u64,
    /// What a member takes, as far as the size of the whole tells, bytes.
    pub mean_bytes: u64,
    /// The chunk that is being filled holds a score of -0.
    pub has_negative_zero: bool,
}

impl RankReader<'_> {
    /// Reads all members into the sink.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn run(mut self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let mut asked = self.ask(0, sink).await?;
        loop {
            let (members, is_nested) = self.page_head().await?;
            let upto = asked;
            if upto < self.length {
                // The source works on the next page while this one is taken in.
                asked = self.ask(upto, sink).await?;
            }
            for _ in 0..members {
                self.member(sink, is_nested).await?;
                if sink.is_full() {
                    self.end_chunk(sink).await?;
                }
            }
            self.sentry.look(self.connection).await?;
            if upto >= self.length {
                return self.end_chunk(sink).await;
            }
        }
    }

    /// Asks for the members from a rank on; returns the rank where the page ends.
    async fn ask(&mut self, first: u64, sink: &mut Sink<'_>) -> Result<u64, Broken> {
        let count = sink.page_count(self.mean_bytes);
        let page = Page::Ranks { first, count };
        let asked = self.connection.ask_page(self.key, page).await;
        asked.map_err(Broken::Source)?;
        Ok(first + count)
    }

    /// Number of members, and whether each comes with its score as a pair (RESP3).
    async fn page_head(&mut self) -> Result<(u64, bool), Broken> {
        let is_resp3 = self.connection.greeting().resp3;
        match self.token().await? {
            Token::Array(count) if is_resp3 => Ok((count, true)),
            Token::Array(count) => Ok((count / 2, false)),
            _ => Err(self.unexpected()),
        }
    }

    /// One member: ZADD takes the score first, which comes last.
    async fn member(&mut self, sink: &mut Sink<'_>, is_nested: bool) -> Result<(), Broken> {
        if is_nested && self.token().await? != Token::Array(2) {
            return Err(self.unexpected());
        }
        match self.token().await? {
            Token::Bulk(member) => {
                self.score(sink.args()).await?;
                encode::bulk(sink.args(), &member);
            }
            Token::BulkStart(bytes) if bytes <= ELEMENT_HELD_MAX => {
                sink.admit(bytes)?;
                let mut member = BytesMut::new();
                hold(self.connection, &mut member, bytes).await?;
                self.score(sink.args()).await?;
                sink.args().extend_from_slice(&member);
            }
            Token::BulkStart(bytes) => return self.passage(sink, bytes).await,
            _ => return Err(self.unexpected()),
        }
        sink.count(1);
        Ok(())
    }

    /// A member that is too long to be held lies in a temporary file until its score is known.
    async fn passage(&mut self, sink: &mut Sink<'_>, bytes: u64) -> Result<(), Broken> {
        const PART_BYTES: usize = 256 * 1024;
        sink.admit(bytes)?;
        let mut spool = Spool::new();
        loop {
            match self.token().await? {
                Token::BulkPart(part) => spool.write(part).await,
                Token::BulkEnd => break,
                _ => return Err(self.unexpected()),
            }
        }
        let mut head = BytesMut::new();
        self.score(&mut head).await?;
        encode::bulk_header(&mut head, bytes);
        let stored = spool.finish().await.map_err(Broken::Refused)?;
        self.end_chunk(sink).await?;
        sink.open_passage(ZADD, 2, &head).await?;
        let mut at = 0;
        while at < bytes {
            let part: Bytes = stored
                .read_at(at, PART_BYTES)
                .await
                .map_err(|e| Broken::Refused(format!("its temporary file cannot be read: {e}")))?;
            at += part.len() as u64;
            sink.pass_shared(part).await?;
        }
        sink.pass(b"\r\n").await?;
        sink.close_passage(1, None).await
    }

    /// Reads a score and appends it as a text that means the same number, bit by bit.
    async fn score(&mut self, output: &mut BytesMut) -> Result<(), Broken> {
        match self.token().await? {
            Token::Double(score) => {
                self.has_negative_zero |= score == 0.0 && score.is_sign_negative();
                put_score(output, score);
                Ok(())
            }
            Token::Int(score) => {
                encode::bulk_int(output, score);
                Ok(())
            }
            Token::Bulk(text) => {
                self.has_negative_zero |= text == "-0";
                encode::bulk(output, &text);
                Ok(())
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Ends the command and sends the chunk.
    async fn end_chunk(&mut self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let has_negative_zero = std::mem::take(&mut self.has_negative_zero);
        if let Ok(count @ 1..) = usize::try_from(sink.in_chunk()) {
            end_members(sink.chunk(), count, has_negative_zero);
        }
        sink.flush().await
    }

    async fn token(&mut self) -> Result<Token, Broken> {
        self.connection.next_token().await.map_err(Broken::Source)
    }

    fn unexpected(&self) -> Broken {
        let error: ClientError = self.connection.unexpected("ZRANGE");
        Broken::Source(error)
    }
}

/// Ends the command with so many members.
///
/// A small sorted set makes 0 of -0. One that is to hold a -0 is made large first, by a member that is
/// longer than any that small ones take, and goes again.
pub(super) fn end_members(chunk: &mut Chunk, members: usize, has_negative_zero: bool) {
    chunk.end_command(ZADD, members * 2);
    if has_negative_zero {
        let large = vec![0; LARGE_MEMBER_BYTES];
        let mut negative = std::mem::take(chunk);
        chunk.command(ZADD, &[b"0", &large]);
        chunk.append(&mut negative);
        chunk.command(ZREM, &[&large]);
    }
}

/// Appends a score as a text that means the same number, bit by bit.
pub(super) fn put_score(output: &mut BytesMut, score: f64) {
    /// Whole numbers up to here are the same as integers.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let is_whole = score.fract() == 0.0 && score.abs() <= WHOLE_MAX;
    if is_whole && !(score == 0.0 && score.is_sign_negative()) {
        return encode::bulk_int(output, score as i64);
    }
    encode::bulk(output, ryu::Buffer::new().format(score).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_the_same_number_as_text() {
        let scores = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            1.5,
            0.1 + 0.2,
            1e300,
            -1e-320,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            9_007_199_254_740_993.0,
            123_456_789_012_345_680.0,
        ];
        for score in scores {
            let mut output = BytesMut::new();
            put_score(&mut output, score);
            let text = String::from_utf8(output.to_vec()).unwrap();
            let text = text.split("\r\n").nth(1).unwrap();
            let read: f64 = text.parse().unwrap();
            assert_eq!(read.to_bits(), score.to_bits(), "{text}");
        }
    }
}
