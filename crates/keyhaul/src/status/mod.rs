//! What others can look at while a job runs: a page, JSON, metrics. docs/guide/monitoring.md tells of it.
//!
//! - [`address`] is where we listen, [`server`] answers, and bounds what strangers can make us do.
//! - [`observed`] is the job as it is looked at; [`metrics`] and [`json`] are its forms.

mod address;
mod json;
mod metrics;
mod observed;
mod server;

pub(crate) use address::ListenAddress;
pub(crate) use observed::Observed;
pub(crate) use server::StatusServer;
