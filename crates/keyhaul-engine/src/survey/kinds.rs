//! What becomes of the kinds of keys that are there: as they are, converted, by chunks, not at all.
//! Counted over a sample of a source's keys ([`super::sample`]), over all records of RDB files, or taken from a
//! report on all keys ([`super::key_report`]).

use std::collections::BTreeMap;

use keyhaul_rdb::{Form, Reader, Route, open};

use crate::prepare::CheckedFile;

/// Reasons that are told apart; further ones are counted under one name.
const REASONS_MAX: usize = 20;

/// What becomes of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The target reads the value as it is.
    Passes,
    /// Only the footer of its payload changes.
    GetsFooter,
    /// It is encoded anew.
    IsConverted,
    /// It goes over element by element.
    GoesByChunks,
    /// The target cannot hold it: it is listed.
    CannotGo,
    /// It is above `--mem-limit`: it is listed.
    IsLeftOut,
    /// Its size, or that nobody may read it, forbade to look into it.
    IsUnknown,
}

impl Fate {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Passes,
        Self::GetsFooter,
        Self::IsConverted,
        Self::GoesByChunks,
        Self::CannotGo,
        Self::IsLeftOut,
        Self::IsUnknown,
    ];

    /// As a plan says it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Passes => "pass",
            Self::GetsFooter => "get another footer",
            Self::IsConverted => "are encoded anew",
            Self::GoesByChunks => "go by chunks",
            Self::CannotGo => "cannot go",
            Self::IsLeftOut => "are left out",
            Self::IsUnknown => "not looked into",
        }
    }
}

/// Which keys were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KindsBasis {
    /// Some.
    #[default]
    Sample,
    /// All, for there are few.
    AllKeys,
    /// All records of the files.
    Files,
    /// All that were there when a report was made.
    Report,
}

/// The kinds of keys and what becomes of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kinds {
    /// Which keys these are.
    pub basis: KindsBasis,
    /// Keys that were looked at.
    pub looked_at: u64,
    /// Of those, the ones that the filters take.
    pub taken: u64,
    /// Whether the sample ended early, as it took too long or too many calls.
    pub is_cut: bool,
    /// Dbs of nodes that were not sampled at all for that.
    pub not_sampled: u64,
    /// Keys by type, as TYPE names it, and fate.
    pub types: BTreeMap<String, BTreeMap<Fate, u64>>,
    /// Why keys cannot go, and how many of those that were looked at.
    pub reasons: BTreeMap<String, u64>,
    /// Keys that expire; not told of files and by a report.
    pub expiring: u64,
    /// Keys that go by chunks, where their types are not told.
    pub chunked: Option<u64>,
    /// Likely bytes of all payloads, where a report tells them.
    pub payload_bytes: Option<u64>,
    /// Keys whose payloads were read, their memory and their payloads, bytes.
    pub read: Read,
}

/// What was read of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Keys.
    pub keys: u64,
    /// Bytes of memory that they take on the source.
    pub memory_bytes: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
}

impl Kinds {
    /// Whether these are all keys there are.
    pub fn is_all(&self) -> bool {
        self.basis != KindsBasis::Sample
    }

    /// The sample ends early, without so many dbs of nodes.
    pub(super) fn pass_over(&mut self, dbs: u64) {
        self.basis = KindsBasis::Sample;
        self.is_cut = true;
        self.not_sampled += dbs;
    }

    /// Counts one more key.
    pub(super) fn count(&mut self, key_type: &str, fate: Fate) {
        self.add(key_type, fate, 1);
    }

    /// Counts keys of one type and fate.
    pub(super) fn add(&mut self, key_type: &str, fate: Fate, keys: u64) {
        if keys > 0 {
            let of_type = self.types.entry(key_type.to_owned()).or_default();
            let count = of_type.entry(fate).or_default();
            *count = count.saturating_add(keys);
        }
    }

    /// Says of keys that cannot go that it is their form.
    pub(super) fn add_reason(&mut self, form: Form, keys: u64) {
        let reason = format!("the target does not read the form '{}'", form.name());
        let count = self.reasons.entry(reason).or_default();
        *count = count.saturating_add(keys);
    }

    /// Counts a key that cannot go, and why.
    pub(super) fn refuse(&mut self, key_type: &str, reason: String) {
        self.count(key_type, Fate::CannotGo);
        let is_known = self.reasons.contains_key(&reason) || self.reasons.len() < REASONS_MAX;
        let reason = if is_known {
            reason
        } else {
            "other reasons".into()
        };
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// Counts a key by its payload.
    pub(super) fn judge(&mut self, key_type: &str, payload: &[u8], reader: &Reader) {
        let mut converted = Vec::new();
        if let Err(refusal) = reader.convert(payload, &mut converted) {
            return self.refuse(key_type, refusal.to_string());
        }
        let route = open(payload).map(|(form, version, _)| reader.route(form, version));
        self.count(key_type, route.map_or(Fate::IsUnknown, fate));
    }

    /// Keys of one fate.
    pub fn of_fate(&self, fate: Fate) -> u64 {
        let types = self.types.values();
        let counts = types.filter_map(|fates| fates.get(&fate));
        // A report may hold any numbers.
        counts.fold(0, |sum, keys| sum.saturating_add(*keys))
    }
}

/// What becomes of a form that takes this route.
pub(super) fn fate(route: Route) -> Fate {
    match route {
        Route::Pass => Fate::Passes,
        Route::Restamp => Fate::GetsFooter,
        Route::Reencode(_) => Fate::IsConverted,
        Route::Refuse => Fate::CannotGo,
    }
}

/// The kinds in files, of all their keys, by the form of the values alone: filters are not applied.
pub(super) fn of_files(files: &[CheckedFile], reader: &Reader) -> Kinds {
    let mut kinds = Kinds {
        basis: KindsBasis::Files,
        ..Kinds::default()
    };
    for file in files {
        let version = file.header.map_or(0, |header| header.version);
        for (form, keys) in file.forms.values() {
            kinds.looked_at += keys;
            kinds.taken += keys;
            let fate = fate(reader.route(*form, version));
            kinds.add(form.key_type().name(), fate, *keys);
            if fate == Fate::CannotGo {
                kinds.add_reason(*form, *keys);
            }
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use keyhaul_rdb::{FieldExpiry, Modules};

    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut kinds = Kinds::default();
        for n in 0..100 {
            kinds.refuse("hash", format!("reason {n}"));
        }
        assert_eq!(kinds.reasons.len(), REASONS_MAX + 1);
        assert_eq!(kinds.reasons.get("other reasons"), Some(&80));
        assert_eq!(kinds.of_fate(Fate::CannotGo), 100);
    }

    #[test]
    fn files_are_counted_by_form() {
        let mut file = CheckedFile::default();
        for (form, keys) in [(Form::String, 3), (Form::SetListpack, 2), (Form::Module, 1)] {
            file.forms.insert(form.type_byte(), (form, keys));
        }
        let reader = Reader {
            rdb_version: 10,
            modules: Modules::None,
            field_expiry: FieldExpiry::Refuse,
        };
        let kinds = of_files(&[file], &reader);
        assert_eq!(kinds.looked_at, 6);
        assert_eq!(kinds.of_fate(Fate::IsConverted), 2);
        assert_eq!(kinds.of_fate(Fate::CannotGo), 1);
        assert_eq!(kinds.reasons.len(), 1);
    }
}
