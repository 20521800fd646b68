//! Asks for pages of one value and takes them in.

use bytes::BytesMut;
use keyhaul_client::{Action, ClientError, Page, ReadConnection, ValueKind};
use keyhaul_resp::{Token, encode};
use tokio_util::sync::CancellationToken;

use super::hash::Feed;
use crate::bigkey::ChunkLimits;
use crate::compare::inside::text::{Text, TextBuilder};
use crate::progress::BigKeyProgress;
use crate::throttle::Throttle;

/// Why reading did not come to its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// The value is not what it was, or was written in a way that makes what was read of no use.
    Written,
    Stopped,
    Client(ClientError),
}

impl From<ClientError> for Halt {
    fn from(error: ClientError) -> Self {
        // The key is gone, or of another type.
        if let ClientError::Server { error: answer, .. } = &error
            && (matches!(answer.code(), b"WRONGTYPE" | b"NOGROUP")
                || answer.mentions("no such key"))
        {
            return Self::Written;
        }
        Self::Client(error)
    }
}

/// What a reading is told and tells on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace<'a> {
    pub progress: &'a BigKeyProgress,
    pub throttle: &'a Throttle,
    pub stop: &'a CancellationToken,
}

/// Reads one value.
pub(super) struct PageReader<'a> {
    pub connection: &'a mut ReadConnection,
    pub key: &'a [u8],
    /// Elements, as the server said at first; bytes of a string.
    pub length: u64,
    pub pace: Option<Pace<'a>>,
    limits: ChunkLimits,
    /// What an element takes, as far as the size of the whole tells, bytes.
    mean_bytes: u64,
    /// Replies that are under way.
    outstanding: u32,
    elements: u64,
    bytes: u64,
    /// Elements and bytes when the last page was asked for, and how many elements that was for.
    page_from: (u64, u64),
    page_asked: u64,
    /// Bytes that were paid for.
    paid_bytes: u64,
}

impl<'a> PageReader<'a> {
    /// Asks how large the value is.
    pub(super) async fn begin(
        connection: &'a mut ReadConnection,
        key: &'a [u8],
        kind: ValueKind,
        length: u64,
    ) -> Result<Self, Halt> {
        let name = bytes::Bytes::copy_from_slice(key);
        let memory_bytes = match connection.memory_usage(&[name]).await {
            Ok(sizes) => sizes.first().copied().unwrap_or(0),
            Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => 0,
            Err(e) => return Err(e.into()),
        };
        Ok(Self {
            connection,
            key,
            length,
            pace: None,
            limits: ChunkLimits::new(None).of(kind),
            mean_bytes: memory_bytes / length.max(1),
            outstanding: 0,
            elements: 0,
            bytes: 0,
            page_from: (0, 0),
            page_asked: 0,
            paid_bytes: 0,
        })
    }

    /// Elements that were counted.
    pub(super) fn elements(&self) -> u64 {
        self.elements
    }

    /// Counts elements.
    pub(super) fn count(&mut self, elements: u64) {
        self.elements += elements;
    }

    /// Elements that were counted turned out to be none.
    pub(super) fn uncount(&mut self, elements: u64) {
        self.elements = self.elements.saturating_sub(elements);
    }

    /// Bytes of a page of a string.
    pub(super) fn page_bytes(&self) -> u64 {
        self.limits.bytes as u64
    }

    /// How many elements the next page is to have. A page is short at first, as nobody knows how long elements are,
    /// and follows what the last one turned out to be.
    pub(super) fn page_count(&mut self) -> u64 {
        const FIRST_MAX: u64 = 100;
        const GROWTH_MAX: u64 = 4;
        let elements = self.elements.saturating_sub(self.page_from.0);
        let last = (self.bytes - self.page_from.1) / elements.max(1);
        let whole = self.bytes / self.elements.max(1);
        let mean = self.mean_bytes.max(whole).max(last).max(1);
        self.page_from = (self.elements, self.bytes);
        let most = match self.page_asked {
            0 => FIRST_MAX,
            asked => asked.saturating_mul(GROWTH_MAX),
        };
        let fitting = self.limits.bytes as u64 / mean;
        self.page_asked = fitting.clamp(1, self.limits.elements.min(most));
        self.page_asked
    }

    pub(super) async fn ask(&mut self, page: Page<'_>) -> Result<(), Halt> {
        self.connection.ask_page(self.key, page).await?;
        self.outstanding += 1;
        Ok(())
    }

    /// Asks when fields expire; `names` are so many bulk strings.
    pub(super) async fn ask_expiries(
        &mut self,
        names: &BytesMut,
        count: usize,
    ) -> Result<(), Halt> {
        let asked = self.connection.ask_field_expiries(self.key, names, count);
        asked.await?;
        self.outstanding += 1;
        Ok(())
    }

    /// A reply has come to its end.
    pub(super) fn end_reply(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// A page has come to its end: tells how far it is, waits as long as the rate limit wants it.
    pub(super) async fn end_page(&mut self) -> Result<(), Halt> {
        let Some(pace) = self.pace else {
            return Ok(());
        };
        pace.progress.set(self.elements, self.bytes);
        let bytes = self.bytes - self.paid_bytes;
        self.paid_bytes = self.bytes;
        tokio::select! {
            biased;
            () = pace.stop.cancelled() => Err(Halt::Stopped),
            () = pace.throttle.pass(bytes) => Ok(()),
        }
    }

    /// Reads what is under way after a refusal, so that the connection can be used further.
    pub(super) async fn drain(&mut self) -> Result<(), Halt> {
        while self.outstanding > 0 {
            self.outstanding -= 1;
            match self.connection.next_reply().await {
                Ok(_) | Err(ClientError::Server { .. }) => {}
                Err(e) => return Err(Halt::Client(e)),
            }
        }
        Ok(())
    }

    pub(super) async fn token(&mut self) -> Result<Token, Halt> {
        let token = self.connection.next_token().await;
        if let Err(ClientError::Server { .. }) = &token {
            self.end_reply();
        }
        Ok(token?)
    }

    /// The head of an array.
    pub(super) async fn array(&mut self, command: &'static str) -> Result<u64, Halt> {
        match self.token().await? {
            Token::Array(count) => Ok(count),
            _ => Err(self.unexpected(command)),
        }
    }

    /// Cursor and number of elements of a page of HSCAN or SSCAN.
    pub(super) async fn scan_head(&mut self) -> Result<(u64, u64), Halt> {
        if self.array("HSCAN or SSCAN").await? == 2
            && let Token::Bulk(cursor) = self.token().await?
            && let Ok(cursor) = std::str::from_utf8(&cursor)
            && let Ok(cursor) = cursor.parse()
        {
            return Ok((cursor, self.array("HSCAN or SSCAN").await?));
        }
        Err(self.unexpected("HSCAN or SSCAN"))
    }

    /// Members of a page of ZRANGE, and whether each comes with its score as a pair (RESP3).
    pub(super) async fn ranks_head(&mut self) -> Result<(u64, bool), Halt> {
        let count = self.array("ZRANGE").await?;
        match self.connection.greeting().resp3 {
            true => Ok((count, true)),
            false => Ok((count / 2, false)),
        }
    }

    pub(super) async fn score(&mut self) -> Result<f64, Halt> {
        match self.token().await? {
            Token::Double(score) => Ok(score),
            #[allow(
                clippy::cast_precision_loss,
                reason = "a server tells as integers only scores that are such"
            )]
            Token::Int(score) => Ok(score as f64),
            Token::Bulk(text) => {
                let text = std::str::from_utf8(&text).ok();
                let score = text.and_then(|text| text.parse().ok());
                score.ok_or_else(|| self.unexpected("ZRANGE"))
            }
            _ => Err(self.unexpected("ZRANGE")),
        }
    }

    /// Takes a text in; `name`: what it is appended to as a bulk string.
    pub(super) async fn text(
        &mut self,
        letter: u8,
        feed: &mut (impl Feed + Send),
        mut name: Option<&mut BytesMut>,
    ) -> Result<(), Halt> {
        match self.token().await? {
            Token::Bulk(text) => {
                feed.text(letter, &text);
                self.bytes += text.len() as u64;
                if let Some(name) = name {
                    encode::bulk(name, &text);
                }
                return Ok(());
            }
            Token::BulkStart(bytes) => {
                feed.text_head(letter, bytes);
                self.bytes += bytes;
                if let Some(name) = &mut name {
                    encode::bulk_header(name, bytes);
                }
            }
            _ => return Err(self.unexpected("a bulk string")),
        }
        while let Some(part) = self.part().await? {
            feed.put(&part);
            if let Some(name) = &mut name {
                name.extend_from_slice(&part);
            }
        }
        if let Some(name) = name {
            name.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Takes bytes in; returns how many.
    pub(super) async fn raw(&mut self, feed: &mut (impl Feed + Send)) -> Result<u64, Halt> {
        let bytes = match self.token().await? {
            Token::Bulk(text) => {
                feed.put(&text);
                text.len() as u64
            }
            Token::BulkStart(bytes) => {
                while let Some(part) = self.part().await? {
                    feed.put(&part);
                }
                bytes
            }
            _ => return Err(self.unexpected("GETRANGE")),
        };
        self.bytes += bytes;
        Ok(bytes)
    }

    /// A text of which at most so many bytes are held; `None`: null.
    pub(super) async fn held(&mut self, held_max: usize) -> Result<Option<Text>, Halt> {
        let mut text = TextBuilder::new(held_max);
        match self.token().await? {
            Token::Bulk(bytes) => {
                text.push(&bytes);
                self.bytes += bytes.len() as u64;
            }
            Token::BulkStart(bytes) => {
                self.bytes += bytes;
                while let Some(part) = self.part().await? {
                    text.push(&part);
                }
            }
            Token::Null => return Ok(None),
            _ => return Err(self.unexpected("a bulk string")),
        }
        Ok(Some(text.finish()))
    }

    async fn part(&mut self) -> Result<Option<bytes::Bytes>, Halt> {
        match self.token().await? {
            Token::BulkPart(part) => Ok(Some(part)),
            Token::BulkEnd => Ok(None),
            _ => Err(self.unexpected("a bulk string")),
        }
    }

    pub(super) fn unexpected(&self, command: &'static str) -> Halt {
        Halt::Client(self.connection.unexpected(command))
    }
}
