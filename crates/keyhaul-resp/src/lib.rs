//! RESP2 and RESP3, the protocol of Redis and Valkey, as bytes and values.
//!
//! Sans I/O: [`encode`] appends commands to a buffer, [`Decoder`] takes replies off one, token by token or
//! a value at a time, however the bytes were cut in transit. A bulk string that is too long to be held
//! comes in parts. What a peer sends is bounded by [`Limits`]; nothing it sends makes this crate panic.
//! Sockets, and what a reply means, are left to the client.

pub mod encode;

mod decoder;
mod token;
mod value;

mod error;
mod limits;
mod number;

pub use decoder::Decoder;
pub use error::{DecodeError, Excerpt};
pub use limits::Limits;
pub use token::Token;
pub use value::{Pairs, Value};
