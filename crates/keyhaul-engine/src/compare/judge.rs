//! What two readings of a key say.

use keyhaul_rdb::KeyType;

use crate::compare::comparer::Comparer;
use crate::compare::options::Depth;
use crate::compare::values::{Seen, SeenKey, Side};
use crate::source::records::now_ms;

/// What a pair of keys turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    Same,
    /// Gone from the source, or of a type that was not asked for.
    OutOfScope,
    Missing,
    Type(String),
    /// What differs, and digests of the two values.
    Value(String, (u128, u128)),
    Expiry(String),
    /// Written too often to be known.
    Unsettled,
    Error(String),
    /// Other bytes, which may hold the same value.
    OtherBytes,
    /// Too large to be read whole.
    Large,
}

impl Comparer {
    /// What two readings of a key say.
    pub(crate) fn judge(&self, source: &Seen, target: &Seen) -> Finding {
        if let Seen::Refused(error) = source {
            return Finding::Error(format!("the source answered: {error}"));
        }
        let source = match source {
            Seen::Missing => return Finding::OutOfScope,
            Seen::Key(key) if !self.takes_type(key) => return Finding::OutOfScope,
            source => source,
        };
        match (source, target) {
            (_, Seen::Refused(error)) => Finding::Error(format!("the target answered: {error}")),
            (Seen::Large, _) | (Seen::Key(_), Seen::Large) => Finding::Large,
            (Seen::Key(source), Seen::Missing) if self.has_expired(source) => Finding::OutOfScope,
            (_, Seen::Missing) => Finding::Missing,
            (Seen::Key(source), Seen::Key(target)) => self.judge_keys(source, target),
            _ => Finding::Unsettled,
        }
    }

    /// Whether keys of this type are compared.
    pub(crate) fn takes_type(&self, key: &SeenKey) -> bool {
        let name = std::str::from_utf8(&key.type_name).ok();
        let key_type = name.and_then(|name| name.parse::<KeyType>().ok());
        self.filter.takes_type(key_type)
    }

    /// Whether its time is over, by the clock of this machine: a file does not forget it. A server does, so what it has
    /// is not over.
    fn has_expired(&self, key: &SeenKey) -> bool {
        let is_file = matches!(self.source, Side::Files(_));
        let is_over = |at: i64| at <= now_ms();
        is_file && key.expire_at_ms.is_some_and(|(_, high)| is_over(high))
    }

    fn judge_keys(&self, source: &SeenKey, target: &SeenKey) -> Finding {
        if self.any_value {
            return Finding::Same;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The name of a module's type is not known from a payload.
        let is_module = [source, target]
            .iter()
            .any(|key| key.type_name == KeyType::Module.name());
        if source.type_name != target.type_name && !is_module {
            let (s, t) = (text(&source.type_name), text(&target.type_name));
            return Finding::Type(format!("type {s} on the source, {t} on the target"));
        }
        if let Some(differs) = self.judge_values(source, target) {
            return differs;
        }
        match self.judge_expiries(source.expire_at_ms, target.expire_at_ms) {
            None => Finding::Same,
            Some(what) => Finding::Expiry(what),
        }
    }

    fn judge_values(&self, source: &SeenKey, target: &SeenKey) -> Option<Finding> {
        if self.depth == Depth::Quick {
            return None;
        }
        if source.raw.is_some() && source.raw == target.raw {
            return None;
        }
        match (source.canonical, target.canonical) {
            (Some(source), Some(target)) if source == target => None,
            // What only its module can read may be the same in other bytes.
            (Some(source), Some(target)) if source.is_opaque || target.is_opaque => {
                let what = "a module's value in other bytes, which only the module can compare";
                Some(Finding::Error(what.to_owned()))
            }
            (Some(source), Some(target)) => {
                let digests = (source.digest, target.digest);
                let (one, other) = (source.elements, target.elements);
                let unit = match (source.key_type, one) {
                    (KeyType::String, 1) => "byte",
                    (KeyType::String, _) => "bytes",
                    (_, 1) => "element",
                    _ => "elements",
                };
                let what = match one == other {
                    true => format!("value differs, {one} {unit} on both sides"),
                    false => {
                        format!("value differs: {one} {unit} on the source, {other} on the target")
                    }
                };
                Some(Finding::Value(what, digests))
            }
            _ if !(source.tried_canonical && target.tried_canonical) => Some(Finding::OtherBytes),
            _ => {
                let what = "the value is in other bytes on either side, and cannot be decoded";
                Some(Finding::Error(what.to_owned()))
            }
        }
    }

    /// What differs; `None`: they agree.
    pub(crate) fn judge_expiries(
        &self,
        source: Option<(i64, i64)>,
        target: Option<(i64, i64)>,
    ) -> Option<String> {
        let agree = match (source, target) {
            (None, None) => true,
            (Some((low, high)), Some((other_low, other_high))) => {
                let tolerance_ms = self.tolerance_ms;
                low.saturating_sub(tolerance_ms) <= other_high
                    && other_low <= high.saturating_add(tolerance_ms)
            }
            _ => false,
        };
        if agree {
            return None;
        }
        let show =
            |at: Option<(i64, i64)>| at.map_or("never".to_owned(), |(low, _)| low.to_string());
        Some(format!(
            "expires at {} on the source, {} on the target (Unix ms)",
            show(source),
            show(target)
        ))
    }
}
