//! Followed by what the source tells: keys above the chunk threshold.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::copying::{key_count, run};
use common::tracking::{SOON, assert_equal, start, stop, wait_until_following};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Server, Version, require, wait_until};

/// Keys above the threshold that are written all the time: they come over meanwhile, by what differs, and are right in
/// the end.
fn large_keys_that_are_written(version: Version, bytes: usize, options: &[&str]) {
    if !require(version) {
        return;
    }
    let (source, target) = (Server::start(version), Server::start(version));
    let fill = "local x = string.rep('x', ARGV[1]) for i = 1, 15000 do redis.call('HSET', 'hash', i, x..i) \
                redis.call('SADD', 'set', x..i) redis.call('ZADD', 'zset', i, x..i) end";
    let fill = redis::cmd("EVAL").arg(fill).arg(0).arg(bytes).clone();
    fill.exec(&mut source.client()).expect("is done");
    let mut running = start(&source.uri(), &target.uri(), options);
    wait_until_following(&mut running);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = source.client();
            // Also where the test fails meanwhile, it ends.
            for n in 1..15_000 {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let script = "local n = ARGV[1] for _, k in ipairs({'hash', 'set', 'zset'}) do redis.call('INCR', 'writes') end \
                              redis.call('HSET', 'hash', 'tick', n) redis.call('HDEL', 'hash', n) redis.call('HSET', 'hash', 'new'..n, n) \
                              redis.call('SADD', 'set', 'tick'..n) redis.call('SREM', 'set', 'tick'..(n - 9)) \
                              redis.call('ZADD', 'zset', n, 'tick') redis.call('ZREMRANGEBYRANK', 'zset', 5, 5)";
                let mut command = redis::cmd("EVAL");
                let written = command.arg(script).arg(0).arg(n).exec(&mut client);
                written.expect("the source takes it");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut client = target.client();
        let mut ask = |words: [&str; 3]| -> f64 {
            let asked = redis::cmd(words[0])
                .arg(words[1])
                .arg(words[2])
                .query(&mut client);
            asked.ok().flatten().unwrap_or(0.0)
        };
        wait_until("they come over while they are written", SOON, || {
            ask(["HGET", "hash", "tick"]) > 50.0 && ask(["ZSCORE", "zset", "tick"]) > 50.0
        });
        is_over.store(true, Ordering::Relaxed);
    });
    run(&source, 0, "EXPIRE hash 5000");
    stop(running);
    assert_equal(&source, &target);
}

#[test]
fn large_keys_that_are_written_valkey_8_0() {
    large_keys_that_are_written(Version::VALKEY_8_0, 80, &["--chunk-threshold", "1MB"]);
}

/// Its fields may have times of their own.
#[test]
fn large_keys_that_are_written_redis_8_2() {
    large_keys_that_are_written(Version::REDIS_8_2, 80, &["--chunk-threshold", "1MB"]);
}

/// Below the threshold they go over in one piece, but not again and again.
#[test]
fn rather_large_keys_that_are_written() {
    large_keys_that_are_written(Version::REDIS_7_0, 400, &[]);
}

#[test]
fn a_large_key_that_is_deleted() {
    if !require(Version::VALKEY_8_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::VALKEY_8_0),
    );
    let fill = "for i=1,20000 do redis.call('RPUSH','big',i..string.rep('x',100)) end";
    redis::cmd("EVAL")
        .arg(fill)
        .arg(0)
        .exec(&mut source.client())
        .expect("is done");
    let mut running = start(&source.uri(), &target.uri(), &["--chunk-threshold", "1MB"]);
    wait_until_following(&mut running);
    for n in 0..20 {
        run(&source, 0, &format!("RPUSH big {n}"));
        run(&source, 0, "LPOP big");
    }
    let differs = || {
        let options = DiffOptions::default();
        diff::keyspaces(&View::server(&source), &View::server(&target), &options)
    };
    wait_until("it settles", SOON, || {
        key_count(&target) > 0 && differs().is_empty()
    });
    run(&source, 0, "DEL big");
    wait_until("it is deleted", SOON, || key_count(&target) == 0);
    stop(running);
}
