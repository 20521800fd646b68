//! The server versions that tests run against, and where their programs lie.
//!
//! `scripts/servers` fills the cache folder; this file only looks into it.

use std::fmt;
use std::path::PathBuf;

/// Who makes the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Redis.
    Redis,
    /// Valkey, which forked from Redis 7.2.
    Valkey,
}

/// A server version that tests can ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    family: Family,
    major: u16,
    minor: u16,
    release: Release,
}

/// Which point release of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Release {
    /// What its source serves.
    Usual,
    /// Another one, from a second source.
    Newest,
}

impl Version {
    /// Redis 6.0: no PEXPIRETIME, no functions, `*ziplist` encodings.
    pub const REDIS_6_0: Version = Version::new(Family::Redis, 6, 0);
    /// Redis 6.2.
    pub const REDIS_6_2: Version = Version::new(Family::Redis, 6, 2);
    /// Redis 7.0, one of the default two.
    pub const REDIS_7_0: Version = Version::new(Family::Redis, 7, 0);
    /// Redis 8.0, with expiring hash fields.
    pub const REDIS_8_0: Version = Version::new(Family::Redis, 8, 0);
    /// Another point release of Redis 8.0: its vector sets differ, what one of the two saves the
    /// other may refuse. Not in the cache folder when both sources serve the same release.
    pub const REDIS_8_0_NEWEST: Version = Version {
        release: Release::Newest,
        ..Version::REDIS_8_0
    };
    /// Redis 8.2.
    pub const REDIS_8_2: Version = Version::new(Family::Redis, 8, 2);
    /// Valkey 8.0, one of the default two.
    pub const VALKEY_8_0: Version = Version::new(Family::Valkey, 8, 0);
    /// Valkey 8.1.
    pub const VALKEY_8_1: Version = Version::new(Family::Valkey, 8, 1);
    /// Valkey 9.1, with expiring hash fields.
    pub const VALKEY_9_1: Version = Version::new(Family::Valkey, 9, 1);

    /// Every version a test may name, oldest first, Redis before Valkey.
    pub const ALL: [Version; 9] = [
        Version::REDIS_6_0,
        Version::REDIS_6_2,
        Version::REDIS_7_0,
        Version::REDIS_8_0,
        Version::REDIS_8_0_NEWEST,
        Version::REDIS_8_2,
        Version::VALKEY_8_0,
        Version::VALKEY_8_1,
        Version::VALKEY_9_1,
    ];
    /// The two that every machine that runs the tests must have.
    pub const DEFAULT: [Version; 2] = [Version::REDIS_7_0, Version::VALKEY_8_0];

    const fn new(family: Family, major: u16, minor: u16) -> Version {
        Version {
            family,
            major,
            minor,
            release: Release::Usual,
        }
    }

    /// Who makes it.
    pub fn family(self) -> Family {
        self.family
    }

    /// (major, minor) in the family's own counting.
    pub fn number(self) -> (u16, u16) {
        (self.major, self.minor)
    }

    /// True if it is of this family and at least this old in the family's own counting.
    pub fn is_at_least(self, family: Family, major: u16, minor: u16) -> bool {
        self.family == family && self.number() >= (major, minor)
    }

    /// True if it is Redis from this version on, or a Valkey, which has all that Redis 7.2 had.
    ///
    /// Only for what came with Redis 7.2 or before.
    pub fn has_redis_feature(self, major: u16, minor: u16) -> bool {
        assert!(
            (major, minor) <= (7, 2),
            "valkey follows redis up to 7.2 only"
        );
        self.family == Family::Valkey || self.number() >= (major, minor)
    }

    /// True if hash fields can expire: Redis >= 7.4, Valkey >= 9.0.
    pub fn has_field_ttls(self) -> bool {
        self.is_at_least(Family::Redis, 7, 4) || self.is_at_least(Family::Valkey, 9, 0)
    }

    /// True if `scripts/servers` found that another version of the table is the very same release.
    fn is_served_already(self) -> bool {
        cache_folder()
            .join(format!(".{self}.is-served-already"))
            .is_file()
    }

    /// True if its program is in the cache folder.
    pub fn available(self) -> bool {
        self.server_binary().is_file()
    }

    /// The versions of [`Version::ALL`] that are in the cache folder.
    pub fn all_available() -> Vec<Version> {
        Version::ALL
            .into_iter()
            .filter(|version| version.available())
            .collect()
    }

    /// Path of the server program, whether it is there or not.
    pub fn server_binary(self) -> PathBuf {
        self.folder().join("server")
    }

    /// Path of the command line client; some versions come without one.
    pub fn cli_binary(self) -> Option<PathBuf> {
        Some(self.folder().join("cli")).filter(|path| path.is_file())
    }

    /// Path of the load generator; some versions come without one.
    pub fn benchmark_binary(self) -> Option<PathBuf> {
        Some(self.folder().join("benchmark")).filter(|path| path.is_file())
    }

    /// The version's folder in the cache: `$KEYHAUL_SERVERS`, else
    /// `$XDG_CACHE_HOME/keyhaul/servers`, else `~/.cache/keyhaul/servers`.
    pub fn folder(self) -> PathBuf {
        cache_folder().join(self.to_string())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Redis => "redis",
            Family::Valkey => "valkey",
        };
        let release = match self.release {
            Release::Usual => "",
            Release::Newest => "-newest",
        };
        write!(f, "{family}-{}.{}{release}", self.major, self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// True if the version is there; else says loudly that the test is skipped.
///
/// # Panics
/// If one of [`Version::DEFAULT`] is missing: no machine may skip those. In CI
/// (`KEYHAUL_REQUIRE_SERVERS` set to `all`), if any is missing.
pub fn require(version: Version) -> bool {
    if version.available() {
        return true;
    }
    if version.is_served_already() {
        eprintln!("SKIPPED: {version} is a release that another version stands for");
        return false;
    }
    let required = std::env::var("KEYHAUL_REQUIRE_SERVERS").is_ok_and(|value| value == "all");
    if required || Version::DEFAULT.contains(&version) {
        panic!(
            "needs {version}, which is not in {} (scripts/servers)",
            cache_folder().display()
        );
    }
    eprintln!("SKIPPED: needs {version} (scripts/servers all)");
    false
}

fn cache_folder() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("KEYHAUL_SERVERS")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("keyhaul/servers")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/keyhaul/servers")))
        .expect("KEYHAUL_SERVERS, XDG_CACHE_HOME or HOME is set")
}
