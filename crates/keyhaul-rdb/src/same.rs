//! Whether two payloads hold the same value, whatever servers wrote them.

use std::hash::{BuildHasher, RandomState};

use crate::canonical::{Canonical, StreamDetail, canonical};
use crate::convert::open;
use crate::payload::same_but_footer;

/// Compares values, not their encodings. Payloads that cannot be decoded are the same only where their
/// bytes are.
pub fn same_value(one: &[u8], other: &[u8]) -> bool {
    if one == other || same_but_footer(one, other) {
        return true;
    }
    let (Ok((form, _, value)), Ok((other_form, _, other_value))) = (open(one), open(other)) else {
        return false;
    };
    let detail = StreamDetail::of(form).min(StreamDetail::of(other_form));
    let seed = RandomState::new().hash_one(0);
    let digest = |form, value| -> Option<Canonical> { canonical(form, value, seed, detail).ok() };
    let digests = (digest(form, value), digest(other_form, other_value));
    matches!(digests, (Some(one), Some(other)) if one == other)
}
