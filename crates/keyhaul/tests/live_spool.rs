//! A target that takes nothing while much is written: the spool is full, by its limit or since the disk is.

mod common;

use common::copying::noise;
use common::live::{Live, PATIENCE, ends, writer};
use keyhaul_testkit::Proxy;
use redis::cmd;

#[test]
fn a_spool_that_is_full_is_waited_for() {
    let (source, target) = ends();
    let proxy = Proxy::start(target.server());
    let options = ["--method", "psync", "--spool-limit", "64mb"];
    let live = Live::new(&source.uri(), &proxy.uri(), &options);
    let follower = live.start();
    follower.wait_following();
    proxy.stall(true);
    let mut client = source.server().client();
    // More than the limit, of what cannot be compressed.
    for n in 0..160_u64 {
        let value = noise(500_000, n);
        cmd("SET")
            .arg(format!("noise:{n}"))
            .arg(value)
            .exec(&mut client)
            .expect("SET");
    }
    assert!(
        live.bytes_on_disk() < 80_000_000,
        "{}",
        live.bytes_on_disk()
    );
    proxy.stall(false);
    let writer = writer(&source, &target, 91);
    writer.wait_for(1000, PATIENCE);
    writer.stop();
    follower.ends_equal(&source, &target);
    assert!(live.bytes_on_disk() < 2_000_000, "{}", live.bytes_on_disk());
}

#[test]
fn a_disk_that_is_full_for_the_spool_is_waited_for() {
    let (source, target) = ends();
    let proxy = Proxy::start(target.server());
    let live = Live::new(&source.uri(), &proxy.uri(), &["--method", "psync"]);
    // Some MB: far less than a file of the spool.
    let follower = live.start_with_file_limit(8192);
    follower.wait_following();
    proxy.stall(true);
    let mut client = source.server().client();
    for n in 0..60_u64 {
        let value = noise(500_000, n);
        let mut set = cmd("SET");
        set.arg(format!("noise:{n}")).arg(value);
        set.exec(&mut client).expect("SET");
    }
    assert!(
        live.bytes_on_disk() < 20_000_000,
        "{}",
        live.bytes_on_disk()
    );
    proxy.stall(false);
    let writer = writer(&source, &target, 92);
    writer.wait_for(1000, PATIENCE);
    writer.stop();
    follower.ends_equal(&source, &target);
}
