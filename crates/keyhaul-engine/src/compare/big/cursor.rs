//! Goes through a value whose elements have an order, so that two can be gone through in step.

use std::collections::VecDeque;

use keyhaul_client::{Page, ValueKind};
use keyhaul_rdb::StreamId;

use super::page::{Halt, PageReader};
use super::pending;
use super::stream::{ask_entries, entry_head};
use crate::compare::inside::stream::Entry;
use crate::compare::inside::text::Text;

/// What is held of one text, bytes: a page of long elements would be too much.
const TEXT_HELD_MAX: usize = 4096;

/// An element.
#[derive(Debug)]
pub(super) enum Piece {
    Item(Text),
    Scored(Text, f64),
    Entry(Entry),
}

/// Reads elements in their order.
pub(super) struct Cursor<'a> {
    reader: PageReader<'a>,
    kind: ValueKind,
    /// Index or rank of the next page.
    next: u64,
    /// The lowest id that was not read; `None`: there can be no further one.
    next_id: Option<StreamId>,
    ahead: VecDeque<Piece>,
    is_done: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(reader: PageReader<'a>, kind: ValueKind) -> Self {
        Self {
            reader,
            kind,
            next: 0,
            next_id: Some(StreamId::default()),
            ahead: VecDeque::new(),
            is_done: false,
        }
    }

    /// The next element, which stays the next one; `None`: the end.
    pub(super) async fn peek(&mut self) -> Result<Option<&Piece>, Halt> {
        if self.ahead.is_empty() && !self.is_done {
            let found = match self.kind {
                ValueKind::List => self.items().await?,
                ValueKind::SortedSet => self.ranks().await?,
                ValueKind::Stream => self.entries().await?,
                _ => 0,
            };
            self.reader.end_reply();
            self.is_done = found == 0;
        }
        Ok(self.ahead.front())
    }

    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Halt> {
        self.peek().await?;
        Ok(self.ahead.pop_front())
    }

    /// The reader, when no reply is under way.
    pub(super) fn reader(&mut self) -> &mut PageReader<'a> {
        &mut self.reader
    }

    /// The score of a member; `None` also where its name is too long to be asked for.
    pub(super) async fn score(&mut self, member: &Text) -> Result<Option<f64>, Halt> {
        let reader = &mut self.reader;
        match member.all() {
            Some(name) => Ok(reader.connection.score(reader.key, name).await?),
            None => Ok(None),
        }
    }

    async fn items(&mut self) -> Result<u64, Halt> {
        let (first, count) = (self.next, self.reader.page_count());
        self.reader.ask(Page::Items { first, count }).await?;
        let items = self.reader.array("LRANGE").await?;
        for _ in 0..items {
            let text = self.text().await?;
            self.push(Piece::Item(text));
        }
        self.next += items;
        Ok(items)
    }

    async fn ranks(&mut self) -> Result<u64, Halt> {
        let (first, count) = (self.next, self.reader.page_count());
        self.reader.ask(Page::Ranks { first, count }).await?;
        let (members, is_nested) = self.reader.ranks_head().await?;
        for _ in 0..members {
            if is_nested {
                self.reader.array("ZRANGE").await?;
            }
            let text = self.text().await?;
            let score = self.reader.score().await?;
            self.push(Piece::Scored(text, score));
        }
        self.next += members;
        Ok(members)
    }

    async fn entries(&mut self) -> Result<u64, Halt> {
        let Some(first) = self.next_id else {
            return Ok(0);
        };
        let entries = ask_entries(&mut self.reader, first).await?;
        for _ in 0..entries {
            let (id, args) = entry_head(&mut self.reader).await?;
            let mut fields = Vec::new();
            for _ in 0..args / 2 {
                let name = self.text().await?;
                fields.push((name, self.text().await?));
            }
            self.next_id = pending::next_id(id);
            self.push(Piece::Entry((id, fields)));
        }
        Ok(entries)
    }

    fn push(&mut self, piece: Piece) {
        self.reader.count(1);
        self.ahead.push_back(piece);
    }

    async fn text(&mut self) -> Result<Text, Halt> {
        let text = self.reader.held(TEXT_HELD_MAX).await?;
        text.ok_or_else(|| self.reader.unexpected("a bulk string"))
    }
}
