//! The commands that can stand in a replication stream of Redis 5.0 to 8.4 and Valkey 7.2 to 9.1, and of the modules that
//! come with Redis 8. One row a command; what the columns mean for its arguments is in the other files.

use super::keys::Role::{self, Read, Remove, Write};
use super::table::Does::*;
use super::table::KeysAt::*;

/// A command that is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// In capitals.
    pub(crate) name: &'static str,
    pub(super) keys_at: KeysAt,
    pub(super) does: Does,
}

/// Which arguments are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeysAt {
    Nowhere,
    /// One argument.
    At(usize, Role),
    /// Two, one behind the other, the first argument and the second.
    Pair(Role, Role),
    /// From here each, or each so many, but not the last ones.
    Each {
        first: usize,
        step: usize,
        last_left_out: usize,
        role: Role,
    },
    /// What is written, and behind it all that are read.
    Store(usize),
    /// What is written, how many are read, these.
    StoreNumbered,
    /// How many, and behind it these, each so many arguments.
    Numbered {
        count: usize,
        step: usize,
    },
    /// `SORT key ... STORE key`
    Sort,
    /// `GEORADIUS key ... STORE key`
    Geo,
    /// `COPY key key ... DB n`
    CopyDb,
    /// `MOVE key n`
    MoveDb,
    /// `XREADGROUP ... STREAMS key ... id ...`
    Streams,
    /// `MIGRATE ... key ... KEYS key ...`
    Migrated,
}

/// What a command does, as far as somebody must know more than its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Changes values, and the same on every server that has the same values.
    Change,
    /// Deletes keys, each by itself.
    Delete,
    Set,
    SetMany,
    /// `SETEX`
    SetExpire(Clock),
    /// `MSETEX`
    SetManyExpire,
    Expire(Clock),
    Persist,
    GetExpire,
    FieldsExpire(Clock),
    FieldsPersist,
    FieldsSetExpire,
    FieldsGetExpire,
    Rename,
    Copy,
    Move,
    MoveMember,
    /// `SETNX`
    SetAbsent,
    SetFieldAbsent,
    /// `LPUSHX`
    PushPresent,
    Insert,
    PopFirst,
    PopLast,
    PopScored,
    /// `RPOPLPUSH`
    MoveElement,
    /// `LMOVE`
    MoveElementFrom,
    /// `HGETDEL`
    FieldsTake,
    AddEntry,
    TrimEntries,
    DeleteEntries,
    AckEntries,
    /// `XCLAIM`
    Claim,
    Group,
    SetLastId,
    JsonSetMany,
    SeriesAdd,
    SeriesAddMany,
    SeriesAddTo,
    /// It cannot be said what another server would do.
    Uncertain,
    // What follows has a kind of its own.
    Select,
    Multi,
    Exec,
    Nothing,
    Replconf,
    Cluster,
    TrimSlots,
    FlushDb,
    FlushAll,
    SwapDb,
    Publish,
    PublishSharded,
    Function,
    Script,
    Eval,
}

/// How a moment is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// Seconds from now.
    Seconds,
    Millis,
    /// Seconds since 1970.
    AtSeconds,
    AtMillis,
}

const KEY: KeysAt = At(1, Write);
const ALL: KeysAt = Each {
    first: 1,
    step: 1,
    last_left_out: 0,
    role: Write,
};
const ALL_REMOVED: KeysAt = Each {
    first: 1,
    step: 1,
    last_left_out: 0,
    role: Remove,
};
const ALL_BUT_LAST: KeysAt = Each {
    first: 1,
    step: 1,
    last_left_out: 1,
    role: Write,
};
const PAIRS: KeysAt = Each {
    first: 1,
    step: 2,
    last_left_out: 0,
    role: Write,
};
const TRIPLES: KeysAt = Each {
    first: 1,
    step: 3,
    last_left_out: 0,
    role: Write,
};

const fn row(name: &'static str, keys_at: KeysAt, does: Does) -> Spec {
    Spec {
        name,
        keys_at,
        does,
    }
}

const fn numbered(count: usize, step: usize) -> KeysAt {
    Numbered { count, step }
}

static SPECS: [Spec; ROWS] = [
    // What a stream has beside writes.
    row("SELECT", Nowhere, Select),
    row("MULTI", Nowhere, Multi),
    row("EXEC", Nowhere, Exec),
    row("PING", Nowhere, Nothing),
    row("REPLCONF", Nowhere, Replconf),
    row("CLUSTER", Nowhere, Cluster),
    row("TRIMSLOTS", Nowhere, TrimSlots),
    row("FLUSHDB", Nowhere, FlushDb),
    row("FLUSHALL", Nowhere, FlushAll),
    row("SWAPDB", Nowhere, SwapDb),
    row("PUBLISH", Nowhere, Publish),
    row("SPUBLISH", Nowhere, PublishSharded),
    row("FUNCTION", Nowhere, Function),
    row("SCRIPT", Nowhere, Script),
    row("EVAL", numbered(2, 1), Eval),
    row("EVALSHA", numbered(2, 1), Eval),
    row("FCALL", numbered(2, 1), Eval),
    // Any type.
    row("DEL", ALL_REMOVED, Delete),
    row("UNLINK", ALL_REMOVED, Delete),
    row("DELEX", KEY, Change),
    row("DELIFEQ", KEY, Change),
    row("RENAME", Pair(Remove, Write), Rename),
    row("RENAMENX", Pair(Remove, Write), Rename),
    row("COPY", CopyDb, Copy),
    row("MOVE", MoveDb, Move),
    row("EXPIRE", KEY, Expire(Clock::Seconds)),
    row("PEXPIRE", KEY, Expire(Clock::Millis)),
    row("EXPIREAT", KEY, Expire(Clock::AtSeconds)),
    row("PEXPIREAT", KEY, Expire(Clock::AtMillis)),
    row("PERSIST", KEY, Persist),
    row("SORT", Sort, Change),
    row("RESTORE", KEY, Uncertain),
    row("RESTORE-ASKING", KEY, Uncertain),
    row("MIGRATE", Migrated, Uncertain),
    // Strings.
    row("SET", KEY, Set),
    row("SETNX", KEY, SetAbsent),
    row("SETEX", KEY, SetExpire(Clock::Seconds)),
    row("PSETEX", KEY, SetExpire(Clock::Millis)),
    row("GETSET", KEY, Change),
    row("GETDEL", At(1, Remove), Change),
    row("GETEX", KEY, GetExpire),
    row("MSET", PAIRS, SetMany),
    row("MSETNX", PAIRS, SetMany),
    row("MSETEX", numbered(1, 2), SetManyExpire),
    row("APPEND", KEY, Change),
    row("SETRANGE", KEY, Change),
    row("INCR", KEY, Change),
    row("INCRBY", KEY, Change),
    row("INCRBYFLOAT", KEY, Change),
    row("DECR", KEY, Change),
    row("DECRBY", KEY, Change),
    row("SETBIT", KEY, Change),
    row("BITFIELD", KEY, Change),
    row("BITOP", Store(2), Change),
    row("PFADD", KEY, Change),
    // Writes the cardinality that it found into the value.
    row("PFCOUNT", ALL, Change),
    row("PFMERGE", Store(1), Change),
    row("PFDEBUG", At(2, Write), Change),
    // Lists.
    row("LPUSH", KEY, Change),
    row("RPUSH", KEY, Change),
    row("LPUSHX", KEY, PushPresent),
    row("RPUSHX", KEY, PushPresent),
    row("LINSERT", KEY, Insert),
    row("LSET", KEY, Change),
    row("LREM", KEY, Change),
    row("LTRIM", KEY, Change),
    row("LPOP", KEY, PopFirst),
    row("RPOP", KEY, PopLast),
    row("LMPOP", numbered(1, 1), Uncertain),
    row("BLMPOP", numbered(2, 1), Uncertain),
    row("BLPOP", ALL_BUT_LAST, Uncertain),
    row("BRPOP", ALL_BUT_LAST, Uncertain),
    row("RPOPLPUSH", Pair(Write, Write), MoveElement),
    row("LMOVE", Pair(Write, Write), MoveElementFrom),
    row("BRPOPLPUSH", Pair(Write, Write), Uncertain),
    row("BLMOVE", Pair(Write, Write), Uncertain),
    // Sets.
    row("SADD", KEY, Change),
    row("SREM", KEY, Change),
    row("SPOP", KEY, Uncertain),
    row("SMOVE", Pair(Write, Write), MoveMember),
    row("SDIFFSTORE", Store(1), Change),
    row("SINTERSTORE", Store(1), Change),
    row("SUNIONSTORE", Store(1), Change),
    // Hashes.
    row("HSET", KEY, Change),
    row("HMSET", KEY, Change),
    row("HSETNX", KEY, SetFieldAbsent),
    row("HINCRBY", KEY, Change),
    row("HINCRBYFLOAT", KEY, Change),
    row("HDEL", KEY, Change),
    row("HGETDEL", KEY, FieldsTake),
    row("HSETEX", KEY, FieldsSetExpire),
    row("HGETEX", KEY, FieldsGetExpire),
    row("HEXPIRE", KEY, FieldsExpire(Clock::Seconds)),
    row("HPEXPIRE", KEY, FieldsExpire(Clock::Millis)),
    row("HEXPIREAT", KEY, FieldsExpire(Clock::AtSeconds)),
    row("HPEXPIREAT", KEY, FieldsExpire(Clock::AtMillis)),
    row("HPERSIST", KEY, FieldsPersist),
    // Sorted sets and places.
    row("ZADD", KEY, Change),
    row("ZINCRBY", KEY, Change),
    row("ZREM", KEY, Change),
    row("ZREMRANGEBYRANK", KEY, Change),
    row("ZREMRANGEBYSCORE", KEY, Change),
    row("ZREMRANGEBYLEX", KEY, Change),
    row("ZPOPMIN", KEY, PopScored),
    row("ZPOPMAX", KEY, PopScored),
    row("ZMPOP", numbered(1, 1), Uncertain),
    row("BZMPOP", numbered(2, 1), Uncertain),
    row("BZPOPMIN", ALL_BUT_LAST, Uncertain),
    row("BZPOPMAX", ALL_BUT_LAST, Uncertain),
    row("ZUNIONSTORE", StoreNumbered, Change),
    row("ZINTERSTORE", StoreNumbered, Change),
    row("ZDIFFSTORE", StoreNumbered, Change),
    row("ZRANGESTORE", Pair(Write, Read), Change),
    row("GEOADD", KEY, Change),
    row("GEORADIUS", Geo, Change),
    row("GEORADIUSBYMEMBER", Geo, Change),
    row("GEOSEARCHSTORE", Pair(Write, Read), Change),
    // Streams.
    row("XADD", KEY, AddEntry),
    row("XDEL", KEY, Change),
    row("XDELEX", KEY, DeleteEntries),
    row("XTRIM", KEY, TrimEntries),
    row("XSETID", KEY, SetLastId),
    row("XCFGSET", KEY, Change),
    row("XACK", KEY, Change),
    row("XACKDEL", KEY, AckEntries),
    row("XCLAIM", KEY, Claim),
    row("XAUTOCLAIM", KEY, Uncertain),
    row("XREADGROUP", Streams, Uncertain),
    row("XGROUP", At(2, Write), Group),
    // Vector sets.
    row("VADD", KEY, Change),
    row("VREM", KEY, Change),
    row("VSETATTR", KEY, Change),
    // Modules.
    row("JSON.SET", KEY, Change),
    row("JSON.MSET", TRIPLES, JsonSetMany),
    row("JSON.MERGE", KEY, Change),
    row("JSON.DEL", KEY, Change),
    row("JSON.FORGET", KEY, Change),
    row("JSON.CLEAR", KEY, Change),
    row("JSON.TOGGLE", KEY, Change),
    row("JSON.NUMINCRBY", KEY, Change),
    row("JSON.NUMMULTBY", KEY, Change),
    row("JSON.NUMPOWBY", KEY, Change),
    row("JSON.STRAPPEND", KEY, Change),
    row("JSON.ARRAPPEND", KEY, Change),
    row("JSON.ARRINSERT", KEY, Change),
    row("JSON.ARRPOP", KEY, Change),
    row("JSON.ARRTRIM", KEY, Change),
    row("TS.CREATE", KEY, Change),
    row("TS.ALTER", KEY, Change),
    row("TS.ADD", KEY, SeriesAdd),
    row("TS.MADD", TRIPLES, SeriesAddMany),
    row("TS.INCRBY", KEY, SeriesAddTo),
    row("TS.DECRBY", KEY, SeriesAddTo),
    row("TS.DEL", KEY, Change),
    row("TS.CREATERULE", Pair(Write, Write), Change),
    row("TS.DELETERULE", Pair(Write, Write), Change),
    row("BF.RESERVE", KEY, Change),
    row("BF.ADD", KEY, Change),
    row("BF.MADD", KEY, Change),
    row("BF.INSERT", KEY, Change),
    row("BF.LOADCHUNK", KEY, Uncertain),
    row("BF.LOAD", KEY, Uncertain),
    row("CF.RESERVE", KEY, Change),
    row("CF.ADD", KEY, Change),
    row("CF.ADDNX", KEY, Change),
    row("CF.INSERT", KEY, Change),
    row("CF.INSERTNX", KEY, Change),
    row("CF.DEL", KEY, Change),
    row("CF.COMPACT", KEY, Change),
    row("CF.LOADCHUNK", KEY, Uncertain),
    row("CMS.INITBYDIM", KEY, Change),
    row("CMS.INITBYPROB", KEY, Change),
    row("CMS.INCRBY", KEY, Change),
    row("CMS.MERGE", StoreNumbered, Change),
    // Counts decay at random.
    row("TOPK.RESERVE", KEY, Change),
    row("TOPK.ADD", KEY, Uncertain),
    row("TOPK.INCRBY", KEY, Uncertain),
    row("TDIGEST.CREATE", KEY, Change),
    row("TDIGEST.ADD", KEY, Change),
    row("TDIGEST.RESET", KEY, Change),
    row("TDIGEST.MERGE", StoreNumbered, Change),
];

const ROWS: usize = 181;
/// A power of two, some times the number of rows.
const PLACES: usize = 1024;

/// Open addressing: the number of a row and one, or 0.
static PLACES_OF_ROWS: [u8; PLACES] = place_rows();

const fn place_rows() -> [u8; PLACES] {
    assert!(
        ROWS < u8::MAX as usize,
        "the places would need wider numbers"
    );
    let mut places = [0; PLACES];
    let mut row = 0;
    while row < ROWS {
        let mut place = hash(SPECS[row].name.as_bytes());
        while places[place] != 0 {
            place = (place + 1) % PLACES;
        }
        row += 1;
        places[place] = row as u8;
    }
    places
}

/// Does not see the case of letters.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0_u32;
    let mut index = 0;
    while index < name.len() {
        hash = (hash ^ (name[index] | 0x20) as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    (hash ^ hash >> 15) as usize % PLACES
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut place = hash(name);
    // There are more places than rows: one is empty.
    while let Some(&row) = PLACES_OF_ROWS.get(place) {
        let spec = SPECS.get(usize::from(row).checked_sub(1)?)?;
        if name.eq_ignore_ascii_case(spec.name.as_bytes()) {
            return Some(spec);
        }
        place = (place + 1) % PLACES;
    }
    None
}

#[cfg(test)]
pub(super) fn rows() -> &'static [Spec] {
    &SPECS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        for spec in &SPECS {
            assert_eq!(spec.name, spec.name.to_ascii_uppercase());
            assert_eq!(find(spec.name.as_bytes()), Some(spec));
            assert_eq!(find(spec.name.to_ascii_lowercase().as_bytes()), Some(spec));
        }
        for other in [&b""[..], b"GET", b"SE", b"SETT", b"\xff\0", &[b'a'; 1000]] {
            assert_eq!(find(other), None);
        }
    }
}
