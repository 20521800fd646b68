//! Servers that restart, fill up, stand still or are gone while keys are on their way.

mod common;

use std::time::Duration;

use common::copying::{copy, key_count, run};
use common::running::Running;
use keyhaul_testkit::diff::{View, assert_equal};
use keyhaul_testkit::{Dataset, Sentinel, Server, Version, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);
const SLOWLY: [&str; 2] = ["--rate-limit", "1200kb"];

fn source() -> Server {
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        keys: 40_000,
        dbs: vec![0, 1],
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    source
}

fn wait_for_keys(server: &Server, keys: u64) {
    wait_until("keys arrive", PATIENCE, || key_count(server) >= keys);
}

#[test]
fn a_source_that_restarts_is_scanned_again() {
    let (mut source, target) = (source(), Server::start(Version::VALKEY_8_0));
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    wait_for_keys(&target, 3000);
    source.shutdown_save();
    source.restart();
    let ran = running.finish().exits_with(0);
    assert!(
        ran.report["remarks"].to_string().contains("scanned again"),
        "{ran:#?}"
    );
    assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn a_target_that_restarts_with_its_data_loses_nothing() {
    let (source, mut target) = (source(), Server::start(Version::VALKEY_8_0));
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    wait_for_keys(&target, 3000);
    target.shutdown_save();
    target.restart();
    running.finish().exits_with(0);
    assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn a_target_that_forgets_is_found_out() {
    // Where keys are replaced all are copied again; else a second pass could not tell its own keys.
    for (options, code) in [
        (&SLOWLY[..], 0),
        (&[SLOWLY[0], SLOWLY[1], "--on-conflict", "skip"], 1),
    ] {
        let (source, mut target) = (source(), Server::start(Version::VALKEY_8_0));
        let running = Running::start(&source.uri(), &target.uri(), options);
        wait_for_keys(&target, 3000);
        target.stop();
        target.restart();
        let ran = running.finish().exits_with(code);
        assert!(
            ran.report["remarks"].to_string().contains("restarted"),
            "{ran:#?}"
        );
        if code == 1 {
            assert!(ran.verified("missing") >= 2000, "{ran:#?}");
            copy(&source.uri(), &target.uri(), &[]).exits_with(0);
        }
        assert_eq!(ran.count("copied"), 40_000, "{ran:#?}");
        assert_equal(&View::server(&source), &View::server(&target));
    }
}

#[test]
fn servers_that_stand_still_are_waited_for() {
    let (source, target) = (source(), Server::start(Version::VALKEY_8_0));
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    wait_for_keys(&target, 1000);
    let client = target.connection(0);
    let busy = std::thread::spawn(move || {
        let mut client = client;
        let script = "local t=redis.call('TIME')[1] while redis.call('TIME')[1]-t<3 do end";
        redis::cmd("EVAL")
            .arg(script)
            .arg(0)
            .exec(&mut client)
            .expect("it ends");
    });
    run(&source, 0, "CLIENT PAUSE 1500 ALL");
    busy.join().expect("the script ends");
    running.finish().exits_with(0);
    assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn a_full_target_is_waited_for_and_then_it_stops() {
    let (source, target) = (source(), Server::start(Version::VALKEY_8_0));
    run(&target, 0, "CONFIG SET maxmemory 6mb");
    let options = ["--retry-for", "2s", "--accept-loss", "no-room"];
    let ran = copy(&source.uri(), &target.uri(), &options).exits_with(5);
    assert!(ran.outcome.stdout.contains("OOM"), "{ran:#?}");
    assert!(!ran.not_moved().is_empty(), "{ran:#?}");
    ran.reasons_say("");
    run(&target, 0, "CONFIG SET maxmemory 0");
    copy(&source.uri(), &target.uri(), &[]).exits_with(0);
    assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn a_full_target_that_gets_room_goes_on() {
    let (source, target) = (source(), Server::start(Version::VALKEY_8_0));
    run(&target, 0, "CONFIG SET maxmemory 6mb");
    let options = ["--verbose", "--accept-loss", "no-room"];
    let mut running = Running::start_planning(&source.uri(), &target.uri(), &options);
    running.process.wait_for_output("OOM", PATIENCE);
    run(&target, 0, "CONFIG SET maxmemory 0");
    let ran = running.finish().exits_with(0);
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn a_target_that_stays_away_ends_the_run() {
    let (source, mut target) = (source(), Server::start(Version::VALKEY_8_0));
    let options = [&SLOWLY[..], &["--retry-for", "2s"]].concat();
    let running = Running::start(&source.uri(), &target.uri(), &options);
    wait_for_keys(&target, 1000);
    target.stop();
    let ran = running.finish().exits_with(5);
    assert!(!ran.not_moved().is_empty(), "{ran:#?}");
}

#[test]
fn sentinels_lead_to_the_new_primary() {
    let source = source();
    let target = Sentinel::start(Version::REDIS_7_0, 1);
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    target.failover();
    let ran = running.finish().exits_with(0);
    assert!(
        ran.report["remarks"].to_string().contains("failed over"),
        "{ran:#?}"
    );
    assert_equal(&View::server(&source), &View::server(target.primary()));
}
