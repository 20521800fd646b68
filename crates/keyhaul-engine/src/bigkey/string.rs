//! Reads strings: GETRANGE. Its elements are bytes. SETRANGE writes them where they belong, so that a part that
//! is written twice does no harm.
//!
//! A server makes room for a string by one command, and serves nobody else while it fills that with zeros: 0.4 s per
//! GB, some seconds where the machine has to find the memory first. So a long one goes as one SET, whose value the
//! server takes in as it arrives; but only once, for it cannot be gone on with, and only to a server without replicas
//! and append-only file, for which it would copy all of it at once, and with room to spare: after a long argument it
//! reserves as much for the next one, which counts against `maxmemory` until the link is closed.

use bytes::BytesMut;
use keyhaul_client::{Page, ReadConnection};
use keyhaul_resp::{Token, encode};
use xxhash_rust::xxh3::Xxh3;

use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::sentry::Sentry;
use crate::bigkey::sink::Sink;
use crate::bigkey::{Broken, staging};

const SET: Words = &[b"SET"];
const SETRANGE: Words = &[b"SETRANGE"];

/// Room for less is made in well below 0.1 s.
const LONG_BYTES: u64 = 128 * 1024 * 1024;

/// Reads a string.
pub(crate) struct StringReader<'a> {
    pub connection: &'a mut ReadConnection,
    pub sentry: &'a mut Sentry,
    pub key: &'a [u8],
    /// Its length, bytes.
    pub length: u64,
    /// Longest argument that the target takes, bytes.
    pub argument_max: u64,
    /// Of all bytes so far.
    pub digest: Xxh3,
    /// It may go as one SET.
    pub may_pass: bool,
}

impl StringReader<'_> {
    /// Reads all bytes into the sink; returns their digest.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn run(mut self, sink: &mut Sink<'_>) -> Result<u128, Broken> {
        if self.length == 0 {
            sink.chunk().command(SET, &[b""]);
            sink.flush().await?;
            return Ok(self.digest.digest128());
        }
        // A target may take no argument as long as a chunk.
        let page_bytes = (sink.limits.bytes as u64).min(self.argument_max);
        let passes = self.may_pass
            && self.length >= LONG_BYTES
            && !sink.is_comparing()
            && sink.builder.takes_at_once(self.length).await?;
        if passes {
            let mut head = BytesMut::new();
            encode::bulk_header(&mut head, self.length);
            sink.open_passage(SET, 3, &head).await?;
        } else if self.length > page_bytes && !sink.is_comparing() {
            self.make_room(sink).await?;
        }
        self.ask(0, page_bytes).await?;
        let mut first = 0;
        while first < self.length {
            let next = first + page_bytes;
            if next < self.length {
                // The source works on the next page while this one is taken in.
                self.ask(next, page_bytes).await?;
            }
            match passes {
                true => {
                    self.pass_page(sink, page_bytes.min(self.length - first))
                        .await?
                }
                false => self.page(sink, first).await?,
            }
            self.sentry.look(self.connection).await?;
            first = next;
        }
        if passes {
            let mut rest = BytesMut::from(&b"\r\n"[..]);
            encode::bulk(&mut rest, b"PX");
            encode::bulk(&mut rest, staging::LIFE_MS);
            sink.pass(&rest).await?;
            sink.close_passage(self.length, None).await?;
            sink.builder.drop_link();
        }
        Ok(self.digest.digest128())
    }

    /// Makes the string as long as it will be. A server that has to move a growing string again and again
    /// needs ten times as long for it.
    async fn make_room(&self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let mut chunk = Chunk::default();
        let last = (self.length - 1).to_string();
        chunk.command(SETRANGE, &[last.as_bytes(), b"\0"]);
        sink.builder.send(chunk).await
    }

    /// Passes a page on that must have so many bytes.
    async fn pass_page(&mut self, sink: &mut Sink<'_>, bytes: u64) -> Result<(), Broken> {
        let mut passed = 0;
        loop {
            let (part, is_last) = match self.token().await? {
                Token::Bulk(bytes) => (bytes, true),
                Token::BulkStart(found) if found == bytes => continue,
                Token::BulkPart(part) => (part, false),
                Token::BulkEnd => break,
                // Shorter than it was.
                _ => return Err(Broken::Noticed),
            };
            passed += part.len() as u64;
            if passed > bytes {
                return Err(Broken::Noticed);
            }
            self.digest.update(&part);
            sink.pass_shared(part).await?;
            if is_last {
                break;
            }
        }
        match passed == bytes {
            true => Ok(()),
            false => Err(Broken::Noticed),
        }
    }

    async fn ask(&mut self, first: u64, count: u64) -> Result<(), Broken> {
        let page = Page::Bytes { first, count };
        let asked = self.connection.ask_page(self.key, page).await;
        asked.map_err(Broken::Source)
    }

    async fn page(&mut self, sink: &mut Sink<'_>, first: u64) -> Result<(), Broken> {
        let unexpected =
            |connection: &ReadConnection| Broken::Source(connection.unexpected("GETRANGE"));
        encode::bulk(sink.args(), first.to_string().as_bytes());
        let bytes = match self.token().await? {
            Token::Bulk(bytes) => {
                self.digest.update(&bytes);
                encode::bulk(sink.args(), &bytes);
                bytes.len() as u64
            }
            Token::BulkStart(bytes) => {
                super::scan::hold(self.connection, sink.args(), bytes).await?;
                // What was taken in lies at the end, before its line end.
                let args = sink.args();
                let end = args.len().saturating_sub(2);
                let begin = usize::try_from(bytes).map_or(end, |bytes| end.saturating_sub(bytes));
                self.digest.update(args.get(begin..end).unwrap_or_default());
                bytes
            }
            _ => return Err(unexpected(self.connection)),
        };
        if bytes == 0 {
            // Shorter than it was.
            return Err(Broken::Noticed);
        }
        sink.chunk().end_command(SETRANGE, 2);
        sink.count(bytes);
        sink.flush().await
    }

    async fn token(&mut self) -> Result<Token, Broken> {
        self.connection.next_token().await.map_err(Broken::Source)
    }
}
