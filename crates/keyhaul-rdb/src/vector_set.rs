//! The elements of a vector set (Redis >= 8.0) in the form that its module writes, encoding version 0:
//!
//! ```text
//! number   dimensions of the stored vectors
//! number   elements
//! number   way of quantization, bits 0 to 7 | links of a node, bits 8 to 23
//! number   1: a projection follows | 2: elements have attributes
//! number, text                                      with a projection: dimensions before it, its matrix
//! text, [text], text, number n, n numbers           an element: name, attributes, vector, n facts of its node
//! ```
//!
//! The facts of a node are its id, its level, its links to other nodes, and last what its vector is scaled by: its
//! length in the low 32 bits, and with 8-bit quantization its range in the high ones, which are left as memory happens to be
//! otherwise. Ids and links are an index: they depend on the order in which elements came, as the order of the elements itself does,
//! and say nothing about what the set holds. (Found out from payloads of Redis 8.2 and the documentation of the
//! module's file format.)

use crate::error::Flaw;
use crate::form::Form;
use crate::text::decode_text;
use crate::walk::{Kind, Step, Walker, Wholes};

/// The id of the module's type, with encoding version 0.
const MODULE_ID: u64 = 0xbde7_2da2_bb1e_b400;
const HAS_PROJECTION: u64 = 1;
const HAS_ATTRIBUTES: u64 = 2;
/// The way of quantization, of which a range is kept.
const IN_8_BITS: u64 = 1;

/// What a vector set holds.
#[derive(Debug)]
pub(crate) enum VectorPart<'a> {
    /// What all elements have in common: dimensions, quantization and links, dimensions before a projection.
    Frame([u64; 3]),
    /// The matrix of the projection.
    Matrix(&'a [u8]),
    /// An element; `scale` is what its vector is scaled by.
    Element {
        name: &'a [u8],
        attributes: &'a [u8],
        vector: &'a [u8],
        scale: u64,
    },
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Id,
    Dimensions,
    Count,
    Config,
    Flags,
    Projected,
    Matrix,
    Name,
    Attributes,
    Vector,
    Facts,
    Fact(u64),
    End,
}

/// Reads a vector set while its bytes arrive.
#[derive(Debug)]
pub(crate) struct VectorSetReader {
    walker: Walker,
    next: Next,
    /// The next number tells the kind of an item and is none itself.
    is_opcode: bool,
    frame: [u64; 3],
    flags: u64,
    elements_left: u64,
    name: Vec<u8>,
    attributes: Vec<u8>,
    vector: Vec<u8>,
    is_done: bool,
}

impl VectorSetReader {
    /// At the start of a module's value.
    ///
    /// # Errors
    /// None for [`Form::Module`].
    pub(crate) fn new() -> Result<Self, Flaw> {
        Ok(Self {
            walker: Walker::new(Form::Module, Wholes::ALL)?,
            next: Next::Id,
            is_opcode: false,
            frame: [0; 3],
            flags: 0,
            elements_left: 0,
            name: Vec::new(),
            attributes: Vec::new(),
            vector: Vec::new(),
            is_done: false,
        })
    }

    /// Tells `sink` the parts that begin in `input`; returns how many bytes were used. What is left belongs in front
    /// of the next input.
    ///
    /// # Errors
    /// [`Flaw`]: it is no vector set, or one of a form not known here.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        sink: &mut dyn FnMut(VectorPart<'_>),
    ) -> Result<usize, Flaw> {
        let mut used = 0;
        while !self.is_done {
            let rest = input.get(used..).unwrap_or_default();
            let Some(step) = self.walker.step(rest)? else {
                break;
            };
            let bytes = rest.get(..step.bytes).unwrap_or_default();
            self.take(step, bytes, sink)?;
            used += step.bytes;
        }
        Ok(used)
    }

    /// All of it was read.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    fn take(
        &mut self,
        step: Step,
        bytes: &[u8],
        sink: &mut dyn FnMut(VectorPart<'_>),
    ) -> Result<(), Flaw> {
        match step.kind {
            Kind::End if self.next == Next::End => {
                self.is_done = true;
                Ok(())
            }
            Kind::Number(_) if self.is_opcode => {
                self.is_opcode = false;
                Ok(())
            }
            Kind::Number(number) => {
                self.is_opcode = true;
                self.number(number, sink)
            }
            Kind::Text => {
                self.is_opcode = true;
                self.text(&decode_text(bytes)?, sink)
            }
            _ => Err(UNKNOWN),
        }
    }

    fn number(&mut self, number: u64, sink: &mut dyn FnMut(VectorPart<'_>)) -> Result<(), Flaw> {
        let [dimensions, config, before] = &mut self.frame;
        self.next = match self.next {
            Next::Id if number == MODULE_ID => Next::Dimensions,
            Next::Dimensions => {
                *dimensions = number;
                Next::Count
            }
            Next::Count => {
                self.elements_left = number;
                Next::Config
            }
            Next::Config => {
                *config = number;
                Next::Flags
            }
            Next::Flags if number & !(HAS_PROJECTION | HAS_ATTRIBUTES) != 0 => return Err(UNKNOWN),
            Next::Flags => {
                self.flags = number;
                match number & HAS_PROJECTION {
                    0 => {
                        sink(VectorPart::Frame(self.frame));
                        self.next_element()
                    }
                    _ => Next::Projected,
                }
            }
            Next::Projected => {
                *before = number;
                sink(VectorPart::Frame(self.frame));
                Next::Matrix
            }
            Next::Facts if number > 0 => Next::Fact(number),
            Next::Fact(1) => {
                sink(VectorPart::Element {
                    name: &self.name,
                    attributes: &self.attributes,
                    vector: &self.vector,
                    scale: match *config & 0xff {
                        IN_8_BITS => number,
                        _ => number & u64::from(u32::MAX),
                    },
                });
                self.elements_left -= 1;
                self.next_element()
            }
            Next::Fact(left) => Next::Fact(left - 1),
            _ => return Err(UNKNOWN),
        };
        Ok(())
    }

    fn text(&mut self, text: &[u8], sink: &mut dyn FnMut(VectorPart<'_>)) -> Result<(), Flaw> {
        let keep = |place: &mut Vec<u8>| {
            place.clear();
            place.extend_from_slice(text);
        };
        self.next = match self.next {
            Next::Matrix => {
                sink(VectorPart::Matrix(text));
                self.next_element()
            }
            Next::Name => {
                keep(&mut self.name);
                self.attributes.clear();
                match self.flags & HAS_ATTRIBUTES {
                    0 => Next::Vector,
                    _ => Next::Attributes,
                }
            }
            Next::Attributes => {
                keep(&mut self.attributes);
                Next::Vector
            }
            Next::Vector => {
                keep(&mut self.vector);
                Next::Facts
            }
            _ => return Err(UNKNOWN),
        };
        Ok(())
    }

    fn next_element(&self) -> Next {
        match self.elements_left {
            0 => Next::End,
            _ => Next::Name,
        }
    }
}

const UNKNOWN: Flaw = Flaw::Value("no vector set of a form that is known here");

#[cfg(test)]
mod tests {
    use crate::canonical::{Canonical, StreamDetail, canonical};
    use crate::form::Form;
    use crate::length::encode_length as write_length;

    /// Name, attributes, vector, and facts of a node.
    type Node = (&'static str, &'static str, &'static [u8], &'static [u64]);

    const ONE: Node = ("one", "{}", b"\x01\x02", &[1, 1 << 24, 1, 32, 2, 0, 7]);
    const TWO: Node = ("two", "", b"\x03\x04", &[2, 1 << 24, 1, 32, 1, 0, 8]);

    fn payload(head: &[u64], matrix: Option<&str>, nodes: &[Node]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_length(&mut bytes, super::MODULE_ID);
        let number = |bytes: &mut Vec<u8>, n: u64| {
            write_length(bytes, 2);
            write_length(bytes, n);
        };
        let text = |bytes: &mut Vec<u8>, text: &[u8]| {
            write_length(bytes, 5);
            write_length(bytes, text.len() as u64);
            bytes.extend_from_slice(text);
        };
        head.iter().for_each(|n| number(&mut bytes, *n));
        if let Some(matrix) = matrix {
            number(&mut bytes, 4);
            text(&mut bytes, matrix.as_bytes());
        }
        for (name, attributes, vector, facts) in nodes {
            text(&mut bytes, name.as_bytes());
            if head.last().is_some_and(|flags| flags & 2 != 0) {
                text(&mut bytes, attributes.as_bytes());
            }
            text(&mut bytes, vector);
            number(&mut bytes, facts.len() as u64);
            facts.iter().for_each(|n| number(&mut bytes, *n));
        }
        write_length(&mut bytes, 0);
        bytes
    }

    fn digest(bytes: &[u8]) -> Canonical {
        canonical(Form::Module, bytes, 7, StreamDetail::Basic).unwrap()
    }

    #[test]
    fn what_it_holds_counts_and_the_index_does_not() {
        let head = &[2, 2, 16 << 8, 2];
        let base = digest(&payload(head, None, &[ONE, TWO]));
        assert_eq!((base.elements, base.is_opaque), (2, false));
        assert_eq!(digest(&payload(head, None, &[TWO, ONE])), base);
        let linked: Node = ("two", "", TWO.2, &[9, 2 << 24, 2, 32, 1, 3, 0, 8]);
        assert_eq!(digest(&payload(head, None, &[ONE, linked])), base);
        let rows: [(&[u64], Option<&str>, [Node; 2]); 8] = [
            (head, None, [ONE, ("two", "{}", TWO.2, TWO.3)]),
            (head, None, [ONE, ("tw", "o", TWO.2, TWO.3)]),
            (head, None, [ONE, ("two", "", b"\x03\x05", TWO.3)]),
            (head, None, [ONE, ("two", "", TWO.2, &[2, 1 << 24, 0, 9])]),
            (head, None, [ONE, ONE]),
            (&[3, 2, 16 << 8, 2], None, [ONE, TWO]),
            (&[2, 2, 16 << 8 | 1, 2], None, [ONE, TWO]),
            (&[2, 2, 16 << 8, 3], Some("abcd"), [ONE, TWO]),
        ];
        for (head, matrix, nodes) in rows {
            let other = digest(&payload(head, matrix, &nodes));
            assert!(other.digest != base.digest && !other.is_opaque, "{nodes:?}");
        }
        let with = |matrix| digest(&payload(&[2, 2, 16 << 8, 3], Some(matrix), &[ONE, TWO]));
        assert!(with("abcd") != with("abce"));
        // Attributes that were all taken away leave none behind.
        let plain: Node = ("one", "", ONE.2, ONE.3);
        let (with, without) = (&[2, 2, 16 << 8, 2], &[2, 2, 16 << 8, 0]);
        let nodes = &[plain, TWO];
        assert_eq!(
            digest(&payload(with, None, nodes)),
            digest(&payload(without, None, nodes))
        );
    }

    #[test]
    fn other_modules_and_other_forms_count_as_bytes() {
        let mut other = payload(&[2, 1, 16 << 8, 0], None, &[TWO]);
        assert!(!digest(&other).is_opaque);
        *other.get_mut(8).unwrap() ^= 1;
        for bytes in [
            other,
            payload(&[2, 1, 16 << 8, 4], None, &[TWO]),
            payload(&[2, 2, 16 << 8, 0], None, &[TWO]),
            payload(&[2, 0, 16 << 8, 0], None, &[TWO]),
            payload(&[2, 1, 16 << 8], None, &[]),
        ] {
            let found = digest(&bytes);
            assert!(found.is_opaque, "{bytes:?}");
            assert_eq!(found.elements, bytes.len() as u64);
        }
    }

    #[test]
    fn a_cut_at_any_byte_is_no_value() {
        let bytes = payload(&[2, 2, 16 << 8, 2], None, &[ONE, TWO]);
        for end in 0..bytes.len() {
            let cut = bytes.get(..end).unwrap();
            assert!(canonical(Form::Module, cut, 7, StreamDetail::Basic).is_err());
        }
    }
}
