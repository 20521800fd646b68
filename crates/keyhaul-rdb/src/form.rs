//! The forms in which values lie in RDB files and payloads: one for each type byte and dialect, and
//! the grammar of each as data.

use crate::key_type::KeyType;

/// The first RDB version of Valkey's own counting; those from 12 to 79 are Redis's alone.
pub(crate) const VALKEY_VERSION_FIRST: u16 = 80;

/// A form of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the data structures")]
pub enum Form {
    String,
    List,
    Set,
    /// Scores as text (RDB 1 to 7).
    ZsetText,
    Hash,
    /// Scores as 8 bytes (RDB >= 8).
    Zset,
    /// Redis 4.0 release candidates; its length cannot be told.
    ModuleOld,
    Module,
    HashZipmap,
    ListZiplist,
    SetIntset,
    ZsetZiplist,
    HashZiplist,
    ListQuicklist,
    Stream,
    HashListpack,
    ZsetListpack,
    ListQuicklist2,
    /// With first id, deleted id, entries added, entries read (RDB 10).
    Stream2,
    SetListpack,
    /// With the active time of consumers (RDB 11).
    Stream3,
    /// Fields that expire, Redis 7.4 release candidates.
    HashExpiringOld,
    /// Fields that expire in a listpack, Redis 7.4 release candidates.
    HashListpackExpiringOld,
    /// Fields that expire (RDB 12, Redis 7.4).
    HashExpiring,
    /// Fields that expire in a listpack (RDB 12, Redis 7.4).
    HashListpackExpiring,
    /// Fields that expire as Valkey 9 writes them (RDB 80).
    HashExpiringValkey,
}

/// What an item of a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    // strings
    Value,
    Item,
    Member,
    Field,
    FieldValue,
    /// A ziplist, listpack, intset or zipmap: the form tells which.
    Packed,
    /// The first id of a stream's node, 16 bytes big endian.
    NodeId,
    GroupName,
    ConsumerName,
    // numbers
    Count,
    /// How an item of a quicklist is held: 1 plain, 2 packed.
    Container,
    /// 0: none; else as the form has it.
    FieldExpiry,
    StreamLength,
    LastIdMs,
    LastIdSeq,
    FirstIdMs,
    FirstIdSeq,
    DeletedIdMs,
    DeletedIdSeq,
    EntriesAdded,
    GroupIdMs,
    GroupIdSeq,
    EntriesRead,
    DeliveryCount,
    // of fixed length
    Score,
    /// The earliest of the fields' expiries, and the base of them all.
    MinExpiry,
    /// 8 bytes; -1: none.
    FieldExpiryFixed,
    PendingId,
    DeliveryTime,
    SeenTime,
    ActiveTime,
    OwnedId,
    // of their own kinds
    ScoreText,
    Module,
}

/// An item of a grammar.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Text(Role),
    /// A string that only makes sense as a whole.
    Packed,
    Number(Role),
    Fixed(Role, usize),
    /// One byte of length and that many of text; 253 to 255 stand for nan, inf and -inf alone.
    ScoreText,
    /// A count, and so many times what follows.
    Each(&'static [Op]),
    /// A module's value: id, then items that say what they are, to an end mark.
    Module,
}

use Op::{Each, Fixed, Number, Packed, Text};
use Role as R;

const STREAM_NODES: Op = Each(&[Text(R::NodeId), Packed]);
const PENDING: Op = Each(&[
    Fixed(R::PendingId, 16),
    Fixed(R::DeliveryTime, 8),
    Number(R::DeliveryCount),
]);
const OWNED: Op = Each(&[Fixed(R::OwnedId, 16)]);
const CONSUMERS: Op = Each(&[Text(R::ConsumerName), Fixed(R::SeenTime, 8), OWNED]);
const CONSUMERS_3: Op = Each(&[
    Text(R::ConsumerName),
    Fixed(R::SeenTime, 8),
    Fixed(R::ActiveTime, 8),
    OWNED,
]);

const STREAM: &[Op] = &[
    STREAM_NODES,
    Number(R::StreamLength),
    Number(R::LastIdMs),
    Number(R::LastIdSeq),
    Each(&[
        Text(R::GroupName),
        Number(R::GroupIdMs),
        Number(R::GroupIdSeq),
        PENDING,
        CONSUMERS,
    ]),
];

/// From Stream2 on.
const fn stream(groups: Op) -> [Op; 10] {
    [
        STREAM_NODES,
        Number(R::StreamLength),
        Number(R::LastIdMs),
        Number(R::LastIdSeq),
        Number(R::FirstIdMs),
        Number(R::FirstIdSeq),
        Number(R::DeletedIdMs),
        Number(R::DeletedIdSeq),
        Number(R::EntriesAdded),
        groups,
    ]
}

static STREAM_2: [Op; 10] = stream(Each(&[
    Text(R::GroupName),
    Number(R::GroupIdMs),
    Number(R::GroupIdSeq),
    Number(R::EntriesRead),
    PENDING,
    CONSUMERS,
]));
static STREAM_3: [Op; 10] = stream(Each(&[
    Text(R::GroupName),
    Number(R::GroupIdMs),
    Number(R::GroupIdSeq),
    Number(R::EntriesRead),
    PENDING,
    CONSUMERS_3,
]));

/// One row a form, in the order of [`Form`]: type byte, form, grammar. From the servers' own headers (`RDB_TYPE_*`).
static FORMS: &[(u8, Form, &[Op])] = &[
    (0, Form::String, &[Text(R::Value)]),
    (1, Form::List, &[Each(&[Text(R::Item)])]),
    (2, Form::Set, &[Each(&[Text(R::Member)])]),
    (
        3,
        Form::ZsetText,
        &[Each(&[Text(R::Member), Op::ScoreText])],
    ),
    (
        4,
        Form::Hash,
        &[Each(&[Text(R::Field), Text(R::FieldValue)])],
    ),
    (
        5,
        Form::Zset,
        &[Each(&[Text(R::Member), Fixed(R::Score, 8)])],
    ),
    (6, Form::ModuleOld, &[]),
    (7, Form::Module, &[Op::Module]),
    (9, Form::HashZipmap, &[Packed]),
    (10, Form::ListZiplist, &[Packed]),
    (11, Form::SetIntset, &[Packed]),
    (12, Form::ZsetZiplist, &[Packed]),
    (13, Form::HashZiplist, &[Packed]),
    (14, Form::ListQuicklist, &[Each(&[Packed])]),
    (15, Form::Stream, STREAM),
    (16, Form::HashListpack, &[Packed]),
    (17, Form::ZsetListpack, &[Packed]),
    // Whether a node is packed is told by the number in front of it.
    (
        18,
        Form::ListQuicklist2,
        &[Each(&[Number(R::Container), Packed])],
    ),
    (19, Form::Stream2, &STREAM_2),
    (20, Form::SetListpack, &[Packed]),
    (21, Form::Stream3, &STREAM_3),
    (
        22,
        Form::HashExpiringOld,
        &[Each(&[
            Number(R::FieldExpiry),
            Text(R::Field),
            Text(R::FieldValue),
        ])],
    ),
    (23, Form::HashListpackExpiringOld, &[Packed]),
    (
        24,
        Form::HashExpiring,
        &[
            Fixed(R::MinExpiry, 8),
            Each(&[Number(R::FieldExpiry), Text(R::Field), Text(R::FieldValue)]),
        ],
    ),
    (
        25,
        Form::HashListpackExpiring,
        &[Fixed(R::MinExpiry, 8), Packed],
    ),
];

static VALKEY_FORM: (u8, Form, &[Op]) = (
    22,
    Form::HashExpiringValkey,
    &[Each(&[
        Text(R::Field),
        Text(R::FieldValue),
        Fixed(R::FieldExpiryFixed, 8),
    ])],
);

impl Form {
    /// Whether it is a hash with fields that expire.
    pub fn has_expiring_fields(self) -> bool {
        matches!(
            self,
            Self::HashExpiringOld
                | Self::HashListpackExpiringOld
                | Self::HashExpiring
                | Self::HashListpackExpiring
                | Self::HashExpiringValkey
        )
    }

    /// The form behind a type byte of this RDB version; `None`: that version has no such type, as
    /// far as is known.
    ///
    /// Type 22 is one form to Redis and another to Valkey: the version decides.
    pub fn of(type_byte: u8, rdb_version: u16) -> Option<Self> {
        if rdb_version >= VALKEY_VERSION_FIRST {
            if type_byte == VALKEY_FORM.0 {
                return Some(VALKEY_FORM.1);
            }
            if type_byte > VALKEY_FORM.0 {
                return None;
            }
        }
        // There is no type 8.
        let index = usize::from(type_byte) - usize::from(type_byte > 8);
        let row = FORMS.get(index).filter(|row| row.0 == type_byte)?;
        Some(row.1)
    }

    fn row(self) -> &'static (u8, Self, &'static [Op]) {
        FORMS.get(self as usize).unwrap_or(&VALKEY_FORM)
    }

    /// Its type byte.
    pub fn type_byte(self) -> u8 {
        self.row().0
    }

    /// How its items follow one another.
    pub(crate) fn grammar(self) -> &'static [Op] {
        self.row().2
    }

    /// What it is called where forms are told to users.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::ZsetText => "sorted set, scores as text",
            Self::Hash => "hash",
            Self::Zset => "sorted set",
            Self::ModuleOld => "module value of a release candidate",
            Self::Module => "module value or vector set",
            Self::HashZipmap => "hash, zipmap",
            Self::ListZiplist => "list, ziplist",
            Self::SetIntset => "set, intset",
            Self::ZsetZiplist => "sorted set, ziplist",
            Self::HashZiplist => "hash, ziplist",
            Self::ListQuicklist => "list, quicklist of ziplists",
            Self::Stream => "stream",
            Self::HashListpack => "hash, listpack",
            Self::ZsetListpack => "sorted set, listpack",
            Self::ListQuicklist2 => "list, quicklist of listpacks",
            Self::Stream2 => "stream of 7.0",
            Self::SetListpack => "set, listpack",
            Self::Stream3 => "stream of 7.2",
            Self::HashExpiringOld | Self::HashListpackExpiringOld => {
                "hash with expiring fields of a release candidate"
            }
            Self::HashExpiring => "hash with expiring fields",
            Self::HashListpackExpiring => "hash with expiring fields, listpack",
            Self::HashExpiringValkey => "hash with expiring fields of Valkey",
        }
    }

    /// The type of the key.
    pub fn key_type(self) -> KeyType {
        KeyType::of_type_byte(self.type_byte()).expect("every form's type byte has a type: tested")
    }

    /// All forms.
    pub fn all() -> impl Iterator<Item = Self> {
        FORMS.iter().chain([&VALKEY_FORM]).map(|row| row.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_its_row() {
        assert_eq!(Form::all().count(), 26);
        for form in Form::all() {
            let version = if form == Form::HashExpiringValkey {
                80
            } else {
                12
            };
            assert_eq!(form.row().1, form);
            assert_eq!(Form::of(form.type_byte(), version), Some(form));
            let _ = (form.key_type(), form.grammar());
        }
        for (byte, version) in [(8, 12), (26, 12), (24, 80), (23, 80), (255, 12)] {
            assert_eq!(Form::of(byte, version), None, "type {byte} in {version}");
        }
    }
}
