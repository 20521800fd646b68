//! Reads lists: LRANGE in windows of about a chunk's bytes. A server walks to the begin of each window, node by
//! node from the nearer end; windows of this size make that cheap beside the reading.

use keyhaul_client::{Page, ReadConnection};
use keyhaul_resp::{Token, encode};

use crate::bigkey::chunk::Words;
use crate::bigkey::scan::{hold, pass};
use crate::bigkey::sentry::Sentry;
use crate::bigkey::sink::Sink;
use crate::bigkey::{Broken, ELEMENT_HELD_MAX};

const RPUSH: Words = &[b"RPUSH"];

/// Reads a list.
pub(crate) struct ListReader<'a> {
    pub connection: &'a mut ReadConnection,
    pub sentry: &'a mut Sentry,
    pub key: &'a [u8],
    /// Items, by LLEN.
    pub length: u64,
    /// What an item takes, as far as the size of the whole tells, bytes.
    pub mean_bytes: u64,
}

impl ListReader<'_> {
    /// Reads all items into the sink.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn run(mut self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let mut asked = self.ask(0, sink).await?;
        loop {
            let Token::Array(items) = self.token().await? else {
                return Err(self.unexpected());
            };
            let upto = asked;
            if upto < self.length {
                // The source works on the next page while this one is taken in.
                asked = self.ask(upto, sink).await?;
            }
            for _ in 0..items {
                self.item(sink).await?;
                if sink.is_full() {
                    end_chunk(sink).await?;
                }
            }
            self.sentry.look(self.connection).await?;
            if upto >= self.length {
                return end_chunk(sink).await;
            }
        }
    }

    /// Asks for the items from an index on; returns the index where the page ends.
    async fn ask(&mut self, first: u64, sink: &mut Sink<'_>) -> Result<u64, Broken> {
        let count = sink.page_count(self.mean_bytes);
        let page = Page::Items { first, count };
        let asked = self.connection.ask_page(self.key, page).await;
        asked.map_err(Broken::Source)?;
        Ok(first + count)
    }

    async fn item(&mut self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        match self.token().await? {
            Token::Bulk(item) => encode::bulk(sink.args(), &item),
            Token::BulkStart(bytes) if bytes <= ELEMENT_HELD_MAX => {
                sink.admit(bytes)?;
                hold(self.connection, sink.args(), bytes).await?;
            }
            Token::BulkStart(bytes) => {
                sink.admit(bytes)?;
                end_chunk(sink).await?;
                sink.open_passage(RPUSH, 1, b"").await?;
                pass(self.connection, sink, bytes).await?;
                return sink.close_passage(1, None).await;
            }
            _ => return Err(self.unexpected()),
        }
        sink.count(1);
        Ok(())
    }

    async fn token(&mut self) -> Result<Token, Broken> {
        self.connection.next_token().await.map_err(Broken::Source)
    }

    fn unexpected(&self) -> Broken {
        Broken::Source(self.connection.unexpected("LRANGE"))
    }
}

async fn end_chunk(sink: &mut Sink<'_>) -> Result<(), Broken> {
    if let Ok(count @ 1..) = usize::try_from(sink.in_chunk()) {
        sink.chunk().end_command(RPUSH, count);
    }
    sink.flush().await
}
