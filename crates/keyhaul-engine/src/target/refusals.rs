//! Remembers which kinds of payload the target refuses: one refusal speaks for all of its kind.
//!
//! A refusal can be dear: Redis 8.0.2 stands still for more than a second over each vector set of a
//! newer version (measured).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use keyhaul_client::ServerError;
use keyhaul_rdb::payload_kind;

/// Kinds of payload that were refused, with the answer. Shared by the lanes.
#[derive(Debug, Default)]
pub(crate) struct Refusals(RwLock<HashMap<[u8; 12], String>>);

impl Refusals {
    /// The reason if this kind was refused before.
    pub(crate) fn known(&self, payload: &[u8]) -> Option<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return None;
        }
        known.get(&payload_kind(payload)?).cloned()
    }

    /// Remembers an answer that concerns the kind and not the one key.
    pub(crate) fn learn(&self, payload: &[u8], answer: &ServerError) {
        // Of other types a bad format says that this one value is damaged.
        const MODULE: u8 = 7;
        let is_of_kind = answer.mentions("payload version")
            || (answer.mentions("bad data format") && payload.first() == Some(&MODULE));
        if let (true, Some(kind)) = (is_of_kind, payload_kind(payload)) {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(
                kind,
                format!("the target refuses this kind of payload: {answer}"),
            );
        }
    }
}
