//! Which keys go over, by name and by type.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_rdb::KeyType;

use crate::bigkey::staging;
use crate::options::CopyOptions;
use crate::transform::Glob;

/// The filters of a job.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    patterns: Vec<Glob>,
    excludes: Vec<Glob>,
    types: Vec<KeyType>,
    only: Option<Arc<HashSet<Bytes>>>,
}

impl KeyFilter {
    /// The filters of these options.
    pub fn new(options: &CopyOptions) -> Self {
        Self {
            patterns: options.key_patterns.clone(),
            excludes: options.key_excludes.clone(),
            types: options.key_types.clone(),
            only: options.only.clone(),
        }
    }

    /// Whether a key of this name goes over. A staging key of keyhaul never does: it is half a key of another job,
    /// or of this one where source and target are one server.
    pub fn takes_name(&self, key: &[u8]) -> bool {
        self.matches_name(key) && !staging::is_staging(key)
    }

    /// Whether the patterns take a key of this name, whosever it is.
    pub fn matches_name(&self, key: &[u8]) -> bool {
        (self.patterns.is_empty() || self.patterns.iter().any(|glob| glob.matches(key)))
            && !self.excludes.iter().any(|glob| glob.matches(key))
            && self.only.as_ref().is_none_or(|only| only.contains(key))
    }

    /// Whether a key with this payload type goes over; an unknown type byte has no type.
    pub fn takes_type(&self, key_type: Option<KeyType>) -> bool {
        self.types.is_empty() || key_type.is_some_and(|key_type| self.types.contains(&key_type))
    }

    /// Whether every name is taken.
    pub fn takes_every_name(&self) -> bool {
        self.patterns.is_empty() && self.excludes.is_empty() && self.only.is_none()
    }

    /// Whether the type of a key does not matter.
    pub fn takes_every_type(&self) -> bool {
        self.types.is_empty()
    }

    /// The one pattern that a server can apply itself; it must still be checked here.
    pub fn server_pattern(&self) -> Option<&[u8]> {
        match self.patterns.as_slice() {
            [one] if !one.is_match_all() => Some(one.as_bytes()),
            _ => None,
        }
    }

    /// The one type that a server can filter by itself; it must still be checked here.
    pub fn server_type(&self) -> Option<KeyType> {
        match self.types.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types() {
        let options = CopyOptions {
            key_patterns: vec![Glob::new(b"user:*"), Glob::new(b"cart:*")],
            key_excludes: vec![Glob::new(b"*:tmp")],
            key_types: vec![KeyType::Hash],
            ..CopyOptions::default()
        };
        let filter = KeyFilter::new(&options);
        for (key, taken) in [
            ("user:1", true),
            ("cart:", true),
            ("user:tmp", false),
            ("other", false),
            ("", false),
        ] {
            assert_eq!(filter.takes_name(key.as_bytes()), taken, "{key}");
        }
        assert!(filter.takes_type(Some(KeyType::Hash)));
        assert!(!filter.takes_type(Some(KeyType::List)) && !filter.takes_type(None));
        assert!(KeyFilter::default().takes_name(b"") && KeyFilter::default().takes_type(None));
        assert_eq!(
            (filter.server_pattern(), filter.server_type()),
            (None, Some(KeyType::Hash))
        );
    }
}
