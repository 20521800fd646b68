//! Streams: entries, deleted entries, groups, consumers and what is pending.
//!
//! Ids and delivery times are fixed, so that a stream is the same whenever it is made.

use rand::RngExt;
use rand::rngs::StdRng;
use redis::{Cmd, cmd};

use super::strings::text;

/// Time part of the first id.
const FIRST_ID_MS: u64 = 1_600_000_000_000;
/// When pending entries were delivered.
const DELIVERED_MS: u64 = 1_650_000_000_123;

/// Entries with the same fields, as most are, and one in eight with other fields.
pub(super) fn entries(key: &[u8], count: u64, rng: &mut StdRng) -> Vec<Cmd> {
    (0..count)
        .map(|index| {
            let mut command = command("XADD", key);
            command
                .arg(id(index))
                .arg("sensor")
                .arg(rng.random_range(0..100))
                .arg("text");
            command.arg(text(rng, 20));
            if index % 8 == 7 {
                command
                    .arg(b"\0\xff\r\n")
                    .arg("")
                    .arg("")
                    .arg("of the empty field");
            }
            command
        })
        .collect()
}

/// Deleted at the start, in the middle and at the end: the last id and the highest deleted id stay.
pub(super) fn deleted_entries(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let mut commands = entries(key, 200, rng);
    let mut delete = command("XDEL", key);
    delete.arg(
        (0..10)
            .chain(90..120)
            .chain(195..200)
            .map(id)
            .collect::<Vec<_>>(),
    );
    commands.push(delete);
    commands
}

/// Three groups: one that has read a part and acknowledged some, with a pending entry that is
/// deleted; one with a binary name; one that has read all. One consumer has nothing pending.
pub(super) fn groups(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let mut commands = entries(key, 12, rng);
    for (group, start) in [
        ("reading", "0"),
        ("\0binary\r\n", "0"),
        ("at the end", &id(10)),
    ] {
        commands.push(create_group(key, group, start));
    }
    commands.extend([
        read(key, "reading", "alice", 4),
        read(key, "reading", "bob", 3),
        read(key, "\0binary\r\n", "carol", 2),
        read(key, "at the end", "idle", 1),
        acknowledge(key, "at the end", &[11]),
        acknowledge(key, "reading", &[1, 5]),
    ]);
    commands.push(claim(key, "reading", "alice", &[0, 2, 3], 1));
    commands.push(claim(key, "reading", "bob", &[4, 6], 7));
    commands.push(claim(key, "\0binary\r\n", "carol", &[0, 1], 2));
    let mut delete = command("XDEL", key);
    delete.arg(id(1)).arg(id(3));
    commands.push(delete);
    commands
}

/// All entries gone; the group and its consumer, who has acknowledged all, stay.
pub(super) fn emptied(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let mut commands = entries(key, 5, rng);
    commands.extend([
        create_group(key, "done", "0"),
        read(key, "done", "idle", 5),
        acknowledge(key, "done", &[0, 1, 2, 3, 4]),
    ]);
    let mut trim = command("XTRIM", key);
    trim.arg("MAXLEN").arg(0);
    commands.push(trim);
    commands
}

/// Never had an entry. Its group has no consumer: not every version makes one of a reader who gets
/// nothing.
pub(super) fn empty_with_group(key: &[u8]) -> Vec<Cmd> {
    let mut create = create_group(key, "waiting", "$");
    create.arg("MKSTREAM");
    vec![create]
}

/// The last id is above that of the last entry, and not all entries that were added are there.
pub(super) fn id_ahead(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let mut set_id = command("XSETID", key);
    set_id.arg(format!("{}-18446744073709551615", FIRST_ID_MS * 2));
    let mut trim = command("XTRIM", key);
    trim.arg("MAXLEN").arg(5);
    let mut commands = entries(key, 9, rng);
    commands.extend([trim, set_id]);
    commands
}

/// Every third entry has another time, so that times repeat and sequence numbers count.
fn id(index: u64) -> String {
    format!("{}-{}", FIRST_ID_MS + index / 3 * 7, index % 3 + 1)
}

fn read(key: &[u8], group: &str, consumer: &str, count: u64) -> Cmd {
    let mut command = cmd("XREADGROUP");
    command
        .arg("GROUP")
        .arg(group)
        .arg(consumer)
        .arg("COUNT")
        .arg(count);
    command.arg("STREAMS").arg(key).arg(">");
    command
}

/// Gives pending entries a fixed delivery time and count.
fn claim(key: &[u8], group: &str, consumer: &str, entries: &[u64], count: u64) -> Cmd {
    let mut command = command("XCLAIM", key);
    command.arg(group).arg(consumer).arg(0);
    command.arg(entries.iter().copied().map(id).collect::<Vec<_>>());
    command
        .arg("TIME")
        .arg(DELIVERED_MS)
        .arg("RETRYCOUNT")
        .arg(count)
        .arg("JUSTID");
    command
}

fn acknowledge(key: &[u8], group: &str, entries: &[u64]) -> Cmd {
    let mut command = command("XACK", key);
    command
        .arg(group)
        .arg(entries.iter().copied().map(id).collect::<Vec<_>>());
    command
}

fn create_group(key: &[u8], group: &str, start: &str) -> Cmd {
    let mut command = cmd("XGROUP");
    command.arg("CREATE").arg(key).arg(group).arg(start);
    command
}

fn command(name: &str, key: &[u8]) -> Cmd {
    let mut command = cmd(name);
    command.arg(key);
    command
}
