//! Entries of a stream, with stand-ins for those that are pending and not there any more.

use bytes::{Bytes, BytesMut};
use keyhaul_client::{Page, ReadConnection};
use keyhaul_resp::{Token, Value, encode};

use super::id::StreamId;
use super::pending::Vanished;
use crate::bigkey::chunk::Words;
use crate::bigkey::scan::{hold, pass};
use crate::bigkey::sink::Sink;
use crate::bigkey::{Broken, ELEMENT_HELD_MAX};

const XADD: Words = &[b"XADD"];
const HIGHEST: &[u8] = b"+";

/// Reads entries in the order of their ids, and goes on where it ended.
pub(super) struct EntryReader<'a> {
    key: &'a [u8],
    mean_bytes: u64,
    /// The lowest id that was not read; `None`: there can be no further one.
    next: Option<StreamId>,
}

impl<'a> EntryReader<'a> {
    pub(super) fn new(key: &'a [u8], mean_bytes: u64) -> Self {
        Self {
            key,
            mean_bytes,
            next: Some(StreamId::default()),
        }
    }

    /// The lowest id that was not read.
    pub(super) fn next_id(&self) -> Option<StreamId> {
        self.next
    }

    /// Reads until there are no more entries. The ids of stand-ins are appended to `stand_ins`.
    pub(super) async fn run(
        &mut self,
        connection: &mut ReadConnection,
        vanished: &mut Vanished<'_>,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broken> {
        while let Some(first) = self.next {
            let count = sink.page_count(self.mean_bytes);
            ask(connection, self.key, first, count).await?;
            let Token::Array(entries) = token(connection).await? else {
                return Err(unexpected(connection));
            };
            for _ in 0..entries {
                let (id, args) = head(connection).await?;
                self.stand_in(vanished, Some(id), stand_ins, sink).await?;
                entry(connection, sink, id, args).await?;
                self.next = id.next();
                if sink.is_full() {
                    sink.flush().await?;
                }
            }
            if entries == 0 {
                break;
            }
        }
        self.stand_in(vanished, None, stand_ins, sink).await
    }

    /// Takes entries that were read already, and stand-ins for `vanished`, which are in their order.
    pub(super) async fn take(
        &mut self,
        entries: &Value,
        vanished: Vec<StreamId>,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broken> {
        let mut vanished = vanished.into_iter().peekable();
        for entry in entries.as_list().unwrap_or_default() {
            let (id, args) = parse(entry).ok_or(Broken::Written)?;
            while let Some(gone) = vanished.next_if(|gone| *gone < id) {
                self.put_stand_in(gone, stand_ins, sink).await?;
            }
            vanished.next_if_eq(&id);
            let text = id.to_string();
            let mut all: Vec<&[u8]> = vec![text.as_bytes()];
            all.extend(args.iter().map(|arg| arg.as_ref()));
            sink.chunk().command(XADD, &all);
            sink.chunk().last_id = Some(text);
            sink.count(1);
            self.next = id.next();
            if sink.is_full() {
                sink.flush().await?;
            }
        }
        for gone in vanished {
            self.put_stand_in(gone, stand_ins, sink).await?;
        }
        Ok(())
    }

    async fn put_stand_in(
        &mut self,
        gone: StreamId,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broken> {
        let text = gone.to_string();
        let chunk = sink.chunk();
        chunk.command(XADD, &[text.as_bytes(), b"", b""]);
        chunk.last_id = Some(text);
        sink.count(1);
        stand_ins.push(gone);
        self.next = self.next.max(gone.next());
        if sink.is_full() {
            sink.flush().await?;
        }
        Ok(())
    }

    /// Puts entries in the place of those that are pending below `id` and were not read.
    async fn stand_in(
        &mut self,
        vanished: &mut Vanished<'_>,
        id: Option<StreamId>,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broken> {
        while let Some(gone) = vanished.below(id).await? {
            self.put_stand_in(gone, stand_ins, sink).await?;
        }
        Ok(())
    }
}

/// Appends the entry whose head was read.
async fn entry(
    connection: &mut ReadConnection,
    sink: &mut Sink<'_>,
    id: StreamId,
    args: u64,
) -> Result<(), Broken> {
    let id = id.to_string();
    let begin = sink.args().len();
    encode::bulk(sink.args(), id.as_bytes());
    let arg_count = usize::try_from(args).map_err(|_| unexpected(connection))? + 1;
    for index in 0..args {
        match token(connection).await? {
            Token::Bulk(bytes) => encode::bulk(sink.args(), &bytes),
            Token::BulkStart(bytes) if bytes <= ELEMENT_HELD_MAX => {
                sink.admit(bytes)?;
                hold(connection, sink.args(), bytes).await?;
            }
            Token::BulkStart(bytes) => {
                sink.admit(bytes)?;
                let prefix = sink.args().split_off(begin);
                sink.flush().await?;
                sink.open_passage(XADD, arg_count, &prefix).await?;
                pass(connection, sink, bytes).await?;
                rest(connection, sink, args - index - 1).await?;
                return sink.close_passage(1, Some(id)).await;
            }
            _ => return Err(unexpected(connection)),
        }
    }
    let chunk = sink.chunk();
    chunk.end_command(XADD, arg_count);
    chunk.last_id = Some(id);
    sink.count(1);
    Ok(())
}

/// Passes the rest of an entry through.
async fn rest(
    connection: &mut ReadConnection,
    sink: &mut Sink<'_>,
    args: u64,
) -> Result<(), Broken> {
    for _ in 0..args {
        match token(connection).await? {
            Token::Bulk(bytes) => {
                let mut arg = BytesMut::new();
                encode::bulk(&mut arg, &bytes);
                sink.pass(&arg).await?;
            }
            Token::BulkStart(bytes) => {
                sink.admit(bytes)?;
                pass(connection, sink, bytes).await?;
            }
            _ => return Err(unexpected(connection)),
        }
    }
    Ok(())
}

/// The id of the first entry; `None`: there is no entry.
pub(super) async fn first_id(
    connection: &mut ReadConnection,
    key: &[u8],
) -> Result<Option<StreamId>, Broken> {
    ask(connection, key, StreamId::default(), 1).await?;
    match token(connection).await? {
        Token::Array(0) => Ok(None),
        Token::Array(1) => {
            let (id, args) = head(connection).await?;
            for _ in 0..args {
                if let Token::BulkStart(_) = token(connection).await? {
                    while token(connection).await? != Token::BulkEnd {}
                }
            }
            Ok(Some(id))
        }
        _ => Err(unexpected(connection)),
    }
}

/// Whether all of these entries are there in full.
pub(super) fn are_whole(entries: &Value) -> bool {
    let entries = entries.as_list().unwrap_or_default();
    entries.iter().all(|entry| parse(entry).is_some())
}

/// Id, and names and values of an entry; `None`: one of them is too long to be held.
fn parse(entry: &Value) -> Option<(StreamId, Vec<Bytes>)> {
    let [id, args] = entry.as_list()? else {
        return None;
    };
    let args = args.as_list()?.iter().map(|arg| arg.as_bytes().cloned());
    Some((
        StreamId::parse(id.as_bytes()?)?,
        args.collect::<Option<_>>()?,
    ))
}

/// The id of the first of these entries.
pub(super) fn id_of_first(entries: &Value) -> Option<StreamId> {
    let first = entries.as_list()?.first()?;
    StreamId::parse(first.as_list()?.first()?.as_bytes()?)
}

async fn ask(
    connection: &mut ReadConnection,
    key: &[u8],
    first: StreamId,
    count: u64,
) -> Result<(), Broken> {
    let first = first.to_string();
    let page = Page::Entries {
        first: first.as_bytes(),
        last: HIGHEST,
        count,
    };
    connection.ask_page(key, page).await.map_err(Broken::Source)
}

/// Id of an entry and number of its names and values.
async fn head(connection: &mut ReadConnection) -> Result<(StreamId, u64), Broken> {
    if let Token::Array(2) = token(connection).await?
        && let Token::Bulk(id) = token(connection).await?
        && let Some(id) = StreamId::parse(&id)
        && let Token::Array(args) = token(connection).await?
    {
        return Ok((id, args));
    }
    Err(unexpected(connection))
}

async fn token(connection: &mut ReadConnection) -> Result<Token, Broken> {
    connection.next_token().await.map_err(Broken::Source)
}

fn unexpected(connection: &ReadConnection) -> Broken {
    Broken::Source(connection.unexpected("XRANGE"))
}
