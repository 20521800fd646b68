//! Files that our encoder writes: servers start with them and hold what the source held, and the
//! servers' own check program finds nothing to complain about.
//!
//! `KEYHAUL_TEST_LONG=1` goes over all pairs of source and target.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure is a panic with a message"
)]

mod common;
mod servers_common;

use std::collections::BTreeMap;

use keyhaul_rdb::{
    END_MARK, FieldExpiry, RecordHead, Refusal, WRITABLE_VERSIONS, crc64, encode_aux, encode_db,
    encode_function, encode_header, encode_record_head, holds_functions, open,
};
use keyhaul_testkit::truth::{Hints, truth};
use keyhaul_testkit::{Family, Server, Version, check_rdb, require};
use servers_common::{
    Origin, Truth, assert_same, expected, is_long, known_to_both, origins, rdb_version_of, reader,
};

/// What is tried in every run: folder of the source, target.
const PAIRS: [(&str, Version); 2] = [
    ("redis-8.2.3", Version::VALKEY_8_0),
    ("valkey-8.0.1", Version::REDIS_7_0),
];

#[test]
fn servers_start_with_our_files() {
    let mut pairs = 0;
    let mut versions = Vec::new();
    for origin in origins() {
        for target in Version::ALL {
            let is_asked = PAIRS.contains(&(origin.folder.as_str(), target));
            if (is_long() || is_asked) && require(target) {
                start_with(&origin, target);
                versions.push(rdb_version_of(target));
                pairs += 1;
            }
        }
    }
    eprintln!("{pairs} pairs");
    assert!(pairs > 0);
    assert!(
        versions
            .iter()
            .all(|version| WRITABLE_VERSIONS.contains(version))
    );
}

fn start_with(origin: &Origin, target: Version) {
    let what = format!("file of {} for {target}", origin.folder);
    let (file, mut there) = encoded(origin, target);
    let folder = folder_for(&what);
    let path = folder.join("ours.rdb");
    std::fs::write(&path, &file).unwrap();
    let checked = check_rdb(target, &path);
    let server = Server::builder(target).dump(&path).start();
    std::fs::remove_dir_all(&folder).unwrap();
    checked.unwrap_or_else(|fault| panic!("{what}: {fault}"));

    let hints = Hints {
        expire_at_ms: origin.expiries(),
        ..Hints::default()
    };
    let found = Truth::parse(&truth(&server, &hints));
    if holds_functions(rdb_version_of(target)) {
        assert_eq!(found.functions, origin.truth.functions, "{what}");
    }
    let mut found = found.keys;
    for lines in found.values_mut() {
        *lines = known_to_both(lines, origin.version, target);
    }
    for lines in there.values_mut() {
        *lines = expected(lines, origin.version, target);
    }
    assert_same(&what, &there, &found);
}

type Keys = BTreeMap<(u32, String), Vec<String>>;

/// The file, and the keys that are in it.
fn encoded(origin: &Origin, target: Version) -> (Vec<u8>, Keys) {
    let reader = reader(target, FieldExpiry::Drop);
    let (mut out, mut there, mut db) = (Vec::new(), Keys::new(), None);
    encode_header(&mut out, reader.rdb_version);
    encode_aux(&mut out, b"made-by", b"keyhaul");
    if holds_functions(reader.rdb_version) {
        for code in &origin.functions {
            encode_function(&mut out, code);
        }
    }
    for key in &origin.keys {
        let (form, version, value) = open(&key.payload).unwrap();
        let to = match reader.admit(form, version, value) {
            // A server that cannot read a vector set does not start (Redis 8.0.2, see the conversions).
            _ if key.is_vector_set() && target == Version::REDIS_8_0 => continue,
            Ok(to) => to,
            Err(Refusal::Module(_)) if !target.is_at_least(Family::Redis, 8, 0) => continue,
            Err(refusal) => panic!("{}: {refusal}", key.escaped),
        };
        if db != Some(key.db) {
            encode_db(&mut out, key.db);
            db = Some(key.db);
        }
        let head = RecordHead {
            key: &key.name,
            form: to,
            expire_at_ms: (key.expire_at_ms > 0).then_some(key.expire_at_ms),
            idle_s: None,
            freq: None,
        };
        encode_record_head(&mut out, head);
        reader.encode_value(form, to, value, &mut out).unwrap();
        let name = (key.db, key.escaped.clone());
        let lines = origin.truth.keys[&name].clone();
        there.insert(name, lines);
    }
    out.extend(END_MARK);
    let checksum = crc64(&out);
    out.extend(checksum.to_le_bytes());
    (out, there)
}

fn folder_for(what: &str) -> std::path::PathBuf {
    let name = format!("keyhaul-{}-{}", std::process::id(), what.replace(' ', "-"));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
