//! A long stream with gaps, three groups, consumers, and pending entries some of which are deleted.
//!
//! Every 25th entry is pending: three quarters of these in the first group, one in the second; every
//! tenth pending entry is deleted from the stream. The third group has read everything and
//! acknowledged it all, and one consumer of it has never read.

use redis::{Connection, cmd};

use super::Giant;
use super::elements::Elements;
use super::pipe::Pipe;
use crate::Server;

/// About what an entry takes in memory.
pub(super) const ENTRY_BYTES: u64 = 100;
/// One pending entry for so many entries.
const ENTRIES_PER_PENDING: u64 = 25;
/// One deleted entry for so many pending ones.
const PENDING_PER_DELETED: usize = 10;
/// Pending entries of each group are a share of all, in quarters.
const GROUPS: [(&str, u64); 2] = [("billing", 3), ("audit", 1)];
const CONSUMERS: u64 = 5;
const READ_COUNT: u64 = 1000;
/// Unix milliseconds of the first entry, and of the first delivery: 14 November 2023, a day later.
const FIRST_ENTRY_MS: u64 = 1_700_000_000_000;
const FIRST_DELIVERY_MS: u64 = FIRST_ENTRY_MS + 86_400_000;

pub(super) fn fill(giant: &Giant, server: &Server) {
    let entries = giant.bytes / ENTRY_BYTES;
    add_entries(giant, entries, server);
    let mut connection = server.client();
    let mut deleted = Vec::new();
    for (group, quarters) in GROUPS {
        create_group(&mut connection, &giant.key, group, "0");
        let pending = entries / ENTRIES_PER_PENDING * quarters / 4;
        deliver(&mut connection, &giant.key, group, pending, &mut deleted);
    }
    create_group(&mut connection, &giant.key, "done", "$");
    cmd("XGROUP")
        .arg("CREATECONSUMER")
        .arg(&giant.key)
        .arg("done")
        .arg("idle")
        .exec(&mut connection)
        .expect("the group is there");
    for ids in deleted.chunks(1000) {
        cmd("XDEL")
            .arg(&giant.key)
            .arg(ids)
            .exec(&mut connection)
            .expect("the stream is there");
    }
}

/// Also the last entry is deleted again: the last id is then no entry's.
fn add_entries(giant: &Giant, entries: u64, server: &Server) {
    let mut elements = Elements::new(giant.seed);
    let mut pipe = Pipe::new(server);
    let (mut ms, mut sequence) = (FIRST_ENTRY_MS, 0);
    for n in 0..=entries {
        // Several entries in some milliseconds, pauses between others.
        let pause_ms = elements.choose(4);
        sequence = if pause_ms == 0 { sequence + 1 } else { 0 };
        ms += pause_ms;
        let id = format!("{ms}-{sequence}");
        pipe.push(
            cmd("XADD")
                .arg(&giant.key)
                .arg(&id)
                .arg("n")
                .arg(n)
                .arg("reading")
                .arg(elements.noise(20..=50)),
        );
        if n == entries {
            pipe.push(cmd("XDEL").arg(&giant.key).arg(&id));
        }
    }
    pipe.settle();
}

fn create_group(connection: &mut Connection, key: &str, group: &str, id: &str) {
    cmd("XGROUP")
        .arg("CREATE")
        .arg(key)
        .arg(group)
        .arg(id)
        .exec(connection)
        .expect("the stream is there");
}

/// Delivers the next entries of a group to its consumers in turn, and gives each hundred of them
/// another delivery time and count. Notes which are to be deleted.
fn deliver(
    connection: &mut Connection,
    key: &str,
    group: &str,
    pending: u64,
    deleted: &mut Vec<String>,
) {
    let mut delivered = 0;
    while delivered < pending {
        let count = READ_COUNT.min(pending - delivered);
        let consumer = format!("consumer-{}", delivered / READ_COUNT % CONSUMERS);
        let ids = read(connection, key, group, &consumer, count);
        assert_eq!(ids.len() as u64, count, "the stream has too few entries");
        let mut pipe = redis::pipe();
        for (index, ids) in (delivered / 100..).zip(ids.chunks(100)) {
            pipe.cmd("XCLAIM").arg(key).arg(group).arg(&consumer);
            pipe.arg(0).arg(ids);
            let at_ms = FIRST_DELIVERY_MS + index * 12_345;
            pipe.arg("TIME").arg(at_ms);
            pipe.arg("RETRYCOUNT").arg(1 + index % 7).arg("JUSTID");
        }
        pipe.exec(connection).expect("the entries are pending");
        deleted.extend(ids.into_iter().step_by(PENDING_PER_DELETED));
        delivered += count;
    }
}

/// Ids of the next entries, which are pending now.
fn read(
    connection: &mut Connection,
    key: &str,
    group: &str,
    consumer: &str,
    count: u64,
) -> Vec<String> {
    type Entry = (String, redis::Value);
    let reply: Vec<(String, Vec<Entry>)> = cmd("XREADGROUP")
        .arg("GROUP")
        .arg(group)
        .arg(consumer)
        .arg("COUNT")
        .arg(count)
        .arg("STREAMS")
        .arg(key)
        .arg(">")
        .query(connection)
        .expect("the group is there");
    let entries = reply.into_iter().flat_map(|(_, entries)| entries);
    entries.map(|(id, _)| id).collect()
}
