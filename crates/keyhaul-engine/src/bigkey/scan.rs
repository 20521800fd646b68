//! Reads hashes and sets: HSCAN, SSCAN.
//!
//! A page may be longer than asked for, as small encodings come whole, and an element may come twice while the
//! table grows; both do no harm. When fields expire is asked for on a second connection, since the first has a
//! page under way; both see the same value while it is not written.

use bytes::BytesMut;
use keyhaul_client::{ClientError, Page, ReadConnection, ValueKind};
use keyhaul_resp::{Token, encode};

use crate::bigkey::chunk::Words;
use crate::bigkey::sentry::Sentry;
use crate::bigkey::sink::Sink;
use crate::bigkey::{Abilities, Broken, ELEMENT_HELD_MAX};

const HSET: Words = &[b"HSET"];
const SADD: Words = &[b"SADD"];
const HDEL: Words = &[b"HDEL"];
const HPEXPIREAT: Words = &[b"HPEXPIREAT"];

/// Reads a hash or a set.
pub(crate) struct ScanReader<'a> {
    pub connection: &'a mut ReadConnection,
    pub sentry: &'a mut Sentry,
    /// For the expiries of fields; `None`: the source does not know such.
    pub side: Option<&'a mut ReadConnection>,
    pub kind: ValueKind,
    pub key: &'a [u8],
    pub abilities: Abilities,
    /// What an element takes, as far as the size of the whole tells, bytes.
    pub mean_bytes: u64,
}

impl ScanReader<'_> {
    /// Reads all elements into the sink.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn run(mut self, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let mut fields = Fields::default();
        let mut cursor = 0;
        self.ask(cursor, sink).await?;
        loop {
            let elements;
            (cursor, elements) = self.page_head().await?;
            if cursor != 0 {
                // The source works on the next page while this one is taken in.
                self.ask(cursor, sink).await?;
            }
            for _ in 0..elements {
                self.element(sink, &mut fields).await?;
                if sink.is_full() {
                    self.end_chunk(sink, &mut fields).await?;
                }
            }
            self.sentry.look(self.connection).await?;
            if cursor == 0 {
                return self.end_chunk(sink, &mut fields).await;
            }
        }
    }

    async fn ask(&mut self, cursor: u64, sink: &mut Sink<'_>) -> Result<(), Broken> {
        let count = sink.page_count(self.mean_bytes);
        let kind = self.kind;
        let page = Page::Scan {
            kind,
            cursor,
            count,
        };
        let asked = self.connection.ask_page(self.key, page).await;
        asked.map_err(Broken::Source)
    }

    /// Cursor and number of elements.
    async fn page_head(&mut self) -> Result<(u64, u64), Broken> {
        let mut token = async || self.connection.next_token().await.map_err(Broken::Source);
        if let Token::Array(2) = token().await?
            && let Token::Bulk(cursor) = token().await?
            && let Token::Array(count) = token().await?
            && let Some(cursor) = std::str::from_utf8(&cursor)
                .ok()
                .and_then(|c| c.parse().ok())
        {
            return Ok((cursor, count / self.arg_count() as u64));
        }
        Err(Broken::Source(self.connection.unexpected("HSCAN or SSCAN")))
    }

    fn words(&self) -> Words {
        match self.kind {
            ValueKind::Hash => HSET,
            _ => SADD,
        }
    }

    /// Arguments of one element.
    fn arg_count(&self) -> usize {
        match self.kind {
            ValueKind::Hash => 2,
            _ => 1,
        }
    }

    async fn element(&mut self, sink: &mut Sink<'_>, fields: &mut Fields) -> Result<(), Broken> {
        let begin = sink.args().len();
        for index in 0..self.arg_count() {
            match self.connection.next_token().await.map_err(Broken::Source)? {
                Token::Bulk(bytes) => encode::bulk(sink.args(), &bytes),
                Token::BulkStart(bytes) => {
                    sink.admit(bytes)?;
                    // The name of a field is needed whole where it may expire.
                    let is_name = index == 0 && self.side.is_some();
                    if bytes > ELEMENT_HELD_MAX && !is_name {
                        return self.passage(sink, fields, begin, index, bytes).await;
                    }
                    hold(self.connection, sink.args(), bytes).await?;
                }
                _ => return Err(Broken::Source(self.unexpected())),
            }
            if index == 0 && self.side.is_some() {
                fields.push(sink.args().get(begin..).unwrap_or_default());
            }
        }
        sink.count(1);
        Ok(())
    }

    /// Sends an element through of which argument `index` is too long to be held.
    async fn passage(
        &mut self,
        sink: &mut Sink<'_>,
        fields: &mut Fields,
        begin: usize,
        index: usize,
        bytes: u64,
    ) -> Result<(), Broken> {
        let prefix = sink.args().split_off(begin);
        let mut own = Fields::default();
        if index > 0 && self.side.is_some() {
            own = fields.split_last();
        }
        self.end_chunk(sink, fields).await?;
        let (words, arg_count) = (self.words(), self.arg_count());
        sink.open_passage(words, arg_count, &prefix).await?;
        pass(self.connection, sink, bytes).await?;
        for _ in index + 1..arg_count {
            match self.connection.next_token().await.map_err(Broken::Source)? {
                Token::Bulk(bytes) => {
                    let mut arg = BytesMut::new();
                    encode::bulk(&mut arg, &bytes);
                    sink.pass(&arg).await?;
                }
                Token::BulkStart(bytes) => {
                    sink.admit(bytes)?;
                    pass(self.connection, sink, bytes).await?;
                }
                _ => return Err(Broken::Source(self.unexpected())),
            }
        }
        sink.close_passage(1, None).await?;
        *fields = own;
        Ok(())
    }

    /// Ends the command, asks when its fields expire, and sends the chunk.
    async fn end_chunk(&mut self, sink: &mut Sink<'_>, fields: &mut Fields) -> Result<(), Broken> {
        let count = usize::try_from(sink.in_chunk()).unwrap_or(usize::MAX);
        if count > 0 {
            let (words, arg_count) = (self.words(), count * self.arg_count());
            sink.chunk().end_command(words, arg_count);
        }
        if !fields.ends.is_empty() {
            sink.begin_about();
            self.expiries(sink, fields).await?;
            *fields = Fields::default();
        }
        sink.flush().await
    }

    async fn expiries(&mut self, sink: &mut Sink<'_>, fields: &Fields) -> Result<(), Broken> {
        let Some(side) = &mut self.side else {
            return Ok(());
        };
        let asked = side.ask_field_expiries(self.key, &fields.names, fields.ends.len());
        asked.await.map_err(Broken::Source)?;
        match side.next_token().await.map_err(Broken::Source)? {
            Token::Array(count) if count == fields.ends.len() as u64 => {}
            _ => return Err(Broken::Source(side.unexpected("HPEXPIRETIME"))),
        }
        let mut begin = 0;
        for end in &fields.ends {
            let name = fields.names.get(begin..*end).unwrap_or_default();
            begin = *end;
            let at = match side.next_token().await.map_err(Broken::Source)? {
                Token::Int(at) => at,
                _ => return Err(Broken::Source(side.unexpected("HPEXPIRETIME"))),
            };
            match at {
                // It expired since the page was read.
                -2 => {
                    sink.builder.expiries.add(0);
                    sink.args().extend_from_slice(name);
                    sink.chunk().end_command(HDEL, 1);
                }
                at if at < 0 => {}
                _ if self.abilities.may_drop_field_expiry
                    && !self.abilities.target_field_expiry => {}
                _ if !self.abilities.target_field_expiry => {
                    let reason = keyhaul_rdb::Refusal::FieldExpiry.to_string();
                    return Err(Broken::Refused(reason));
                }
                at => {
                    sink.builder.expiries.add(at);
                    encode::bulk_int(sink.args(), at);
                    encode::bulk(sink.args(), b"FIELDS");
                    encode::bulk(sink.args(), b"1");
                    sink.args().extend_from_slice(name);
                    sink.chunk().end_command(HPEXPIREAT, 4);
                }
            }
        }
        Ok(())
    }

    fn unexpected(&self) -> ClientError {
        self.connection.unexpected("HSCAN or SSCAN")
    }
}

/// Names of fields, as bulk strings.
#[derive(Debug, Default)]
struct Fields {
    names: BytesMut,
    ends: Vec<usize>,
}

impl Fields {
    fn push(&mut self, name: &[u8]) {
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len());
    }

    /// Takes the last one off.
    fn split_last(&mut self) -> Self {
        self.ends.pop();
        let begin = self.ends.last().copied().unwrap_or(0);
        let names = self.names.split_off(begin);
        let ends = vec![names.len()];
        Self { names, ends }
    }
}

/// Takes in a bulk string that comes in parts.
pub(crate) async fn hold(
    connection: &mut ReadConnection,
    output: &mut BytesMut,
    bytes: u64,
) -> Result<(), Broken> {
    encode::bulk_header(output, bytes);
    loop {
        match connection.next_token().await.map_err(Broken::Source)? {
            Token::BulkPart(part) => output.extend_from_slice(&part),
            Token::BulkEnd => break,
            _ => return Err(Broken::Source(connection.unexpected("a bulk string"))),
        }
    }
    output.extend_from_slice(b"\r\n");
    Ok(())
}

/// Passes a bulk string on while it arrives.
pub(crate) async fn pass(
    connection: &mut ReadConnection,
    sink: &mut Sink<'_>,
    bytes: u64,
) -> Result<(), Broken> {
    let mut head = BytesMut::new();
    encode::bulk_header(&mut head, bytes);
    sink.pass(&head).await?;
    loop {
        match connection.next_token().await.map_err(Broken::Source)? {
            Token::BulkPart(part) => sink.pass_shared(part).await?,
            Token::BulkEnd => break,
            _ => return Err(Broken::Source(connection.unexpected("a bulk string"))),
        }
    }
    sink.pass(b"\r\n").await
}
