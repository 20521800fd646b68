//! `keyhaul keystats`, and the same facts found out with a plain client.

use std::collections::BTreeMap;

use keyhaul_testkit::Server;
use keyhaul_testkit::process::Outcome;
use redis::cmd;

use super::keyhaul;

/// Keys of one db and what they take.
pub(crate) type Sizes = BTreeMap<Vec<u8>, u64>;

/// Runs `keyhaul keystats`, which must come to its end.
pub(crate) fn keystats(args: &[&str]) -> Outcome {
    let ran = keystats_ending(args);
    assert_eq!(ran.code, Some(0), "{args:?}\n{}", ran.stderr);
    ran
}

/// Runs `keyhaul keystats`, however it ends.
pub(crate) fn keystats_ending(args: &[&str]) -> Outcome {
    let args: Vec<&str> = [&["keystats"][..], args].concat();
    keyhaul(&args)
}

/// The rows of `memkeys` whose names are UTF-8.
pub(crate) fn sizes_told(text: &str) -> Sizes {
    let rows = csv(text);
    let (header, rows) = rows.split_first().expect("there is a header");
    assert_eq!(header, &["key", "size_bytes"]);
    let mut sizes = Sizes::new();
    for row in rows {
        let [key, bytes]: [String; 2] = row.clone().try_into().expect("two fields");
        let before = sizes.insert(
            key.clone().into_bytes(),
            bytes.parse().expect("is a number"),
        );
        assert_eq!(before, None, "{key} is told twice");
    }
    sizes
}

/// The rows of `slots`.
pub(crate) fn shards_told(text: &str) -> Vec<[u64; 4]> {
    let rows = csv(text);
    let (header, rows) = rows.split_first().expect("there is a header");
    assert_eq!(header, &["shard", "slot_start", "slot_end", "size_bytes"]);
    let number = |field: &String| field.parse().expect("is a number");
    let row = |row: &Vec<String>| <[u64; 4]>::try_from(row.iter().map(number).collect::<Vec<_>>());
    rows.iter()
        .map(|fields| row(fields).expect("four fields"))
        .collect()
}

/// What a server says of the keys of a db.
pub(crate) fn sizes_of(server: &Server, db: u32) -> Sizes {
    let mut link = server.connection(db);
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut link).expect("is answered");
    let mut size = |key: &Vec<u8>| -> u64 {
        let asked = cmd("MEMORY").arg("USAGE").arg(key).query(&mut link);
        asked.expect("is answered")
    };
    keys.iter().map(|key| (key.clone(), size(key))).collect()
}

/// The shards of these keys that hold something, each slot computed here.
pub(crate) fn shards_of(sizes: &Sizes, count: u64) -> Vec<[u64; 4]> {
    let each = 16_384 / count;
    let mut sums = BTreeMap::new();
    for (key, bytes) in sizes {
        let shard = (u64::from(slot_of(key)) / each).min(count - 1);
        *sums.entry(shard).or_insert(0) += bytes;
    }
    let last = |shard| match shard + 1 == count {
        true => 16_383,
        false => (shard + 1) * each - 1,
    };
    let row = |(shard, bytes)| [shard, shard * each, last(shard), bytes];
    sums.into_iter().map(row).collect()
}

/// The slot of a key as the cluster specification has it, bit by bit.
fn slot_of(key: &[u8]) -> u16 {
    let open = key.iter().position(|byte| *byte == b'{');
    let tag = open.and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    let mut crc: u16 = 0;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc % 16_384
}

/// Reads CSV by RFC 4180.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => row.push(std::mem::take(&mut field)),
            '\n' if !is_quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    assert!(
        !is_quoted && row.is_empty() && field.is_empty(),
        "it ends in a row: {text}"
    );
    rows
}
