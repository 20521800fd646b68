//! Tries which commands a user may run, without doing anything: reads on a key that nobody has, writes
//! that cannot succeed, and writes in a transaction that is never executed. For the plan.
//!
//! A server looks at rights before it runs a command, and before it puts one into a transaction (Redis
//! 6.0 to 8.2, Valkey 8 and 9). So whatever it answers but a refusal means that the command is permitted.
//! A refusal is noted in its ACL LOG.

use keyhaul_resp::{Value, encode};

use crate::error::{ClientError, ServerError};
use crate::reads::ReadConnection;
use crate::target::TargetConnection;

/// The answer to a command that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// This user may run it.
    Permitted,
    /// This user may run it, but not on the key of the try: only certain keys are within reach.
    KeyOutOfReach,
    /// This user may not run it.
    Forbidden(ServerError),
    /// The server has no such command, or no more.
    Absent,
    /// It cannot be tried without MULTI, which this user may not run.
    Unknown,
}

/// A key that exists nowhere; only the answer to a command matters.
const NO_KEY: &[u8] = b"keyhaul:no-such-key";
/// The same among the names of staging keys, which the writes of a big key go to.
const NO_STAGING_KEY: &[u8] = b"keyhaul:staging:no-such-key";
const KEY: &str = "KEY";

/// The reading commands that can be tried: the right as `ACL SETUSER` names it, and the command. Those
/// that change the state of the connection come last.
pub const READS: &[(&str, &str)] = &[
    ("ping", "PING"),
    ("select", "SELECT 0"),
    ("scan", "SCAN 0 COUNT 1"),
    ("dump", "DUMP KEY"),
    ("pexpiretime", "PEXPIRETIME KEY"),
    ("pttl", "PTTL KEY"),
    ("time", "TIME"),
    ("type", "TYPE KEY"),
    ("exists", "EXISTS KEY"),
    ("memory|usage", "MEMORY USAGE KEY"),
    ("info", "INFO server"),
    ("config|get", "CONFIG GET databases"),
    ("role", "ROLE"),
    ("dbsize", "DBSIZE"),
    ("module|list", "MODULE LIST"),
    ("function|list", "FUNCTION LIST LIBRARYNAME no_such_library"),
    ("client|setname", "CLIENT SETNAME keyhaul"),
    ("cluster|slots", "CLUSTER SLOTS"),
    ("cluster|nodes", "CLUSTER NODES"),
    ("strlen", "STRLEN KEY"),
    ("llen", "LLEN KEY"),
    ("scard", "SCARD KEY"),
    ("zcard", "ZCARD KEY"),
    ("hlen", "HLEN KEY"),
    ("xlen", "XLEN KEY"),
    ("getrange", "GETRANGE KEY 0 0"),
    ("lrange", "LRANGE KEY 0 0"),
    ("sscan", "SSCAN KEY 0"),
    ("zrange", "ZRANGE KEY 0 0"),
    ("hscan", "HSCAN KEY 0"),
    ("hpexpiretime", "HPEXPIRETIME KEY FIELDS 1 f"),
    ("xrange", "XRANGE KEY - + COUNT 1"),
    ("xrevrange", "XREVRANGE KEY + - COUNT 1"),
    ("xpending", "XPENDING KEY g"),
    ("xinfo", "XINFO STREAM KEY"),
    ("client|tracking", "CLIENT TRACKING OFF"),
    ("asking", "ASKING"),
    ("watch", "WATCH KEY"),
    ("unwatch", "UNWATCH"),
    ("multi", "MULTI"),
    ("exec", "EXEC"),
];

/// Writing commands that cannot succeed as they stand here, and so can be tried, likewise: a payload and a
/// library that are none.
pub const FAILING_WRITES: &[(&str, &str)] = &[
    ("restore", "RESTORE KEY 0 x"),
    ("function|load", "FUNCTION LOAD x"),
];

/// The writing commands that can be tried inside of a transaction, likewise.
pub const WRITES: &[(&str, &str)] = &[
    ("set", "SET KEY x"),
    ("setrange", "SETRANGE KEY 0 x"),
    ("rpush", "RPUSH KEY x"),
    ("ltrim", "LTRIM KEY 0 -1"),
    ("sadd", "SADD KEY x"),
    ("zadd", "ZADD KEY 1 x"),
    ("hset", "HSET KEY f x"),
    ("hdel", "HDEL KEY f"),
    ("hpexpireat", "HPEXPIREAT KEY 1 FIELDS 1 f"),
    ("xadd", "XADD KEY * f x"),
    ("xdel", "XDEL KEY 1-1"),
    ("xtrim", "XTRIM KEY MAXLEN 1"),
    ("xsetid", "XSETID KEY 1-1"),
    ("xgroup", "XGROUP CREATE KEY g 0"),
    ("xclaim", "XCLAIM KEY g c 0 1-1"),
    ("unlink", "UNLINK KEY"),
    ("rename", "RENAME KEY KEY"),
    ("renamenx", "RENAMENX KEY KEY"),
    ("persist", "PERSIST KEY"),
    ("pexpire", "PEXPIRE KEY 1"),
    ("pexpireat", "PEXPIREAT KEY 1"),
];

impl ReadConnection {
    /// Tries [`READS`], in their order; of those whose names are not `wanted` nothing is sent. The
    /// connection may be inside of a transaction afterwards, and is of no further use.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn try_reads(
        mut self,
        wanted: &[&str],
    ) -> Result<Vec<(&'static str, Tried)>, ClientError> {
        self.try_each(READS, wanted, NO_KEY).await
    }

    async fn try_each(
        &mut self,
        commands: &'static [(&'static str, &'static str)],
        wanted: &[&str],
        key: &[u8],
    ) -> Result<Vec<(&'static str, Tried)>, ClientError> {
        let sent = commands.iter().filter(|(name, _)| wanted.contains(name));
        let sent: Vec<_> = sent.copied().collect();
        for (_, command) in &sent {
            let word = |word| match word {
                KEY => key,
                word => str::as_bytes(word),
            };
            let args: Vec<&[u8]> = command.split(' ').map(word).collect();
            encode::command(self.connection.output(), &args);
        }
        self.connection.flush().await?;
        let mut answers = Vec::with_capacity(sent.len());
        for (name, _) in sent {
            let answer = self.connection.value().await?;
            answers.push((name, judge(&answer)));
        }
        Ok(answers)
    }
}

impl TargetConnection {
    /// Tries [`FAILING_WRITES`], and [`WRITES`] inside of a transaction that ends with the connection, as
    /// [`ReadConnection::try_reads`] does. The key of the latter is one among the names of staging keys.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn try_writes(
        mut self,
        wanted: &[&str],
    ) -> Result<Vec<(&'static str, Tried)>, ClientError> {
        let mut answers = self
            .reads()
            .try_each(FAILING_WRITES, wanted, NO_KEY)
            .await?;
        match self.raw().call(&[b"MULTI"]).await {
            Ok(_) => {
                let queued = self.reads().try_each(WRITES, wanted, NO_STAGING_KEY);
                answers.extend(queued.await?);
            }
            Err(ClientError::Server { .. }) => {
                let names = WRITES.iter().filter(|(name, _)| wanted.contains(name));
                answers.extend(names.map(|(name, _)| (*name, Tried::Unknown)));
            }
            Err(e) => return Err(e),
        }
        Ok(answers)
    }
}

fn judge(answer: &Value) -> Tried {
    let Value::Error(text) = answer else {
        return Tried::Permitted;
    };
    let error = ServerError::new(text.clone());
    if error.forbids_key() {
        return Tried::KeyOutOfReach;
    }
    // What a forbidden EXEC answers (Redis 6.0 and later, Valkey).
    let is_discarded = error.code() == b"EXECABORT" && error.mentions("NOPERM");
    if error.is_forbidden() || is_discarded {
        return Tried::Forbidden(error);
    }
    match error.mentions("unknown command") || error.mentions("unknown subcommand") {
        true => Tried::Absent,
        false => Tried::Permitted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_say() {
        let error = |text: &'static str| Value::Error(text.into());
        let forbidden = "NOPERM User mover has no permissions to run the 'get' command";
        let of_access_user = "NOPERM User data-access has no permissions to run the 'dump' command";
        let discarded = "EXECABORT Transaction discarded because of: NOPERM User mover has no \
                         permissions to run the 'exec' command";
        let rows = [
            (Value::Null, Tried::Permitted),
            (error("ERR no such key"), Tried::Permitted),
            (error("MOVED 1 h:1"), Tried::Permitted),
            (error("OOM command not allowed"), Tried::Permitted),
            (
                error(forbidden),
                Tried::Forbidden(ServerError::new(forbidden.into())),
            ),
            (
                error(of_access_user),
                Tried::Forbidden(ServerError::new(of_access_user.into())),
            ),
            (
                error(discarded),
                Tried::Forbidden(ServerError::new(discarded.into())),
            ),
            (error("EXECABORT Transaction discarded"), Tried::Permitted),
            (
                error("NOPERM No permissions to access a key"),
                Tried::KeyOutOfReach,
            ),
            (
                error(
                    "NOPERM User access has no permissions to access one of the keys used as arguments",
                ),
                Tried::KeyOutOfReach,
            ),
            (
                error(
                    "NOPERM this user has no permissions to access one of the keys used as arguments",
                ),
                Tried::KeyOutOfReach,
            ),
            (error("ERR unknown command 'HPEXPIRETIME'"), Tried::Absent),
            (
                error("ERR unknown subcommand or wrong number of arguments for 'USAGE'"),
                Tried::Absent,
            ),
        ];
        for (answer, expected) in rows {
            assert_eq!(judge(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn each_command_stands_once() {
        let mut names: Vec<&str> = [READS, FAILING_WRITES, WRITES]
            .into_iter()
            .flatten()
            .map(|(name, _)| *name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
