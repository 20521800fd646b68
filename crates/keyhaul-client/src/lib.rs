//! The only code of keyhaul that opens sockets: TCP, Unix sockets, TLS; login, Sentinel, cluster
//! topology, redirections, typed reads of a source, writes to a target. Knows no migration.

mod endpoint;
mod secret;

mod connection;
mod connector;
mod error;
mod retry;
mod stream;
mod tls;

mod routing;
mod sentinel;
mod slot;
mod topology;

mod details;
mod element_lookups;
mod element_reads;
mod fact_reads;
mod facts;
mod key_reads;
mod offset_reads;
mod reads;
mod replica;
mod rights;
mod target;
mod tracking;
mod value_kind;
mod watches;
mod writer;

pub use connection::{Connection, WHOLE_BULK_MAX};
pub use connector::{CONNECT_DEADLINE, Connector, Greeting};
pub use details::{BufferLimit, LoadedModule, ServerDetails, Traffic};
pub use element_reads::{KeyExpiry, MomentAsk, Page, StreamInfo, StreamMoment};
pub use endpoint::{
    Address, DEFAULT_PORT, DEFAULT_SENTINEL_PORT, Endpoint, EndpointError, Seeds, TlsOptions,
};
pub use error::{ClientError, ServerError};
pub use fact_reads::{FactsAsked, KeyAnswers};
pub use facts::{Degraded, Family, Role, ServerFacts, Version};
pub use key_reads::{Asking, KeyRead};
pub use offset_reads::{KeyAtOffset, OffsetMoment, ReplOffset};
pub use reads::{ExpiryCommand, FunctionLibrary, KeyLook, ReadConnection, ScanOptions, ScanPage};
pub use replica::{
    FullResync, ReplicaLink, ReplicationRight, Resync, SOURCE_SILENCE_MAX, replication_right,
};
pub use retry::{Action, Backoff};
pub use rights::{FAILING_WRITES, READS, Tried, WRITES};
pub use routing::Routing;
pub use secret::Secret;
pub use slot::{SLOT_COUNT, Slot, SlotSet};
pub use target::TargetConnection;
pub use topology::{Mode, Node, OpenSlot, Topology};
pub use tracking::{CHANGES_SILENCE_MAX, ChangeLink, Told, ToldBy, ToldKey};
pub use value_kind::ValueKind;

/// An error and its causes on one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
