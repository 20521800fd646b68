//! The canonical form of a value, as a digest: equal for equal values, whatever form they lie in.

use xxhash_rust::xxh3::Xxh3;

use crate::elements::{Element, ElementReader};
use crate::error::{Flaw, RdbError};
use crate::form::Form;
use crate::key_type::KeyType;
use crate::vector_set::{VectorPart, VectorSetReader};

/// What a value is, apart from the form it lies in.
///
/// The elements of lists, strings and streams count in their order, those of sets, sorted sets and
/// hashes in none. Scores are compared bit by bit, but -0 is 0: servers from 7.0 on do not keep the
/// difference in a listpack. Vector sets count as what they hold, without the index over it; other modules' values as
/// the bytes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canonical {
    /// The type of the key.
    pub key_type: KeyType,
    /// Elements; for strings their length, bytes.
    pub elements: u64,
    /// 128 bits over all of them.
    pub digest: u128,
    /// It is about the bytes of a module's value, and other bytes may mean the same to the module.
    pub is_opaque: bool,
}

/// How much is known of a stream: forms before RDB 10 know less, and what only one of two values can
/// know says nothing about their equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamDetail {
    /// RDB 9: entries, length, last id, groups, what is pending.
    Basic,
    /// RDB 10: first and deleted id, entries added and read, too.
    Offsets,
    /// RDB 11: the times when consumers were seen and active, too.
    ActiveTimes,
}

impl StreamDetail {
    /// What a form knows; forms that are no streams know everything.
    pub fn of(form: Form) -> Self {
        match form {
            Form::Stream => Self::Basic,
            Form::Stream2 => Self::Offsets,
            _ => Self::ActiveTimes,
        }
    }
}

/// Computes a [`Canonical`] while the bytes of a value arrive.
pub struct CanonicalReader {
    reading: Reading,
    sum: Sum,
    form: Form,
}

impl std::fmt::Debug for CanonicalReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CanonicalReader({:?})", self.form)
    }
}

enum Reading {
    Elements(ElementReader),
    VectorSet(VectorSetReader),
    /// A module's value.
    Bytes,
}

struct Sum {
    seed: u64,
    detail: StreamDetail,
    is_ordered: bool,
    elements: u64,
    /// Of a module's value.
    bytes: u64,
    unordered: u128,
    ordered: Xxh3,
}

impl CanonicalReader {
    /// At the start of a value. Only digests of the same seed and detail can be compared; a seed that
    /// is not known beforehand keeps made-up collisions out.
    ///
    /// # Errors
    /// [`Flaw::OldModule`].
    pub fn new(form: Form, seed: u64, detail: StreamDetail) -> Result<Self, Flaw> {
        let reading = match form {
            Form::Module => Reading::VectorSet(VectorSetReader::new()?),
            _ => Reading::Elements(ElementReader::new(form)?),
        };
        Ok(Self {
            reading,
            sum: Sum {
                seed,
                detail,
                is_ordered: matches!(
                    form.key_type(),
                    KeyType::String | KeyType::List | KeyType::Stream
                ),
                elements: 0,
                bytes: 0,
                unordered: 0,
                ordered: Xxh3::with_seed(seed),
            },
            form,
        })
    }

    /// Takes in what begins in `input` and returns how many bytes were used; what is left belongs in
    /// front of the next input.
    ///
    /// # Errors
    /// [`Flaw`], and how far into `input` it lies.
    pub fn push(&mut self, input: &[u8]) -> Result<usize, (Flaw, usize)> {
        let Self { reading, sum, .. } = self;
        match reading {
            Reading::Elements(reader) => {
                reader.push(input, usize::MAX, &mut |element| sum.add(element))
            }
            Reading::VectorSet(reader) => {
                let pushed = reader.push(input, &mut |part| sum.add_vector(part));
                let used = *pushed.as_ref().unwrap_or(&input.len());
                sum.ordered.update(input.get(..used).unwrap_or_default());
                sum.bytes += used as u64;
                if pushed.is_err() {
                    *reading = Reading::Bytes;
                }
                Ok(used)
            }
            Reading::Bytes => {
                sum.bytes += input.len() as u64;
                sum.ordered.update(input);
                Ok(input.len())
            }
        }
    }

    /// The digest; `None`: the value is not complete.
    pub fn finish(self) -> Option<Canonical> {
        let is_opaque = match &self.reading {
            Reading::Elements(reader) if !reader.is_done() => return None,
            Reading::VectorSet(reader) if !reader.is_done() => return None,
            Reading::Elements(_) | Reading::VectorSet(_) => false,
            Reading::Bytes => true,
        };
        let sum = self.sum;
        Some(Canonical {
            key_type: self.form.key_type(),
            elements: if is_opaque { sum.bytes } else { sum.elements },
            digest: match sum.is_ordered || is_opaque {
                true => sum.ordered.digest128(),
                false => sum.unordered,
            },
            is_opaque,
        })
    }
}

/// The canonical form of a value that lies together, as it stands in a payload behind the type byte.
///
/// # Errors
/// [`RdbError`] with the offset into `value`.
pub fn canonical(
    form: Form,
    value: &[u8],
    seed: u64,
    detail: StreamDetail,
) -> Result<Canonical, RdbError> {
    let mut reader = CanonicalReader::new(form, seed, detail).map_err(|flaw| flaw.at(0))?;
    let used = reader
        .push(value)
        .map_err(|(flaw, offset)| flaw.at(offset as u64))?;
    let done = reader.finish().ok_or(Flaw::Truncated.at(used as u64))?;
    match used == value.len() {
        true => Ok(done),
        false => Err(Flaw::Trailing.at(used as u64)),
    }
}

impl Sum {
    fn add(&mut self, element: Element<'_>) {
        if let Element::String(part) = element {
            // Parts come as they happen to: their bounds must not count.
            self.elements += part.len() as u64;
            return self.ordered.update(part);
        }
        self.elements += 1;
        let mut one = Xxh3::with_seed(self.seed);
        let detail = self.detail;
        feed(element, detail, &mut |bytes| match self.is_ordered {
            true => self.ordered.update(bytes),
            false => one.update(bytes),
        });
        if !self.is_ordered {
            self.unordered = self.unordered.wrapping_add(one.digest128());
        }
    }
}

impl Sum {
    fn add_vector(&mut self, part: VectorPart<'_>) {
        let mut one = Xxh3::with_seed(self.seed);
        let mut put = |bytes: &[u8]| one.update(bytes);
        match part {
            VectorPart::Frame(frame) => numbers(&frame, &mut put),
            VectorPart::Matrix(matrix) => text(b'm', matrix, &mut put),
            VectorPart::Element {
                name,
                attributes,
                vector,
                scale,
            } => {
                self.elements += 1;
                text(b'e', name, &mut put);
                text(b'a', attributes, &mut put);
                text(b'v', vector, &mut put);
                numbers(&[scale], &mut put);
            }
        }
        self.unordered = self.unordered.wrapping_add(one.digest128());
    }
}

/// An element as bytes that no other element has: a letter, and lengths before texts.
fn feed(element: Element<'_>, detail: StreamDetail, put: &mut dyn FnMut(&[u8])) {
    let known = |level: StreamDetail| detail >= level;
    match element {
        Element::String(part) => put(part),
        Element::Item(item) => text(b'i', item, put),
        Element::Member(member) => text(b'm', member, put),
        Element::Scored { member, score } => {
            text(b'z', member, put);
            put(&(score + 0.0).to_le_bytes());
        }
        Element::Field {
            field,
            value,
            expire_at_ms,
        } => {
            text(b'f', field, put);
            text(b'v', value, put);
            put(&expire_at_ms.unwrap_or(0).to_le_bytes());
        }
        Element::Entry { id, fields } => {
            put(b"e");
            numbers(&[id.ms, id.seq, fields.count() as u64], put);
            fields.for_each(|name, value| {
                text(b'n', name, put);
                text(b'v', value, put);
            });
        }
        Element::Stream(facts) => {
            put(b"s");
            numbers(&[facts.length, facts.last_id.ms, facts.last_id.seq], put);
            if known(StreamDetail::Offsets) {
                let (first, deleted) = (
                    facts.first_id.unwrap_or_default(),
                    facts.deleted_id.unwrap_or_default(),
                );
                numbers(&[first.ms, first.seq, deleted.ms, deleted.seq], put);
                numbers(&[facts.entries_added.unwrap_or_default()], put);
            }
        }
        Element::Group {
            name,
            last_id,
            entries_read,
        } => {
            text(b'g', name, put);
            numbers(&[last_id.ms, last_id.seq], put);
            if known(StreamDetail::Offsets) {
                put(&entries_read.unwrap_or(-1).to_le_bytes());
            }
        }
        Element::Pending {
            id,
            delivered_at_ms,
            deliveries,
        } => {
            put(b"p");
            numbers(&[id.ms, id.seq, delivered_at_ms, deliveries], put);
        }
        Element::Consumer {
            name,
            seen_at_ms,
            active_at_ms,
        } => {
            text(b'c', name, put);
            if known(StreamDetail::ActiveTimes) {
                numbers(&[seen_at_ms, active_at_ms.unwrap_or_default()], put);
            }
        }
        Element::Owned(id) => {
            put(b"o");
            numbers(&[id.ms, id.seq], put);
        }
    }
}

fn text(letter: u8, text: &[u8], put: &mut dyn FnMut(&[u8])) {
    put(&[letter]);
    numbers(&[text.len() as u64], put);
    put(text);
}

fn numbers(numbers: &[u64], put: &mut dyn FnMut(&[u8])) {
    for number in numbers {
        put(&number.to_le_bytes());
    }
}
