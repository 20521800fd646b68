//! One difference, as it is reported.

use std::fmt;

use super::Name;

/// How much of each side is printed.
const SHOWN_BYTES_MAX: usize = 200;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// The target lacks the key.
    Missing,
    /// The target has a key that it should not have.
    Extra,
    /// The types differ.
    Type,
    /// The values differ.
    Value,
    /// The expiry times of the key differ; those of hash fields belong to the value.
    Expiry,
    /// The value is of a type that the diff cannot read: it was not compared.
    Unreadable,
}

/// One difference between source and target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The source's db; of an extra key, the target's.
    pub db: u32,
    /// The source's key; of an extra key, the target's.
    pub key: Vec<u8>,
    /// What differs.
    pub kind: DifferenceKind,
    /// What the source has, escaped: of a value, the first part that differs.
    pub expected: String,
    /// What the target has, escaped.
    pub got: String,
}

impl Difference {
    pub(super) fn new(name: &Name, kind: DifferenceKind, expected: &str, got: &str) -> Difference {
        Difference {
            db: name.db,
            key: name.key.clone(),
            kind,
            expected: cut(expected),
            got: cut(got),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = cut(&self.key.escape_ascii().to_string());
        write!(f, "{:?} db {} key \"{key}\"", self.kind, self.db)?;
        write!(f, "\n  expected {}\n  got      {}", self.expected, self.got)
    }
}

fn cut(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.into();
    }
    let end = (0..=SHOWN_BYTES_MAX)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .expect("0 is one");
    format!("{}... ({} bytes)", &text[..end], text.len())
}
