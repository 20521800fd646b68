//! Real servers, clusters, a fault proxy, seeded data sets and an independent keyspace diff.
//!
//! For tests and benches only. Shares no code with what it checks: its client is the `redis` crate,
//! its diff reads values by type commands and never by DUMP. Everything is blocking and panics with
//! a message when it cannot do its work; what it starts dies with the test process.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test crate: a failure is a panic with a message, a skip is a line on stderr"
)]

mod endpoint;
mod ports;
mod proc;
mod spawn;
mod tempdir;
mod version;
mod wait;

mod server;

mod check_rdb;
mod cluster;
mod sentinel;
mod tls;

pub mod dataset;
pub mod diff;
pub mod fake;
pub mod giant;
pub mod process;
mod proxy;
pub mod truth;
pub mod writes;

pub use check_rdb::check_rdb;
pub use cluster::{Announce, Cluster, ClusterBuilder, key_slot};
pub use dataset::Dataset;
pub use endpoint::Endpoint;
pub use fake::{Behaviour, FakePeer};
pub use giant::{Giant, GiantKind};
pub use proxy::{Direction, Proxy, Upstream};
pub use sentinel::Sentinel;
pub use server::{Server, ServerBuilder};
pub use tls::Tls;
pub use version::{Family, Version, require};
pub use wait::wait_until;

/// The client that the kit speaks to servers with, for tests that send commands of their own.
pub use redis;
