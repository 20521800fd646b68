//! Reads the source: [`scan`] finds the keys of one primary, [`reader`] reads their payloads,
//! [`rounds`] sees to it that keys which move between nodes meanwhile are found all the same. [`records`]
//! reads RDB files and snapshots, that come by a [`feed`]. [`large`] and [`stored`] are the ways of values
//! that are too large to be held. [`track`] knows how far a scan has come for certain.

pub(crate) mod doubles;
pub(crate) mod feed;
mod gather;
pub(crate) mod large;
pub(crate) mod overflow;
pub(crate) mod reader;
pub(crate) mod records;
pub(crate) mod rounds;
pub(crate) mod scan;
pub(crate) mod sieve;
pub(crate) mod stored;
pub(crate) mod stray;
pub(crate) mod track;

use bytes::Bytes;

/// Keys to be read, all of one db.
#[derive(Debug, Default)]
pub(crate) struct KeyBatch {
    pub db: u32,
    pub keys: Vec<Bytes>,
    /// How often these keys were tried already.
    pub tries: u32,
    /// Held until they are settled.
    pub ticket: Option<track::Ticket>,
}

impl KeyBatch {
    /// All keys of it are settled, or others stand for them.
    pub(crate) fn settle(self) {
        if let Some(ticket) = self.ticket {
            ticket.settle();
        }
    }
}
