//! What a command of a stream is, for whoever applies it.

use super::Args;
use super::table::{Does, Spec, find};

/// What a command of a stream is. Seen on all servers: names come in capitals or not (`set` out of scripts, `zadd` for
/// GEOADD, `ping`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What follows is for another db: see [`selected_db`].
    Select,
    /// What follows, up to EXEC, is one step.
    Multi,
    /// The end of it.
    Exec,
    /// Nothing for the target: PING, CLUSTER, what REPLCONF says beside GETACK.
    Nothing,
    /// The source asks how far we are.
    GetAck,
    /// All keys of the db, or of all dbs, of what the source's node owns, are gone.
    Flush {
        /// All dbs.
        all: bool,
    },
    /// The keys of these slots are gone: CLUSTER FLUSHSLOT of Valkey 9.1, TRIMSLOTS of Redis 8.4.
    EmptySlots,
    /// Two dbs change places.
    SwapDb,
    /// A message, no data.
    Publish {
        /// To subscribers of one shard.
        sharded: bool,
    },
    /// FUNCTION LOAD, DELETE, FLUSH, RESTORE: data of the whole server, without keys. Redis 7.0 and newer.
    Function,
    /// SCRIPT LOAD, FLUSH: of Redis before 7.0 (seen on 6.0 and 6.2; not on 7.0 and newer).
    Script,
    /// A script, with the keys that it names; it may write others. Of Redis before 7.0 where effects are not replicated
    /// (5.0 by default; 6.0 and 6.2 with `lua-replicate-commands no`). Newer ones send what the script did (seen).
    Eval(&'static Spec),
    /// Writes keys.
    Keys(&'static Spec),
    /// Not in the table: a module's, or a newer server's.
    Unknown,
}

/// What the command is.
pub(crate) fn lookup(args: &Args<'_>) -> Kind {
    let Some(spec) = find(args.name()) else {
        return Kind::Unknown;
    };
    match spec.does {
        Does::Select => Kind::Select,
        Does::Multi => Kind::Multi,
        Does::Exec => Kind::Exec,
        Does::Nothing => Kind::Nothing,
        Does::Replconf if args.is(1, "GETACK") => Kind::GetAck,
        Does::Replconf => Kind::Nothing,
        Does::Cluster if args.is(1, "FLUSHSLOT") => Kind::EmptySlots,
        Does::Cluster => Kind::Nothing,
        Does::TrimSlots => Kind::EmptySlots,
        Does::FlushDb => Kind::Flush { all: false },
        Does::FlushAll => Kind::Flush { all: true },
        Does::SwapDb => Kind::SwapDb,
        Does::Publish => Kind::Publish { sharded: false },
        Does::PublishSharded => Kind::Publish { sharded: true },
        Does::Function => Kind::Function,
        Does::Script => Kind::Script,
        Does::Eval => Kind::Eval(spec),
        _ => Kind::Keys(spec),
    }
}

/// The db that [`Kind::Select`] names; `None`: it is malformed.
pub(crate) fn selected_db(args: &Args<'_>) -> Option<u32> {
    db(args, 1)
}

pub(super) fn db(args: &Args<'_>, index: usize) -> Option<u32> {
    u32::try_from(args.integer(index)?).ok()
}
