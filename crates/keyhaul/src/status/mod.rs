//! What others can look at while a job runs.

mod address;

pub(crate) use address::ListenAddress;
