//! Writes a value anew in another form while its bytes arrive. Strings pass through as they are encoded,
//! so nothing larger than one packed node is held; only a field of Valkey, whose expiry stands behind
//! it, is held until that has come.

use crate::elements::{Element, ElementReader, field_expiry};
use crate::error::Flaw;
use crate::form::{Form, Role};
use crate::length::encode_length;
use crate::lzf::Lzf;
use crate::packed::{Listpack, ziplist};
use crate::text::{Coding, TextHead, decode_text, encode_text};
use crate::walk::{Kind, Step, Walker, Wholes};

/// Strings above this come in parts, bytes.
const TEXT_WHOLE_MAX: u64 = 256 * 1024;

/// Why a value has no form in which the reader could read all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReencodeError {
    /// The value is damaged.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// Fields of the hash expire by themselves, which the reader does not know.
    #[error("fields of the hash expire, which the target does not know")]
    FieldExpiry,
}

/// What to do with fields that expire where they cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldExpiry {
    /// Refuse the value.
    Refuse,
    /// Keep the fields for ever.
    Drop,
}

/// Writes one value anew.
#[derive(Debug)]
pub struct Reencoder {
    from: Form,
    to: Form,
    field_expiry: FieldExpiry,
    walker: Walker,
    min_expiry: u64,
    expiry: u64,
    /// Of Valkey's hashes: field and value, encoded, until the expiry has come.
    held: Vec<u8>,
    /// A plain item of a list, unpacked while it arrives.
    item: Option<PlainItem>,
    is_done: bool,
}

#[derive(Debug)]
struct PlainItem {
    lzf: Option<Lzf>,
}

impl Reencoder {
    /// At the start of a value of form `from`, which is to become `to` (see [`crate::route`]).
    ///
    /// # Errors
    /// [`Flaw::OldModule`], and [`Flaw::Value`] when there is no way between the two.
    pub fn new(from: Form, to: Form, field_expiry: FieldExpiry) -> Result<Self, Flaw> {
        let wholes = Wholes {
            // A field of Valkey is held anyway.
            text_bytes: match from {
                Form::HashExpiringValkey => Wholes::ALL.text_bytes,
                _ => TEXT_WHOLE_MAX,
            },
            ..Wholes::ALL
        };
        let is_known = matches!(
            (from, to),
            (Form::HashListpack, Form::Hash)
                | (Form::ZsetListpack, Form::Zset)
                | (Form::SetListpack, Form::Set)
                | (Form::ListQuicklist2, Form::ListQuicklist)
                | (Form::Stream3, Form::Stream2 | Form::Stream)
                | (Form::Stream2, Form::Stream)
                | (
                    Form::HashExpiring
                        | Form::HashListpackExpiring
                        | Form::HashExpiringOld
                        | Form::HashListpackExpiringOld,
                    Form::HashExpiringValkey | Form::Hash,
                )
                | (Form::HashExpiringValkey, Form::HashExpiring | Form::Hash)
        );
        if !is_known {
            return Err(Flaw::Value("there is no way between these forms"));
        }
        Ok(Self {
            from,
            to,
            field_expiry,
            walker: Walker::new(from, wholes)?,
            min_expiry: 0,
            expiry: 0,
            held: Vec::new(),
            item: None,
            is_done: false,
        })
    }

    /// Takes in what begins in `input`, appends what comes of it to `out`, and returns how many bytes
    /// were used; what is left belongs in front of the next input.
    ///
    /// # Errors
    /// [`ReencodeError`]; what was appended is of no use then.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, ReencodeError> {
        let mut used = 0;
        while !self.is_done {
            let rest = input.get(used..).unwrap_or_default();
            let Some(step) = self.walker.step(rest)? else {
                break;
            };
            let bytes = rest.get(..step.bytes).unwrap_or_default();
            self.take(step, bytes, out)?;
            used += step.bytes;
        }
        Ok(used)
    }

    /// The value is complete.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    fn take(&mut self, step: Step, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        match (step.role, step.kind) {
            (_, Kind::End) => self.is_done = true,
            (Role::Packed, _) if self.is_stream() => out.extend_from_slice(bytes),
            (Role::Packed, _) => self.packed(&decode_text(bytes)?, out)?,
            (Role::Container, _) => {}
            (Role::Item, kind) => self.item(kind, bytes, out)?,
            (Role::MinExpiry, _) => {
                let eight = bytes.first_chunk().copied().unwrap_or_default();
                self.min_expiry = u64::from_le_bytes(eight);
            }
            (Role::FieldExpiry, Kind::Number(number)) => {
                self.expiry = field_expiry(self.from, self.min_expiry, number)?;
                self.refuse_expiry(self.expiry)?;
            }
            (Role::FieldExpiryFixed, _) => self.field_of_valkey(bytes, out)?,
            (Role::Field | Role::FieldValue, _) if self.from == Form::HashExpiringValkey => {
                self.held.extend_from_slice(bytes);
            }
            (Role::FieldValue, kind) => {
                out.extend_from_slice(bytes);
                let is_last = matches!(kind, Kind::Text | Kind::TextPart { is_last: true });
                if is_last && self.to == Form::HashExpiringValkey {
                    out.extend_from_slice(&expiry_of_valkey(self.expiry));
                }
            }
            (Role::Count, _) if self.to == Form::HashExpiring => {
                // The base that expiries count from: from 1 on, they are the times themselves.
                out.extend_from_slice(&1u64.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            (role, _) if self.is_new(role) => {}
            _ => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn is_stream(&self) -> bool {
        matches!(self.from, Form::Stream2 | Form::Stream3)
    }

    /// What the older form of a stream does not have.
    fn is_new(&self, role: Role) -> bool {
        match role {
            Role::ActiveTime => true,
            Role::FirstIdMs
            | Role::FirstIdSeq
            | Role::DeletedIdMs
            | Role::DeletedIdSeq
            | Role::EntriesAdded
            | Role::EntriesRead => self.to == Form::Stream,
            _ => false,
        }
    }

    fn refuse_expiry(&self, at: u64) -> Result<(), ReencodeError> {
        let is_lost = at != 0 && self.to == Form::Hash;
        match is_lost && self.field_expiry == FieldExpiry::Refuse {
            true => Err(ReencodeError::FieldExpiry),
            false => Ok(()),
        }
    }

    /// The fixed 8 bytes behind field and value.
    fn field_of_valkey(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        let at = i64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
        // -1: none. 0 is long past, and must not become "none".
        let at = u64::try_from(at).map_or(0, |at| at.max(1));
        self.refuse_expiry(at)?;
        if self.to == Form::HashExpiring {
            // Held against what Redis can read.
            field_expiry(Form::HashExpiringOld, 0, at)?;
            encode_length(out, at);
        }
        out.append(&mut self.held);
        Ok(())
    }

    /// A plain item of a list becomes a ziplist of its own.
    fn item(&mut self, kind: Kind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        match kind {
            Kind::TextHead(head) => {
                begin_item(head.text_bytes(), out)?;
                self.item = Some(PlainItem { lzf: lzf_of(head) });
            }
            Kind::TextPart { is_last } => {
                let Some(item) = &mut self.item else {
                    return Ok(());
                };
                match &mut item.lzf {
                    None => out.extend_from_slice(bytes),
                    Some(lzf) => lzf.push(bytes, out)?,
                }
                if is_last {
                    if let Some(lzf) = &item.lzf {
                        lzf.finish()?;
                    }
                    out.push(ziplist::END);
                    self.item = None;
                }
            }
            _ => {
                let text = decode_text(bytes)?;
                begin_item(text.len() as u64, out)?;
                out.extend_from_slice(&text);
                out.push(ziplist::END);
            }
        }
        Ok(())
    }

    fn packed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        let listpack = Listpack::new(bytes)?;
        let per_element = match self.from {
            Form::ListQuicklist2 => {
                let mut node = Vec::with_capacity(bytes.len() + bytes.len() / 8);
                ziplist::encode(listpack.iter(), &mut node)?;
                encode_text(out, &node);
                return Ok(());
            }
            Form::SetListpack => 1,
            Form::HashListpack | Form::ZsetListpack => 2,
            _ => 3,
        };
        encode_length(out, (listpack.len() / per_element) as u64);
        let mut refused = Ok(());
        let mut reader = ElementReader::new(self.from)?;
        reader.packed(bytes, &mut |element| {
            if let Err(e) = self.element(element, out) {
                refused = Err(e);
            }
        })?;
        refused
    }

    fn element(&self, element: Element<'_>, out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        match element {
            Element::Member(member) => encode_text(out, member),
            Element::Scored { member, score } => {
                encode_text(out, member);
                out.extend_from_slice(&score.to_le_bytes());
            }
            Element::Field {
                field,
                value,
                expire_at_ms,
            } => {
                let at = expire_at_ms.unwrap_or(0);
                self.refuse_expiry(at)?;
                encode_text(out, field);
                encode_text(out, value);
                if self.to == Form::HashExpiringValkey {
                    out.extend_from_slice(&expiry_of_valkey(at));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn expiry_of_valkey(at: u64) -> [u8; 8] {
    let at = match at {
        0 => -1,
        at => i64::try_from(at).unwrap_or(i64::MAX),
    };
    at.to_le_bytes()
}

/// What stands in front of the only item of a ziplist, length of the whole included.
fn begin_item(text_bytes: u64, out: &mut Vec<u8>) -> Result<(), Flaw> {
    let text_bytes = u32::try_from(text_bytes).map_err(|_| Flaw::TooLarge(text_bytes))?;
    let head = ziplist::single_head(text_bytes)?;
    encode_length(out, head.len() as u64 + u64::from(text_bytes) + 1);
    out.extend_from_slice(&head);
    Ok(())
}

fn lzf_of(head: TextHead) -> Option<Lzf> {
    match head.coding {
        Coding::Lzf { text_bytes } => Some(Lzf::new(head.body_bytes, text_bytes)),
        _ => None,
    }
}
