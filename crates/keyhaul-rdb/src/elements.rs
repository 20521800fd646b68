//! Takes values apart into their elements while the bytes arrive, whatever form they lie in.

use crate::error::Flaw;
use crate::form::{Form, Role};
use crate::key_type::KeyType;
use crate::lzf::Lzf;
use crate::packed::{Intset, Item, Listpack, Ziplist, Zipmap};
use crate::stream_id::StreamId;
use crate::stream_node;
use crate::text::{Coding, TextHead, decode_text};
use crate::walk::{Kind, Step, Walker, Wholes};

/// Strings above this come in parts, bytes.
const STRING_WHOLE_MAX: u64 = 1024 * 1024;

/// An element of a value. Lists and streams come in their order, all else in any.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Element<'a> {
    /// The next part of a string.
    String(&'a [u8]),
    /// An item of a list.
    Item(&'a [u8]),
    /// A member of a set.
    Member(&'a [u8]),
    /// A member of a sorted set.
    Scored {
        /// Its name.
        member: &'a [u8],
        /// Never NaN.
        score: f64,
    },
    /// A field of a hash.
    Field {
        /// Its name.
        field: &'a [u8],
        /// What it holds.
        value: &'a [u8],
        /// Absolute Unix ms; `None`: it does not expire by itself.
        expire_at_ms: Option<u64>,
    },
    /// An entry of a stream.
    Entry {
        /// Its id.
        id: StreamId,
        /// Names and values.
        fields: EntryFields<'a>,
    },
    /// What a stream says of itself, after its entries.
    Stream(StreamFacts),
    /// A consumer group; its pending entries and consumers follow.
    Group {
        /// Its name.
        name: &'a [u8],
        /// The last id that was delivered.
        last_id: StreamId,
        /// How many entries it has read (RDB >= 10); `None`: not known.
        entries_read: Option<i64>,
    },
    /// An entry that was delivered to the group and not acknowledged.
    Pending {
        /// Which.
        id: StreamId,
        /// When, Unix ms.
        delivered_at_ms: u64,
        /// How often.
        deliveries: u64,
    },
    /// A consumer of the group; the entries it has follow.
    Consumer {
        /// Its name.
        name: &'a [u8],
        /// When it last tried to read, Unix ms.
        seen_at_ms: u64,
        /// When it last read something, Unix ms (RDB >= 11).
        active_at_ms: Option<u64>,
    },
    /// A pending entry of the consumer.
    Owned(StreamId),
}

/// Names and values of a stream's entry. They are made into texts when they are asked for: most entries
/// share their names with the others of their node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntryFields<'a>(&'a [(Item<'a>, Item<'a>)]);

impl EntryFields<'_> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Tells each name and value, in order.
    pub fn for_each(&self, mut tell: impl FnMut(&[u8], &[u8])) {
        let (mut buffer, mut other) = (itoa::Buffer::new(), itoa::Buffer::new());
        for (name, value) in self.0 {
            tell(name.text(&mut buffer), value.text(&mut other));
        }
    }
}

/// What a stream says of itself. The last three are there from RDB 10 on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// Number of entries.
    pub length: u64,
    /// The highest id that was ever given.
    pub last_id: StreamId,
    /// The id of the first entry.
    pub first_id: Option<StreamId>,
    /// The highest id that was deleted.
    pub deleted_id: Option<StreamId>,
    /// Entries that were ever added.
    pub entries_added: Option<u64>,
}

/// Takes one value apart.
#[derive(Debug)]
pub struct ElementReader {
    form: Form,
    walker: Walker,
    /// A string that comes in parts and is compressed.
    lzf: Option<Lzf>,
    is_done: bool,
    parts: Parts,
}

/// What was read of an element that is not complete yet.
#[derive(Debug, Default)]
struct Parts {
    first: Vec<u8>,
    second: Vec<u8>,
    min_expiry: u64,
    expiry: u64,
    id: StreamId,
    /// Milliseconds before their sequence number, or the first time of two.
    ms: u64,
    facts: StreamFacts,
    /// The stream's facts are to be told before its groups.
    has_facts: bool,
}

impl ElementReader {
    /// At the start of a value.
    ///
    /// # Errors
    /// [`Flaw::OldModule`], and [`Flaw::Value`] for a module's value, whose elements only the module
    /// knows.
    pub fn new(form: Form) -> Result<Self, Flaw> {
        if form == Form::Module {
            return Err(Flaw::Value(
                "the elements of a module's value are known to the module alone",
            ));
        }
        let text_bytes = match form {
            Form::String => STRING_WHOLE_MAX,
            _ => Wholes::ALL.text_bytes,
        };
        let wholes = Wholes {
            text_bytes,
            ..Wholes::ALL
        };
        Ok(Self {
            form,
            walker: Walker::new(form, wholes)?,
            lzf: None,
            is_done: false,
            parts: Parts::default(),
        })
    }

    /// Tells `sink` the elements that begin in `input`, until about `enough` bytes of input are used
    /// up. Returns how many were; what is left belongs in front of the next input. Using up less than
    /// `enough` without being [done](Self::is_done) means that more input is needed.
    ///
    /// # Errors
    /// [`Flaw`], and how far into `input` it lies.
    pub fn push(
        &mut self,
        input: &[u8],
        enough: usize,
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<usize, (Flaw, usize)> {
        let mut used = 0;
        while !self.is_done && used < enough {
            let rest = input.get(used..).unwrap_or_default();
            let step = match self.walker.step(rest) {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(flaw) => return Err((flaw, used)),
            };
            let bytes = rest.get(..step.bytes).unwrap_or_default();
            self.take(step, bytes, sink).map_err(|flaw| (flaw, used))?;
            used += step.bytes;
        }
        Ok(used)
    }

    /// All elements were told.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    fn take(
        &mut self,
        step: Step,
        bytes: &[u8],
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Flaw> {
        match step.kind {
            Kind::Number(number) => self.number(step.role, number, sink),
            Kind::Fixed => self.fixed(step.role, bytes, sink),
            Kind::Text => {
                let text = decode_text(bytes)?;
                self.text(step.role, &text, sink)
            }
            // Of all other forms nothing is told in parts.
            Kind::TextHead(head) if self.form != Form::String => {
                Err(Flaw::TooLarge(head.whole_bytes()))
            }
            Kind::TextHead(head) => {
                self.lzf = begin_part(head);
                Ok(())
            }
            Kind::TextPart { is_last } => self.part(bytes, is_last, sink),
            Kind::End => {
                self.is_done = true;
                Ok(())
            }
        }
    }

    /// A part of a string: only whole values come so.
    fn part(
        &mut self,
        bytes: &[u8],
        is_last: bool,
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Flaw> {
        /// Compressed bytes grow when they are unpacked; so many at a time.
        const PORTION_BYTES: usize = 16 * 1024;
        let Some(lzf) = &mut self.lzf else {
            sink(Element::String(bytes));
            return Ok(());
        };
        let text = &mut self.parts.first;
        for portion in bytes.chunks(PORTION_BYTES) {
            text.clear();
            lzf.push(portion, text)?;
            sink(Element::String(text));
        }
        match is_last {
            true => lzf.finish(),
            false => Ok(()),
        }
    }

    fn text(
        &mut self,
        role: Role,
        text: &[u8],
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Flaw> {
        let parts = &mut self.parts;
        match role {
            Role::Value => sink(Element::String(text)),
            Role::Item => sink(Element::Item(text)),
            Role::Member if self.form == Form::Set => sink(Element::Member(text)),
            Role::Member | Role::Field | Role::GroupName | Role::ConsumerName => {
                replace(&mut parts.first, text);
            }
            Role::FieldValue if self.form == Form::HashExpiringValkey => {
                replace(&mut parts.second, text);
            }
            Role::FieldValue => sink(Element::Field {
                field: &parts.first,
                value: text,
                expire_at_ms: (parts.expiry != 0).then_some(parts.expiry),
            }),
            Role::NodeId => {
                if text.len() != 16 {
                    return Err(Flaw::Value("the id of a stream's node has not 16 bytes"));
                }
                parts.id = StreamId::decode(text).unwrap_or_default();
            }
            Role::Packed => self.packed(text, sink)?,
            _ => {}
        }
        Ok(())
    }

    fn number(
        &mut self,
        role: Role,
        number: u64,
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Flaw> {
        let parts = &mut self.parts;
        let id = StreamId {
            ms: parts.ms,
            seq: number,
        };
        match role {
            Role::FieldExpiry => parts.expiry = field_expiry(self.form, parts.min_expiry, number)?,
            Role::StreamLength => {
                parts.facts.length = number;
                parts.has_facts = true;
            }
            Role::LastIdMs | Role::FirstIdMs | Role::DeletedIdMs | Role::GroupIdMs => {
                parts.ms = number;
            }
            Role::LastIdSeq => parts.facts.last_id = id,
            Role::FirstIdSeq => parts.facts.first_id = Some(id),
            Role::DeletedIdSeq => parts.facts.deleted_id = Some(id),
            Role::EntriesAdded => parts.facts.entries_added = Some(number),
            Role::Count if parts.has_facts => {
                // The count of the groups: all facts are there.
                parts.has_facts = false;
                sink(Element::Stream(parts.facts));
            }
            Role::GroupIdSeq if self.form == Form::Stream => sink(Element::Group {
                name: &parts.first,
                last_id: id,
                entries_read: None,
            }),
            Role::GroupIdSeq => parts.id = id,
            Role::EntriesRead => sink(Element::Group {
                name: &parts.first,
                last_id: parts.id,
                // -1, "not known", is written as a length of 64 bits.
                entries_read: Some(number.cast_signed()),
            }),
            Role::DeliveryCount => sink(Element::Pending {
                id: parts.id,
                delivered_at_ms: parts.ms,
                deliveries: number,
            }),
            _ => {}
        }
        Ok(())
    }

    fn fixed(
        &mut self,
        role: Role,
        bytes: &[u8],
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Flaw> {
        let parts = &mut self.parts;
        let eight = bytes.first_chunk().copied().unwrap_or_default();
        match role {
            Role::Score => sink(scored(&parts.first, f64::from_le_bytes(eight))?),
            Role::ScoreText => sink(scored(&parts.first, score_of_text(bytes)?)?),
            Role::MinExpiry => parts.min_expiry = u64::from_le_bytes(eight),
            Role::FieldExpiryFixed => {
                let at = i64::from_le_bytes(eight);
                if at < -1 {
                    return Err(Flaw::Value("a field expires before 1970"));
                }
                sink(Element::Field {
                    field: &parts.first,
                    value: &parts.second,
                    // 0 is long past, and must not read as "never".
                    expire_at_ms: u64::try_from(at).ok().map(|at| at.max(1)),
                });
            }
            Role::PendingId => parts.id = StreamId::decode(bytes).unwrap_or_default(),
            Role::OwnedId => sink(Element::Owned(StreamId::decode(bytes).unwrap_or_default())),
            Role::DeliveryTime => parts.ms = u64::from_le_bytes(eight),
            Role::SeenTime if self.form == Form::Stream3 => parts.ms = u64::from_le_bytes(eight),
            Role::SeenTime => sink(Element::Consumer {
                name: &parts.first,
                seen_at_ms: u64::from_le_bytes(eight),
                active_at_ms: None,
            }),
            Role::ActiveTime => sink(Element::Consumer {
                name: &parts.first,
                seen_at_ms: parts.ms,
                active_at_ms: Some(u64::from_le_bytes(eight)),
            }),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn packed(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Flaw> {
        match self.form {
            Form::ListZiplist | Form::ListQuicklist => items(Ziplist::new(bytes)?.iter(), sink),
            Form::ListQuicklist2 => items(Listpack::new(bytes)?.iter(), sink),
            Form::SetIntset => {
                let mut buffer = itoa::Buffer::new();
                for member in Intset::new(bytes)?.iter() {
                    sink(Element::Member(buffer.format(member).as_bytes()));
                }
            }
            Form::SetListpack => {
                let mut buffer = itoa::Buffer::new();
                for member in Listpack::new(bytes)?.iter() {
                    sink(Element::Member(member.text(&mut buffer)));
                }
            }
            Form::ZsetZiplist => members(Ziplist::new(bytes)?.iter(), sink)?,
            Form::ZsetListpack => members(Listpack::new(bytes)?.iter(), sink)?,
            Form::HashZipmap => {
                for (field, value) in Zipmap::new(bytes)?.iter() {
                    sink(Element::Field {
                        field,
                        value,
                        expire_at_ms: None,
                    });
                }
            }
            Form::HashZiplist => fields(Ziplist::new(bytes)?.iter(), sink)?,
            Form::HashListpack => fields(Listpack::new(bytes)?.iter(), sink)?,
            Form::HashListpackExpiring | Form::HashListpackExpiringOld => {
                expiring_fields(Listpack::new(bytes)?.iter(), sink)?;
            }
            Form::Stream | Form::Stream2 | Form::Stream3 => {
                entries(self.parts.id, bytes, sink)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The type of the key.
    pub fn key_type(&self) -> KeyType {
        self.form.key_type()
    }
}

fn begin_part(head: TextHead) -> Option<Lzf> {
    match head.coding {
        Coding::Lzf { text_bytes } => Some(Lzf::new(head.body_bytes, text_bytes)),
        _ => None,
    }
}

fn replace(place: &mut Vec<u8>, text: &[u8]) {
    place.clear();
    place.extend_from_slice(text);
}

/// When a field expires, from a number in front of it. 0: it does not. RDB 12 counts from one before
/// the earliest expiry of all; the release candidates before it wrote the time itself.
pub(crate) fn field_expiry(form: Form, min_expiry: u64, number: u64) -> Result<u64, Flaw> {
    /// What Redis takes as a field's expiry: 48 bits.
    const EXPIRY_MAX: u64 = 0xffff_ffff_ffff;
    let at = match (form, number) {
        (_, 0) => return Ok(0),
        (Form::HashExpiringOld, at) => Some(at),
        (_, above) => min_expiry.checked_add(above - 1),
    };
    at.filter(|at| *at <= EXPIRY_MAX)
        .ok_or(Flaw::Value("a field's expiry is too large"))
}

fn scored(member: &[u8], score: f64) -> Result<Element<'_>, Flaw> {
    match score.is_nan() {
        true => Err(Flaw::Value("a score is not a number")),
        false => Ok(Element::Scored { member, score }),
    }
}

/// RDB 1 to 7: a byte of length and text, or one of three marks.
fn score_of_text(bytes: &[u8]) -> Result<f64, Flaw> {
    match bytes {
        [253] => Ok(f64::NAN),
        [254] => Ok(f64::INFINITY),
        [255] => Ok(f64::NEG_INFINITY),
        [_, text @ ..] => parse_score(text),
        [] => Err(Flaw::Truncated),
    }
}

fn parse_score(text: &[u8]) -> Result<f64, Flaw> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(Flaw::Value("a score is not a number"))
}

fn items<'a>(items: impl Iterator<Item = Item<'a>>, sink: &mut dyn FnMut(Element<'_>)) {
    let mut buffer = itoa::Buffer::new();
    for item in items {
        sink(Element::Item(item.text(&mut buffer)));
    }
}

const ODD: Flaw = Flaw::Value("a packed value ends within an element");

fn members<'a>(
    mut items: impl Iterator<Item = Item<'a>>,
    sink: &mut dyn FnMut(Element<'_>),
) -> Result<(), Flaw> {
    let mut buffer = itoa::Buffer::new();
    while let Some(member) = items.next() {
        #[allow(
            clippy::cast_precision_loss,
            reason = "servers pack only integers that a double holds"
        )]
        let score = match items.next().ok_or(ODD)? {
            Item::Int(score) => score as f64,
            Item::Text(text) => parse_score(text)?,
        };
        sink(scored(member.text(&mut buffer), score)?);
    }
    Ok(())
}

fn fields<'a>(
    mut items: impl Iterator<Item = Item<'a>>,
    sink: &mut dyn FnMut(Element<'_>),
) -> Result<(), Flaw> {
    let (mut buffer, mut other) = (itoa::Buffer::new(), itoa::Buffer::new());
    while let Some(field) = items.next() {
        let value = items.next().ok_or(ODD)?;
        sink(Element::Field {
            field: field.text(&mut buffer),
            value: value.text(&mut other),
            expire_at_ms: None,
        });
    }
    Ok(())
}

/// Field, value, and when it expires: absolute ms, 0: not.
fn expiring_fields<'a>(
    mut items: impl Iterator<Item = Item<'a>>,
    sink: &mut dyn FnMut(Element<'_>),
) -> Result<(), Flaw> {
    let (mut buffer, mut other) = (itoa::Buffer::new(), itoa::Buffer::new());
    while let Some(field) = items.next() {
        let (value, at) = (items.next().ok_or(ODD)?, items.next().ok_or(ODD)?);
        let at = at.to_int().and_then(|at| u64::try_from(at).ok());
        let at = at.ok_or(Flaw::Value("a field's expiry is no time"))?;
        // Not counted from anything, but held against what Redis takes: it ends over more.
        let at = field_expiry(Form::HashExpiringOld, 0, at)?;
        sink(Element::Field {
            field: field.text(&mut buffer),
            value: value.text(&mut other),
            expire_at_ms: (at != 0).then_some(at),
        });
    }
    Ok(())
}

fn entries(first_id: StreamId, node: &[u8], sink: &mut dyn FnMut(Element<'_>)) -> Result<(), Flaw> {
    stream_node::entries(first_id, node, |id, fields| {
        sink(Element::Entry {
            id,
            fields: EntryFields(fields),
        });
    })
}
