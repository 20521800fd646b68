//! Reads strings: GETRANGE. Its elements are bytes. SETRANGE writes them where they belong, so that a part that
//! is written twice does no harm.

use keyhaul_client::{Page, ReadConnection};
use keyhaul_resp::{Token, encode};
use xxhash_rust::xxh3::Xxh3;

use crate::bigkey::Broken;
use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::sentry::Sentry;
use crate::bigkey::sink::Sink;

const SET: Words = &[b"SET"];
const SETRANGE: Words = &[b"SETRANGE"];

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
        if self.length > page_bytes && !sink.is_comparing() {
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
            self.page(sink, first).await?;
            self.sentry.look(self.connection).await?;
            first = next;
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
