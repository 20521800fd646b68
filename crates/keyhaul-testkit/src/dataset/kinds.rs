//! The kinds of values: what each is to show, and how often it appears.

use rand::RngExt;
use rand::rngs::StdRng;
use redis::Cmd;

use super::{collections, scores, streams, strings};

/// A kind of value; the name says the type and the encoding or trait that it is there for.
/// "Listpack" is the compact encoding, which old versions call ziplist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Kind {
    StringInt,
    StringIntLimits,
    StringEmbedded,
    StringRaw,
    StringEmpty,
    StringBinary,
    StringAppended,
    StringCompressible,
    String100Kb,
    StringAboveMb,
    Bitmap,
    HyperLogLogSparse,
    HyperLogLogDense,
    ListSmall,
    ListInts,
    ListLargeElement,
    ListLarge,
    SetInts16,
    SetInts32,
    SetInts64,
    SetListpack,
    SetHashtable,
    SetManyInts,
    HashListpack,
    HashHashtable,
    HashLongValue,
    ZsetListpack,
    ZsetOddScores,
    ZsetOddScoresSkiplist,
    ZsetSkiplist,
    Geo,
    StreamSmall,
    StreamLarge,
    StreamDeletedEntries,
    StreamGroups,
    StreamEmptied,
    StreamEmptyWithGroup,
    StreamIdAhead,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 38] = [
        Kind::StringInt,
        Kind::StringIntLimits,
        Kind::StringEmbedded,
        Kind::StringRaw,
        Kind::StringEmpty,
        Kind::StringBinary,
        Kind::StringAppended,
        Kind::StringCompressible,
        Kind::String100Kb,
        Kind::StringAboveMb,
        Kind::Bitmap,
        Kind::HyperLogLogSparse,
        Kind::HyperLogLogDense,
        Kind::ListSmall,
        Kind::ListInts,
        Kind::ListLargeElement,
        Kind::ListLarge,
        Kind::SetInts16,
        Kind::SetInts32,
        Kind::SetInts64,
        Kind::SetListpack,
        Kind::SetHashtable,
        Kind::SetManyInts,
        Kind::HashListpack,
        Kind::HashHashtable,
        Kind::HashLongValue,
        Kind::ZsetListpack,
        Kind::ZsetOddScores,
        Kind::ZsetOddScoresSkiplist,
        Kind::ZsetSkiplist,
        Kind::Geo,
        Kind::StreamSmall,
        Kind::StreamLarge,
        Kind::StreamDeletedEntries,
        Kind::StreamGroups,
        Kind::StreamEmptied,
        Kind::StreamEmptyWithGroup,
        Kind::StreamIdAhead,
    ];

    /// Kinds of a few dozen bytes, as most keys are; strings twice as often.
    const SMALL: [Kind; 16] = [
        Kind::StringInt,
        Kind::StringEmbedded,
        Kind::StringRaw,
        Kind::StringEmbedded,
        Kind::StringRaw,
        Kind::StringBinary,
        Kind::StringEmpty,
        Kind::HyperLogLogSparse,
        Kind::ListSmall,
        Kind::ListInts,
        Kind::SetInts16,
        Kind::SetListpack,
        Kind::HashListpack,
        Kind::ZsetListpack,
        Kind::ZsetOddScores,
        Kind::StreamSmall,
    ];

    /// One of the small kinds; one key in 128 has a group.
    pub(super) fn small(rng: &mut StdRng) -> Kind {
        if rng.random_range(0..128) == 0 {
            return Kind::StreamGroups;
        }
        Kind::SMALL[rng.random_range(0..Kind::SMALL.len())]
    }

    /// Above 64 KB.
    pub(super) fn is_large(self) -> bool {
        matches!(
            self,
            Kind::String100Kb | Kind::StringAboveMb | Kind::ListLarge
        )
    }

    pub(super) fn is_hash(self) -> bool {
        matches!(
            self,
            Kind::HashListpack | Kind::HashHashtable | Kind::HashLongValue
        )
    }

    /// The commands that make such a value.
    pub(super) fn commands(self, key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
        match self {
            Kind::StringInt => strings::set(key, rng.random_range(-9999..10_000_i64)),
            Kind::StringIntLimits => strings::set(key, i64::MIN),
            Kind::StringEmbedded => strings::set(key, strings::text(rng, 44)),
            Kind::StringRaw => strings::set(key, strings::text(rng, 200)),
            Kind::StringEmpty => strings::set(key, ""),
            Kind::StringBinary => strings::set(key, (0..=255).collect::<Vec<u8>>()),
            Kind::StringAppended => strings::appended(key),
            Kind::StringCompressible => strings::set(key, "abcabcabd".repeat(500)),
            Kind::String100Kb => strings::set(key, strings::noise(rng, 100_000)),
            Kind::StringAboveMb => strings::set(key, strings::noise(rng, 1_500_000)),
            Kind::Bitmap => strings::bitmap(key, rng),
            Kind::HyperLogLogSparse => strings::hyperloglog(key, 20, rng),
            Kind::HyperLogLogDense => strings::hyperloglog(key, 20_000, rng),
            Kind::ListSmall => collections::list_small(key, rng),
            Kind::ListInts => collections::list_ints(key, rng),
            Kind::ListLargeElement => collections::list_large_element(key, rng),
            Kind::ListLarge => collections::list_large(key, rng),
            Kind::SetInts16 => collections::set_ints(key, 8, 1 << 15, rng),
            Kind::SetInts32 => collections::set_ints(key, 8, 1 << 31, rng),
            Kind::SetInts64 => collections::set_ints(key, 8, i64::MAX, rng),
            Kind::SetListpack => collections::set_texts(key, 10, rng),
            Kind::SetHashtable => collections::set_texts(key, 300, rng),
            Kind::SetManyInts => collections::set_ints(key, 2000, 1 << 31, rng),
            Kind::HashListpack => collections::hash(key, 8, 20, rng),
            Kind::HashHashtable => collections::hash(key, 600, 20, rng),
            Kind::HashLongValue => collections::hash(key, 3, 5000, rng),
            Kind::ZsetListpack => scores::zset(key, 10, rng),
            Kind::ZsetOddScores => scores::odd_scores(key, 0),
            Kind::ZsetOddScoresSkiplist => scores::odd_scores(key, 300),
            Kind::ZsetSkiplist => scores::zset(key, 500, rng),
            Kind::Geo => scores::geo(key, rng),
            Kind::StreamSmall => streams::entries(key, 5, rng),
            Kind::StreamLarge => streams::entries(key, 1500, rng),
            Kind::StreamDeletedEntries => streams::deleted_entries(key, rng),
            Kind::StreamGroups => streams::groups(key, rng),
            Kind::StreamEmptied => streams::emptied(key, rng),
            Kind::StreamEmptyWithGroup => streams::empty_with_group(key),
            Kind::StreamIdAhead => streams::id_ahead(key, rng),
        }
    }
}
