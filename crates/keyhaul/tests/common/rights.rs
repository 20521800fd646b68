//! Servers with users of exact rights, and what is said about a right that is missing.

use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Cluster, Dataset, Server, Version};

use super::copying::{Ran, key_count};

pub(crate) const LOGIN: [&str; 8] = [
    "--source-user",
    "mover",
    "--source-pass",
    "secret",
    "--target-user",
    "mover",
    "--target-pass",
    "secret",
];

pub(crate) fn dataset() -> Dataset {
    Dataset {
        seed: 71,
        keys: 400,
        dbs: vec![0, 3],
        ..Dataset::default()
    }
}

pub(crate) fn rules(rights: &str) -> String {
    format!("on >secret ~* -@all {rights}")
}

/// A server with a user of exactly these rights.
pub(crate) fn server(version: Version, rights: &str) -> Server {
    Server::builder(version)
        .acl_user("mover", &rules(rights))
        .start()
}

pub(crate) fn cluster(version: Version, rights: &str) -> Cluster {
    let user = format!("mover {}", rules(rights));
    Cluster::builder(version)
        .primaries(2)
        .arg("user", user)
        .start()
}

pub(crate) fn assert_equal(source: &Server, target: &Server) {
    diff::assert_equal(&View::server(source), &View::server(target));
}

/// The rights without which nothing goes: of a source and of a target, by version and verification.
pub(crate) struct Least {
    pub(crate) source_version: Version,
    pub(crate) target_version: Version,
    pub(crate) verify: &'static str,
    pub(crate) source: &'static str,
    pub(crate) target: &'static str,
}

pub(crate) const LEAST: &[Least] = &[
    Least {
        source_version: Version::REDIS_7_0,
        target_version: Version::VALKEY_8_0,
        verify: "quick",
        source: "+select +scan +dump +pexpiretime +type",
        target: "+select +restore +pexpiretime +type",
    },
    Least {
        source_version: Version::REDIS_7_0,
        target_version: Version::VALKEY_8_0,
        verify: "none",
        source: "+select +scan +dump +pexpiretime",
        target: "+select +restore",
    },
    // No PEXPIRETIME before 7.0.
    Least {
        source_version: Version::REDIS_6_2,
        target_version: Version::REDIS_6_2,
        verify: "quick",
        source: "+select +scan +dump +pttl +time +type",
        target: "+select +restore +pttl +time +type",
    },
    Least {
        source_version: Version::REDIS_6_2,
        target_version: Version::REDIS_8_2,
        verify: "none",
        source: "+select +scan +dump +pttl +time",
        target: "+select +restore",
    },
    Least {
        source_version: Version::REDIS_8_2,
        target_version: Version::REDIS_8_2,
        verify: "quick",
        source: "+select +scan +dump +pexpiretime +type",
        target: "+select +restore +pexpiretime +type",
    },
];

/// Refused in one line that names the side and the command; nothing was written.
#[track_caller]
pub(crate) fn assert_refused(ran: Ran, target: &Server, side: &str, right: &str) {
    assert_eq!(
        ran.outcome.code,
        Some(3),
        "{side} without {right}: {ran:#?}"
    );
    let line = ran.outcome.stderr.to_lowercase();
    for text in [side, right.trim_start_matches('+')] {
        assert!(line.contains(text), "{side} without {right}: {ran:#?}");
    }
    assert_eq!(line.lines().count(), 1, "{side} without {right}: {ran:#?}");
    assert_eq!(key_count(target), 0);
}

pub(crate) fn load_function(server: &Server) {
    let code = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
    let load = redis::cmd("FUNCTION")
        .arg("LOAD")
        .arg(code)
        .exec(&mut server.client());
    load.expect("is taken");
}

/// The lines and remarks about what could not be asked.
pub(crate) fn lacks(ran: &Ran) -> Vec<String> {
    let all = format!("{}{}", ran.outcome.stderr, ran.outcome.stdout);
    let is_one = |line: &&str| line.contains("is not available") || line.contains("is refused");
    all.lines().filter(is_one).map(Into::into).collect()
}

pub(crate) fn dataset_of_cluster() -> Dataset {
    Dataset {
        dbs: vec![0],
        ..dataset()
    }
}
