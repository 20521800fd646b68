//! The least rights that do, what each missing one costs, and which are demanded.

mod common;

use common::copying::{Ran, copy, copy_twice, key_count};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Cluster, Dataset, Server, ServerBuilder, Version, require};

/// Commands of a source: to find out what it is, to find keys, to read them.
const SOURCE: &str = "+hello +select +scan +dump +pexpiretime +type +info";
/// Commands of a target.
const TARGET: &str = "+hello +select +restore +pexpiretime +type +info";

fn dataset() -> Dataset {
    Dataset {
        seed: 71,
        keys: 400,
        dbs: vec![0, 3],
        ..Dataset::default()
    }
}

fn with_user(version: Version, rights: &str) -> ServerBuilder {
    Server::builder(version).acl_user("mover", &format!("on >secret ~* resetchannels -@all {rights}"))
}
