//! What only a plan asks a server: modules, persistence, replication, traffic, round trips. What is
//! forbidden or missing stays open.

use std::time::Instant;

use keyhaul_resp::Value;

use crate::error::ClientError;
use crate::reads::ReadConnection;

/// A module that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModule {
    /// Its name, as it calls itself.
    pub name: String,
    /// Its version, a number of the module's own counting.
    pub version: Option<i64>,
}

/// One class of `client-output-buffer-limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimit {
    /// A client above is cut off at once, bytes; 0: no limit.
    pub hard_bytes: u64,
    /// A client above for `soft_seconds` is cut off, bytes; 0: no limit.
    pub soft_bytes: u64,
    /// How long.
    pub soft_seconds: u64,
}

/// What is beyond [`crate::ServerFacts`]; `None` where the server does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerDetails {
    /// The modules.
    pub modules: Option<Vec<LoadedModule>>,
    /// When it saves an RDB, as its option `save` says; empty: never by itself.
    pub save_points: Option<String>,
    /// Whether it writes an append-only file.
    pub append_only: Option<bool>,
    /// How many replicas are attached.
    pub replicas: Option<u64>,
    /// Bytes of its replication stream that it remembers for replicas that come back.
    pub backlog_bytes: Option<u64>,
    /// How much may wait to be read by a replica.
    pub replica_buffer: Option<BufferLimit>,
    /// The median of some round trips of PING, ms.
    pub round_trip_ms: Option<f64>,
}

/// What went over a server's wires since it started; differences tell rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of its replication stream; `None` while it keeps none, for nobody replicates.
    pub repl_offset: Option<u64>,
    /// Bytes that clients sent.
    pub input_bytes: Option<u64>,
}

impl ServerDetails {
    /// Asks one server.
    ///
    /// # Errors
    /// Those of the connection; an answer that is an error leaves open what was asked.
    pub async fn gather(connection: &mut ReadConnection) -> Result<Self, ClientError> {
        let mut details = Self {
            modules: connection.modules().await?,
            round_trip_ms: connection.round_trip_ms().await?,
            ..Self::default()
        };
        if let Some(info) = answer(connection.info(None).await)? {
            let number = |name| field(&info, name).and_then(|value| value.parse().ok());
            details.append_only = number("aof_enabled").map(|on: u64| on > 0);
            details.replicas = number("connected_slaves");
            details.backlog_bytes = number("repl_backlog_size");
        }
        details.save_points = answer(connection.config("save").await)?.flatten();
        let buffers = connection.config("client-output-buffer-limit").await;
        let buffers = answer(buffers)?.flatten();
        details.replica_buffer = buffers.as_deref().and_then(replica_buffer);
        Ok(details)
    }
}

impl ReadConnection {
    /// The modules that are loaded; `None`: the server does not tell.
    ///
    /// # Errors
    /// Any but a refusal.
    pub async fn modules(&mut self) -> Result<Option<Vec<LoadedModule>>, ClientError> {
        let reply = answer(self.connection.call(&[b"MODULE", b"LIST"]).await)?;
        Ok(reply.map(|reply| loaded_modules(&reply)))
    }

    /// Whether any module is loaded that may have types; `None`: the server does not tell. Vector sets of
    /// Redis 8 are a module to some versions and built in to others, so they do not count.
    ///
    /// # Errors
    /// Any but a refusal.
    pub async fn has_modules(&mut self) -> Result<Option<bool>, ClientError> {
        let modules = self.modules().await?;
        Ok(modules.map(|modules| modules.iter().any(LoadedModule::may_have_types)))
    }

    /// What went over the wires so far; nothing where INFO is forbidden.
    ///
    /// # Errors
    /// Any but a refusal.
    pub async fn traffic(&mut self) -> Result<Traffic, ClientError> {
        let Some(info) = answer(self.info(None).await)? else {
            return Ok(Traffic::default());
        };
        Ok(Traffic::of_info(&info))
    }

    /// The median of some round trips, ms; `None` where PING is answered with an error: a server that cannot
    /// save may refuse it too.
    async fn round_trip_ms(&mut self) -> Result<Option<f64>, ClientError> {
        const TRIES: usize = 9;
        let mut times_ms = Vec::with_capacity(TRIES);
        for _ in 0..TRIES {
            let asked = Instant::now();
            if answer(self.connection.call(&[b"PING"]).await)?.is_none() {
                return Ok(None);
            }
            times_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        times_ms.sort_by(f64::total_cmp);
        Ok(times_ms.get(TRIES / 2).copied())
    }
}

/// What was answered; `None`: an error. A plan does not depend on it, and does not wait either.
fn answer<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ClientError::Server { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The name of the vector sets of Redis 8 among modules.
const VECTOR_SETS: &str = "vectorset";
/// The engine of scripts, a module since Valkey 9.1. It has no types of keys.
const SCRIPTS: &str = "lua";

impl LoadedModule {
    /// Whether another server may lack types of keys with it. Vector sets are told by the version of a server.
    pub fn may_have_types(&self) -> bool {
        self.name != VECTOR_SETS && self.name != SCRIPTS
    }
}

impl Traffic {
    fn of_info(info: &str) -> Self {
        let number = |name| field(info, name).and_then(|value| value.parse().ok());
        // Without a backlog the offset does not count bytes: it stands still, or counts commands (7.0).
        let counts_bytes = number("repl_backlog_active").is_some_and(|active| active > 0);
        Self {
            repl_offset: number("master_repl_offset").filter(|_| counts_bytes),
            input_bytes: number("total_net_input_bytes"),
        }
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'));
    lines.find(|(n, _)| *n == name).map(|(_, value)| value)
}

/// The reply to MODULE LIST: a map each (RESP3), or a list of names and values.
fn loaded_modules(reply: &Value) -> Vec<LoadedModule> {
    let one = |module: &Value| {
        let (mut name, mut version) = (None, None);
        for (field, value) in module.pairs()? {
            match field.as_bytes().map(|field| field.as_ref()) {
                Some(b"name") => name = value.as_bytes().cloned(),
                Some(b"ver") => version = value.as_int(),
                _ => {}
            }
        }
        Some(LoadedModule {
            name: String::from_utf8_lossy(&name?).into_owned(),
            version,
        })
    };
    let modules = reply.as_list().unwrap_or_default();
    modules.iter().filter_map(one).collect()
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub ...`; `replica` since Redis 7.2 in some answers.
fn replica_buffer(text: &str) -> Option<BufferLimit> {
    let mut words = text.split_whitespace();
    words.find(|word| matches!(*word, "slave" | "replica"))?;
    let mut number = || words.next()?.parse().ok();
    Some(BufferLimit {
        hard_bytes: number()?,
        soft_bytes: number()?,
        soft_seconds: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn modules_in_both_shapes() {
        // As Redis 8.2 with a graph module answers (the values are those of its own list).
        let fields = vec![
            (text("name"), text("graph")),
            (text("ver"), Value::Int(41_406)),
            (text("path"), text("/a/falkordb.so")),
            (
                text("args"),
                Value::Array(vec![text("CMD_INFO"), text("no")]),
            ),
        ];
        let flat = fields
            .iter()
            .flat_map(|(name, value)| [name.clone(), value.clone()]);
        let expected = vec![LoadedModule {
            name: "graph".into(),
            version: Some(41_406),
        }];
        for module in [Value::Map(fields.clone()), Value::Array(flat.collect())] {
            let reply = Value::Array(vec![module]);
            assert_eq!(loaded_modules(&reply), expected, "{reply:?}");
        }
        for nothing in [Value::Array(vec![]), Value::Null, Value::Int(1)] {
            assert_eq!(loaded_modules(&nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn what_is_built_in_has_no_types_of_its_own() {
        for (name, expected) in [("vectorset", false), ("lua", false), ("graph", true)] {
            let module = LoadedModule {
                name: name.into(),
                version: None,
            };
            assert_eq!(module.may_have_types(), expected, "{name}");
        }
    }

    #[test]
    fn limits_of_buffers() {
        let limit = |hard_bytes, soft_bytes, soft_seconds| BufferLimit {
            hard_bytes,
            soft_bytes,
            soft_seconds,
        };
        let rows = [
            (
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
                Some(limit(256 << 20, 64 << 20, 60)),
            ),
            ("normal 0 0 0 replica 0 0 0", Some(limit(0, 0, 0))),
            ("normal 0 0 0 slave 1 2", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(replica_buffer(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_offset_counts_bytes_only_with_a_backlog() {
        let info = |active| {
            format!(
                "total_net_input_bytes:9\r\nmaster_repl_offset:77\r\nrepl_backlog_active:{active}\r\n"
            )
        };
        let traffic = |repl_offset| Traffic {
            repl_offset,
            input_bytes: Some(9),
        };
        assert_eq!(Traffic::of_info(&info(1)), traffic(Some(77)));
        assert_eq!(Traffic::of_info(&info(0)), traffic(None));
        assert_eq!(Traffic::of_info(""), Traffic::default());
    }
}
