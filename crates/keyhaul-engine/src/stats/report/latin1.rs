//! Bytes in JSON, there and back: each byte is the character of its number. Names are mostly ASCII, and so are as
//! long as before and can be read.

use std::cmp::Reverse;

use serde::{Deserialize, Deserializer, Serializer, de};

pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

pub(super) fn bytes<E: de::Error>(text: &str) -> Result<Box<[u8]>, E> {
    let bytes: Result<_, _> = text.chars().map(u8::try_from).collect();
    bytes.map_err(|_| E::custom("a name with a character above U+00FF"))
}

/// For `#[serde(with)]` on a name of which smaller ones rank above.
pub(super) mod reversed {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        key: &Reverse<Box<[u8]>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(&key.0))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Reverse<Box<[u8]>>, D::Error> {
        bytes(&String::deserialize(deserializer)?).map(Reverse)
    }
}
