//! Every type, and what is said of it.

use keyhaul_rdb::crc64;

use super::differences;

/// A payload of Redis 7.0.
fn payload(type_byte: u8, value: &[u8]) -> Vec<u8> {
    payload_of(10, type_byte, value)
}

fn payload_of(version: u8, type_byte: u8, value: &[u8]) -> Vec<u8> {
    let mut payload = vec![type_byte];
    payload.extend_from_slice(value);
    payload.extend_from_slice(&[version, 0]);
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// A string as RDB has it, raw.
fn text(text: &[u8]) -> Vec<u8> {
    let mut out = match u8::try_from(text.len()) {
        Ok(short @ 0..64) => vec![short],
        _ => {
            let mut head = vec![0x80];
            head.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            head
        }
    };
    out.extend_from_slice(text);
    out
}

fn texts(count: u8, all: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![count];
    all.iter().for_each(|one| out.extend(text(one)));
    out
}

fn check(source: &[u8], target: &[u8], expected: &[&str]) {
    assert_eq!(differences(source, target, 5), expected);
}

#[test]
fn strings() {
    let of = |bytes: &[u8]| payload(0, &text(bytes));
    check(&of(b"abc"), &of(b"abc"), &[]);
    check(
        &of(b"abc"),
        &of(b"axc"),
        &[r#"byte 1: "bc" on the source, "xc" on the target"#],
    );
    check(
        &of(b"abc"),
        &of(b"abcd\x00"),
        &[
            "length: 3 on the source, 5 on the target",
            r#"byte 3: "" on the source, "d\x00" on the target"#,
        ],
    );
    let mut long = vec![b'a'; 10_000];
    let source = of(&long);
    long[9000] = b'b';
    check(
        &source,
        &of(&long),
        &[
            r#"byte 9000: "aaaaaaaaaaaaaaaaaaaaaaaa..." on the source, "baaaaaaaaaaaaaaaaaaaaaaa..." on the target"#,
        ],
    );
    // An integer is its text.
    check(&payload(0, b"\xc0\x07"), &of(b"7"), &[]);
}

#[test]
fn lists() {
    let of = |count, all: &[&[u8]]| payload(1, &texts(count, all));
    check(&of(2, &[b"a", b"b"]), &of(2, &[b"a", b"b"]), &[]);
    check(
        &of(2, &[b"a", b"b"]),
        &of(3, &[b"a", b"c", b"d"]),
        &[
            "length: 2 on the source, 3 on the target",
            r#"index 1: "b" on the source, "c" on the target"#,
        ],
    );
    let (ones, twos) = ([&b"1"[..]; 8], [&b"2"[..]; 8]);
    let found = differences(&of(8, &ones), &of(8, &twos), 5);
    assert_eq!(found.len(), 6);
    assert_eq!(found[4], r#"index 4: "1" on the source, "2" on the target"#);
    assert_eq!(found[5], "... and 3 more");
    let mut long = [b'x'; 100];
    let source = of(1, &[&long]);
    long[70] = b'\n';
    check(
        &source,
        &of(1, &[&long]),
        &[
            r#"index 0: 100 bytes on both, differs from byte 70: "xxxxxxxxxxxxxxxxxxxxxxxx..." on the source, "\x0Axxxxxxxxxxxxxxxxxxxxxxx..." on the target"#,
        ],
    );
}

#[test]
fn sets() {
    let of = |count, all: &[&[u8]]| payload(2, &texts(count, all));
    check(&of(2, &[b"a", b"b"]), &of(2, &[b"b", b"a"]), &[]);
    check(
        &of(2, &[b"a", b"b"]),
        &of(2, &[b"c", b"a"]),
        &[
            r#"member "b" only on the source"#,
            r#"member "c" only on the target"#,
        ],
    );
    // An intset: 16 bits, one member.
    let intset = payload(11, &text(b"\x02\0\0\0\x01\0\0\0\x07\x00"));
    check(&intset, &of(1, &[b"7"]), &[]);
}

#[test]
fn sorted_sets() {
    let of = |all: &[(&[u8], f64)]| {
        let mut value = vec![u8::try_from(all.len()).unwrap()];
        for (member, score) in all {
            value.extend(text(member));
            value.extend_from_slice(&score.to_le_bytes());
        }
        payload(5, &value)
    };
    check(&of(&[(b"a", 0.0)]), &of(&[(b"a", -0.0)]), &[]);
    check(
        &of(&[(b"a", 0.1 + 0.2), (b"b", 1.0), (b"c", f64::INFINITY)]),
        &of(&[(b"a", 0.3), (b"d", 1.0), (b"c", 1e300)]),
        &[
            r#"member "a": score 0.30000000000000004 on the source, 0.3 on the target"#,
            r#"member "c": score inf on the source, 1e300 on the target"#,
            r#"member "b" only on the source"#,
            r#"member "d" only on the target"#,
        ],
    );
}

#[test]
fn hashes() {
    let of = |count, all: &[&[u8]]| payload(4, &texts(count, all));
    check(
        &of(2, &[b"f", b"1", b"g", b"2"]),
        &of(2, &[b"g", b"2", b"f", b"1"]),
        &[],
    );
    check(
        &of(2, &[b"f", b"1", b"g", b"2"]),
        &of(2, &[b"f", b"3", b"h", b"2"]),
        &[
            r#"field "f": "1" on the source, "3" on the target"#,
            r#"field "g" only on the source"#,
            r#"field "h" only on the target"#,
        ],
    );
    // Valkey 9: field, value, expiry of 8 bytes, -1: never.
    let expiring = |at: i64| {
        let mut value = texts(1, &[b"f", b"1"]);
        value.extend_from_slice(&at.to_le_bytes());
        payload_of(80, 22, &value)
    };
    check(
        &expiring(1_700_000_000_000),
        &of(1, &[b"f", b"1"]),
        &[r#"field "f": expires 1700000000000 on the source, never on the target (Unix ms)"#],
    );
    check(&expiring(-1), &of(1, &[b"f", b"1"]), &[]);
}

/// A stream without entries (RDB 11): its last sequence number, deleted one, entries added, and one group with
/// one pending entry and one consumer.
fn stream(last: u8, deleted: u8, added: u8, group: (&[u8], u8), times: (u64, u64, u8)) -> Vec<u8> {
    let (delivered, seen, deliveries) = times;
    let mut value = vec![0, 0, 1, last, 0, 0, 1, deleted, added, 1];
    value.extend(text(group.0));
    value.extend([1, last, group.1]);
    let id = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
    value.push(1);
    value.extend_from_slice(&id);
    value.extend_from_slice(&delivered.to_le_bytes());
    value.extend([deliveries, 1]);
    value.extend(text(b"bob"));
    value.extend_from_slice(&seen.to_le_bytes());
    value.extend_from_slice(&seen.to_le_bytes());
    value.push(1);
    value.extend_from_slice(&id);
    payload_of(11, 21, &value)
}

#[test]
fn streams() {
    let source = stream(9, 8, 7, (b"g", 3), (100, 200, 1));
    // When a consumer was seen is no difference.
    check(&source, &stream(9, 8, 7, (b"g", 3), (100, 999, 1)), &[]);
    check(
        &source,
        &stream(10, 2, 6, (b"g", 4), (101, 200, 2)),
        &[
            "last id: 1-9 on the source, 1-10 on the target",
            "max deleted id: 1-8 on the source, 1-2 on the target",
            "entries added: 7 on the source, 6 on the target",
            r#"group "g": last id: 1-9 on the source, 1-10 on the target"#,
            r#"group "g": entries read: 3 on the source, 4 on the target"#,
            "... and 1 more",
        ],
    );
    check(
        &source,
        &stream(9, 8, 7, (b"g", 3), (100, 200, 2)),
        &[
            r#"group "g": pending entry 1-5: "bob", delivered 1 times, last at 100 (Unix ms) on the source, "bob", delivered 2 times, last at 100 (Unix ms) on the target"#,
        ],
    );
    check(
        &source,
        &stream(9, 8, 7, (b"h", 3), (100, 200, 1)),
        &[
            r#"group "g" only on the source"#,
            r#"group "h" only on the target"#,
        ],
    );
}

/// From the payloads of a real server, Redis 7.0: `stream:counters` and `stream:id ahead`.
#[test]
fn streams_of_servers() {
    let file = include_str!("../../../../keyhaul-rdb/tests/fixtures/redis-7.0.15/payloads.tsv");
    let of = |name: &str| -> Vec<u8> {
        let found = file
            .lines()
            .find(|line| line.split('\t').nth(1) == Some(name));
        let hex = found.unwrap().split('\t').nth(3).unwrap();
        let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len() / 2).map(|index| pair(index * 2)).collect()
    };
    let found = differences(&of("stream:nodes"), &of("stream:counters"), 3);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("length: "), "{found:#?}");
    assert!(found[1].starts_with("entry 1600000000007-"), "{found:#?}");
    for line in file.lines() {
        let name = line.split('\t').nth(1).unwrap();
        assert_eq!(differences(&of(name), &of(name), 5), [""; 0], "{name}");
    }
}

#[test]
fn what_cannot_be_decoded() {
    check(
        &payload(7, b"module"),
        &payload(7, b"module!"),
        &["the bytes differ: 17 on the source, 18 on the target"],
    );
    check(
        b"",
        &payload(1, &[5]),
        &["the bytes differ: 0 on the source, 12 on the target"],
    );
    check(
        &payload(1, &[5]),
        &payload(1, &[6]),
        &["the bytes differ: 12 on the source, 12 on the target"],
    );
}
