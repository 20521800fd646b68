//! A source that is written while it is copied: each key on the target is one state that it had.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::copying::copy;
use keyhaul_testkit::{Server, Version, require};
use redis::{Connection, cmd};

/// Keys whose value tells their expiry: both are always set by one command.
const KEYS: u64 = 2000;
const BASE_MS: u64 = 4_102_444_800_000;

fn key(n: u64) -> String {
    format!("pair:{n}")
}

/// The expiry that belongs to a value; every third value has none.
fn expiry(value: u64) -> i64 {
    if value.is_multiple_of(3) {
        -1
    } else {
        (BASE_MS + value) as i64
    }
}

fn write(client: &mut Connection, pipe_of: impl Iterator<Item = (u64, u64)>) {
    let mut pipe = redis::pipe();
    for (n, value) in pipe_of {
        let set = pipe.cmd("SET").arg(key(n)).arg(value);
        if expiry(value) > 0 {
            set.arg("PXAT").arg(expiry(value));
        }
        set.ignore();
    }
    pipe.query::<()>(client).expect("the source takes it");
}

/// Writes until told to stop; keys also vanish, change type and expire.
fn writer(mut client: Connection, stop: &AtomicBool, seed: u64) {
    let mut value = seed;
    while !stop.load(Ordering::Relaxed) {
        value += 7;
        write(
            &mut client,
            (0..100).map(|n| ((value * 31 + n * 17) % KEYS, value + n)),
        );
        let other = key(value % KEYS);
        redis::pipe()
            .cmd("DEL")
            .arg(&other)
            .ignore()
            .cmd("RPUSH")
            .arg(&other)
            .arg("a")
            .ignore()
            .cmd("DEL")
            .arg(&other)
            .ignore()
            .cmd("SET")
            .arg("soon")
            .arg("gone")
            .arg("PX")
            .arg(3)
            .ignore()
            .query::<()>(&mut client)
            .expect("the source takes it");
    }
}

fn every_key_is_one_state(version: Version) {
    if !require(version) {
        return;
    }
    let source = Server::start(version);
    write(&mut source.client(), (0..KEYS).map(|n| (n, n)));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|seed| {
            let (client, stop) = (source.client(), stop.clone());
            thread::spawn(move || writer(client, &stop, seed * 1_000_003))
        })
        .collect();
    let mut looked_at = 0;
    for _ in 0..6 {
        let target = Server::start(Version::VALKEY_8_0);
        let ran = copy(&source.uri(), &target.uri(), &["--verify", "none"]);
        assert!(matches!(ran.outcome.code, Some(0 | 4)), "{ran:#?}");
        // A key may be written all the time; it is listed then and not guessed.
        assert!(ran.not_moved().len() < 20, "{ran:#?}");
        let mut client = target.client();
        for n in 0..KEYS {
            let (value, at): (redis::Value, i64) = redis::pipe()
                .cmd("GETRANGE")
                .arg(key(n))
                .arg(0)
                .arg(-1)
                .cmd("PEXPIRETIME")
                .arg(key(n))
                .query(&mut client)
                .unwrap_or((redis::Value::Nil, -2));
            let redis::Value::BulkString(text) = value else {
                continue;
            };
            let Ok(value) = String::from_utf8_lossy(&text).parse::<u64>() else {
                continue;
            };
            looked_at += 1;
            assert_eq!(at, expiry(value), "{} = {value} on {version}", key(n));
        }
        let soon: i64 = cmd("PEXPIRETIME")
            .arg("soon")
            .query(&mut client)
            .expect("a number");
        assert!(soon != -1, "a key that expires lives on");
    }
    stop.store(true, Ordering::Relaxed);
    writers
        .into_iter()
        .for_each(|writer| writer.join().expect("writes to the end"));
    assert!(
        looked_at > KEYS,
        "only {looked_at} keys were there to look at"
    );
    let target = Server::start(Version::VALKEY_8_0);
    copy(&source.uri(), &target.uri(), &[]).exits_with(0);
}

#[test]
fn value_and_expiry_belong_together() {
    every_key_is_one_state(Version::REDIS_7_0);
}

#[test]
fn value_and_expiry_belong_together_by_pttl() {
    every_key_is_one_state(Version::REDIS_6_2);
}
