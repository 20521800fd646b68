//! What can be found out about a server without rights of an administrator: family, version, role,
//! memory, clock. What is forbidden or missing is noted as one plain line and left open.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::error::{ClientError, ServerError};
use crate::reads::ReadConnection;

/// The two families of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Redis, and services that call themselves so.
    Redis,
    /// Valkey.
    Valkey,
}

/// A server version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number.
    pub patch: u16,
}

impl Version {
    /// Parses `7.0.15`; what follows the third number is left aside.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u16>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Self {
            major: next()?,
            minor: next()?,
            patch: next().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Primary or replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary.
    Replica,
}

/// Something that could not be asked, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// The command.
    pub command: &'static str,
    /// What the server answered.
    pub answer: String,
    /// What we do without it.
    pub consequence: &'static str,
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not available ({}): {}",
            self.command, self.answer, self.consequence
        )
    }
}

/// The facts about one server.
#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    /// Which family, if it could be told.
    pub family: Option<Family>,
    /// Its version, if it could be told.
    pub version: Option<Version>,
    /// Primary or replica, if it could be told.
    pub role: Option<Role>,
    /// Identifies the running process; a restart changes it.
    pub run_id: Option<String>,
    /// Bytes of memory in use.
    pub used_memory: Option<u64>,
    /// Bytes of that which hold keys, values and the tables of keys, without what the server needs for itself, its
    /// replicas and its clients.
    pub dataset_memory: Option<u64>,
    /// Bytes of memory of its machine.
    pub machine_memory: Option<u64>,
    /// Configured memory limit in bytes; 0: none.
    pub max_memory: Option<u64>,
    /// `noeviction`, `allkeys-lru`, ...
    pub eviction_policy: Option<String>,
    /// Keys per db, where INFO told them.
    pub keyspace: Option<Vec<(u32, u64)>>,
    /// Longest argument that the server takes, bytes.
    pub bulk_len_max: Option<u64>,
    /// Longest command that the server takes, bytes.
    pub query_buffer_max: Option<u64>,
    /// Number of dbs.
    pub db_count: Option<u32>,
    /// The server's clock minus ours, ms; exact to half of `round_trip_ms`.
    pub clock_ahead_ms: Option<f64>,
    /// The shortest round trip seen, ms.
    pub round_trip_ms: Option<f64>,
    /// RESP3 is spoken.
    pub resp3: bool,
    /// Why it takes no writes at present, where one was tried.
    pub refuses_writes: Option<ServerError>,
    /// What could not be asked.
    pub degraded: Vec<Degraded>,
}

impl ServerFacts {
    /// Asks one server.
    ///
    /// # Errors
    /// Those of the connection; a refusal is noted in `degraded` instead.
    pub async fn gather(connection: &mut ReadConnection) -> Result<Self, ClientError> {
        let mut facts = Self::default();
        facts.take_greeting(connection);
        facts.measure_clock(connection).await?;
        match allow_refusal(connection.info(None).await)? {
            Ok(info) => facts.take_info(&info),
            Err(e) => facts.lacks("INFO", &e, "sizes, run id and memory limits are unknown"),
        }
        match allow_refusal(connection.config("proto-max-bulk-len").await)? {
            Ok(value) => facts.bulk_len_max = value.and_then(|v| v.parse().ok()),
            Err(e) => facts.lacks("CONFIG", &e, "the server's default limits are assumed"),
        }
        if let Ok(value) = allow_refusal(connection.config("client-query-buffer-limit").await)? {
            facts.query_buffer_max = value.and_then(|v| v.parse().ok());
        }
        if let Ok(value) = allow_refusal(connection.config("databases").await)? {
            facts.db_count = value.and_then(|v| v.parse().ok());
        }
        if facts.role.is_none()
            && let Ok(role) = allow_refusal(connection.role().await)?
        {
            facts.role = Some(if role == "master" {
                Role::Primary
            } else {
                Role::Replica
            });
        }
        Ok(facts)
    }

    /// Notes a refusal.
    pub fn lacks(&mut self, command: &'static str, error: &ServerError, consequence: &'static str) {
        let answer = error.to_string();
        self.degraded.push(Degraded {
            command,
            answer,
            consequence,
        });
    }

    /// `Redis 7.0.15`, or what is known of it.
    pub fn product(&self) -> String {
        let family = match self.family {
            Some(Family::Redis) => "Redis",
            Some(Family::Valkey) => "Valkey",
            None => "a server of unknown family",
        };
        self.version.map_or_else(
            || family.to_owned(),
            |version| format!("{family} {version}"),
        )
    }

    /// By which policy it evicts keys when it is above which limit, bytes; `None`: it evicts none, or does not tell.
    pub fn evicts_by(&self) -> Option<(&str, u64)> {
        let policy = self.eviction_policy.as_deref()?;
        let limit = self.max_memory.filter(|limit| *limit > 0)?;
        (policy != "noeviction").then_some((policy, limit))
    }

    fn take_greeting(&mut self, connection: &ReadConnection) {
        let greeting = connection.greeting();
        self.resp3 = greeting.resp3;
        self.version = greeting.version.as_deref().and_then(Version::parse);
        self.family = match greeting.server.as_deref() {
            Some("valkey") => Some(Family::Valkey),
            Some("redis") => Some(Family::Redis),
            _ => None,
        };
        self.role = match greeting.role.as_deref() {
            Some("master") => Some(Role::Primary),
            Some("replica" | "slave") => Some(Role::Replica),
            _ => None,
        };
        if greeting.name_refused {
            self.degraded.push(Degraded {
                command: "CLIENT SETNAME",
                answer: "refused".into(),
                consequence: "CLIENT LIST shows our connections without a name",
            });
        }
    }

    /// The difference of the clocks from the quickest of a few round trips.
    async fn measure_clock(&mut self, connection: &mut ReadConnection) -> Result<(), ClientError> {
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let (asked, asked_at) = (Instant::now(), unix_ms());
            let server_us = match allow_refusal(connection.time_us().await)? {
                Ok(us) => us,
                Err(e) => {
                    self.lacks("TIME", &e, "the difference of the clocks is unknown");
                    return Ok(());
                }
            };
            let round_trip_ms = asked.elapsed().as_secs_f64() * 1000.0;
            if self.round_trip_ms.is_none_or(|best| round_trip_ms < best) {
                self.round_trip_ms = Some(round_trip_ms);
                let server_ms = server_us as f64 / 1000.0;
                self.clock_ahead_ms = Some(server_ms - (asked_at + round_trip_ms / 2.0));
            }
        }
        Ok(())
    }

    fn take_info(&mut self, info: &str) {
        let mut keyspace = Vec::new();
        let mut valkey = None;
        let (mut at_start, mut of_others) = (None, 0_u64);
        for (name, value) in info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
        {
            match name {
                "redis_version" => self.version = Version::parse(value).or(self.version),
                "valkey_version" => valkey = Version::parse(value),
                "run_id" => self.run_id = Some(value.to_owned()),
                "role" if value == "master" => self.role = Some(Role::Primary),
                "role" => self.role = Some(Role::Replica),
                "used_memory" => self.used_memory = value.parse().ok(),
                "used_memory_dataset" => self.dataset_memory = value.parse().ok(),
                "used_memory_startup" => at_start = value.parse().ok(),
                "mem_replication_backlog"
                | "mem_clients_slaves"
                | "mem_clients_normal"
                | "mem_aof_buffer" => {
                    of_others = of_others.saturating_add(value.parse().unwrap_or(0));
                }
                "total_system_memory" => self.machine_memory = value.parse().ok(),
                "maxmemory" => self.max_memory = value.parse().ok(),
                "maxmemory_policy" => self.eviction_policy = Some(value.to_owned()),
                _ => keyspace.extend(keyspace_line(name, value)),
            }
        }
        // `used_memory_dataset` leaves out the tables of keys, which may be most of it where values are small.
        if let (Some(used), Some(at_start)) = (self.used_memory, at_start) {
            self.dataset_memory = Some(used.saturating_sub(at_start).saturating_sub(of_others));
        }
        self.family = Some(if valkey.is_some() {
            Family::Valkey
        } else {
            Family::Redis
        });
        self.version = valkey.or(self.version);
        if info.contains("# Keyspace") {
            self.keyspace = Some(keyspace);
        }
    }
}

/// `db0:keys=5,expires=1,...`
pub(crate) fn keyspace_line(name: &str, value: &str) -> Option<(u32, u64)> {
    let db = name.strip_prefix("db")?.parse().ok()?;
    let keys = value
        .split(',')
        .find_map(|field| field.strip_prefix("keys="))?;
    Some((db, keys.parse().ok()?))
}

/// Sorts the refusals of a server out from broken connections and passing conditions.
pub(crate) fn allow_refusal<T>(
    result: Result<T, ClientError>,
) -> Result<Result<T, ServerError>, ClientError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(ClientError::Server { error, .. }) if error.action() == crate::Action::GiveUp => {
            Ok(Err(error))
        }
        Err(e) => Err(e),
    }
}

fn unix_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_both_families() {
        let mut facts = ServerFacts::default();
        facts.take_info(
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n\
             run_id:abc\r\nrole:master\r\nused_memory:900\r\nused_memory_dataset:700\r\nmaxmemory:0\r\n\
             maxmemory_policy:allkeys-lru\r\n# Keyspace\r\ndb0:keys=5,expires=1\r\ndb11:keys=7\r\n",
        );
        assert_eq!(facts.product(), "Valkey 8.0.1");
        assert_eq!(facts.keyspace, Some(vec![(0, 5), (11, 7)]));
        assert_eq!(
            (facts.used_memory, facts.dataset_memory),
            (Some(900), Some(700))
        );
        assert_eq!(facts.role, Some(Role::Primary));
        facts.take_info(
            "used_memory:900\r\nused_memory_startup:300\r\nused_memory_dataset:50\r\n\
             mem_replication_backlog:100\r\nmem_clients_slaves:0\r\nmem_clients_normal:20\r\n",
        );
        assert_eq!(facts.dataset_memory, Some(480));
        let mut facts = ServerFacts::default();
        facts.take_info("redis_version:6.0.16\r\nrole:slave\r\n");
        assert_eq!(facts.product(), "Redis 6.0.16");
        assert_eq!((facts.role, facts.keyspace), (Some(Role::Replica), None));
    }
}
