//! A long string, and the limit that it needs raised.

use redis::{Connection, cmd};

use super::Giant;
use super::elements::Elements;
use super::pipe::Pipe;
use crate::Server;

const WINDOW_BYTES: u64 = 1 << 20;
const BULK_LIMIT: &str = "proto-max-bulk-len";

/// The limit is as before afterwards: a server that was configured for long strings once, and holds
/// one still, is what a source with giant strings looks like.
pub(super) fn fill(giant: &Giant, server: &Server) {
    let limit = bulk_limit(&mut server.client());
    set_bulk_limit(&mut server.client(), limit.max(giant.bytes));
    let mut elements = Elements::new(giant.seed);
    let mut pipe = Pipe::new(server);
    // All of its memory at once: a string that grows is moved each time that it outgrows its place.
    let last = giant.bytes.saturating_sub(1);
    pipe.push(cmd("SETRANGE").arg(&giant.key).arg(last).arg("\0"));
    let mut offset = 0;
    while offset < giant.bytes {
        let length = WINDOW_BYTES.min(giant.bytes - offset);
        let length = usize::try_from(length).expect("a window fits");
        let noise = elements.noise(length..=length);
        pipe.push(cmd("SETRANGE").arg(&giant.key).arg(offset).arg(noise));
        offset += WINDOW_BYTES;
    }
    pipe.settle();
    set_bulk_limit(&mut server.client(), limit);
}

/// Bytes of the longest argument, and of the longest string, that a server takes.
pub(super) fn bulk_limit(connection: &mut Connection) -> u64 {
    let (_, limit): (String, u64) = cmd("CONFIG")
        .arg("GET")
        .arg(BULK_LIMIT)
        .query(connection)
        .expect("CONFIG GET is answered");
    limit
}

pub(super) fn set_bulk_limit(connection: &mut Connection, bytes: u64) {
    cmd("CONFIG")
        .arg("SET")
        .arg(BULK_LIMIT)
        .arg(bytes)
        .exec(connection)
        .expect("CONFIG SET is answered");
}
