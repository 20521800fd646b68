//! `--status-listen`, and the state of a live job: what others see of a running job, that strangers do not disturb it, and what is refused.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::copying::{copy, key_count};
use common::rdb::populate;
use common::running::Running;
use keyhaul_testkit::{Server, Version, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const KEYS: usize = 20_000;

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("it is JSON")
    }

    /// Every series of `/metrics`.
    fn samples(&self) -> BTreeMap<&str, f64> {
        let lines = self.body.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                (series, value.parse().expect("a number"))
            })
            .collect()
    }
}

/// One request on a connection of its own.
fn ask(at: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(at).expect("somebody listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("it can be set");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is taken");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("an answer, and its end");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

fn get(at: SocketAddr, path: &str) -> Answer {
    ask(at, "GET", path)
}

struct Ends {
    source: Server,
    target: Server,
}

fn ends() -> Ends {
    let source = Server::start(Version::REDIS_7_0);
    populate(&source, KEYS, 100);
    Ends {
        source,
        target: Server::start(Version::VALKEY_8_0),
    }
}

impl Ends {
    /// A copy that takes its time, and where it can be looked at.
    fn start(&self, more: &[&str]) -> (Running, SocketAddr) {
        let mut options = vec!["--rate-limit", "100kb", "--status-listen", "0"];
        options.extend(more);
        let running = Running::start(&self.source.uri(), &self.target.uri(), &options);
        let told = running.process.stderr_so_far();
        let address = told
            .lines()
            .find_map(|line| line.strip_prefix("status   http://")?.strip_suffix('/'))
            .expect("the address is told");
        (running, address.parse().expect("an address"))
    }
}

#[test]
fn a_running_copy_can_be_looked_at() {
    let ends = ends();
    let (running, at) = ends.start(&[]);
    assert!(at.ip().is_loopback(), "{at}");
    wait_until("keys arrive", PATIENCE, || {
        let copied = &get(at, "/status").json()["counts"]["copied"];
        copied.as_u64().is_some_and(|keys| keys > 0)
    });

    let status = get(at, "/status").json();
    assert_eq!(status["state"], "copying", "{status}");
    assert_eq!(status["source"], ends.source.uri(), "{status}");
    assert_eq!(status["keyhaul"], env!("CARGO_PKG_VERSION"), "{status}");
    assert_eq!(status["counts"]["expected"], KEYS, "{status}");
    assert_eq!(status["live"], Value::Null, "{status}");

    let metrics = get(at, "/metrics");
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{metrics:?}"
    );
    let samples = metrics.samples();
    assert_eq!(samples["keyhaul_keys_expected"], KEYS as f64, "{samples:?}");
    assert_eq!(
        samples["keyhaul_state{state=\"copying\"}"], 1.0,
        "{samples:?}"
    );
    assert_eq!(
        samples["keyhaul_state{state=\"synced\"}"], 0.0,
        "{samples:?}"
    );
    assert!(samples["keyhaul_keys_copied_total"] > 0.0, "{samples:?}");

    assert_eq!(get(at, "/healthz").body, "ok\n");
    assert_eq!(ask(at, "HEAD", "/status").body, "");
    assert_eq!(get(at, "/nothing").status, 404);
    assert_eq!(ask(at, "DELETE", "/status").status, 405);

    running.process.interrupt();
    running.finish().exits_with(5);
    assert!(TcpStream::connect(at).is_err(), "it listens after its end");
}

#[test]
fn a_job_that_will_follow_says_so() {
    let ends = ends();
    let (running, at) = ends.start(&["--mode", "live", "--method", "scan"]);
    let status = get(at, "/status").json();
    assert!(status["live"]["state"].is_string(), "{status}");
    assert!(status["live"]["shards"].is_array(), "{status}");
    running.process.interrupt();
    let ran = running.finish().exits_with(5);
    assert!(ran.report["live"]["state"].is_string(), "{ran:#?}");
    assert_eq!(ran.report["verify"], Value::Null, "{ran:#?}");
    let said = &ran.outcome.stderr;
    assert!(
        said.contains("stopping: what is on its way to the target is being applied"),
        "{said}"
    );
    assert!(
        said.contains("follow the source: it tells the names of keys"),
        "{said}"
    );
    let summary = &ran.outcome.stdout;
    assert!(summary.starts_with("stopped "), "{summary}");
    assert!(summary.contains("give the same command again"), "{summary}");
}

#[test]
fn the_page_asks_nobody_else() {
    let ends = ends();
    let (running, at) = ends.start(&[]);
    let page = get(at, "/");
    assert!(page.head.contains("text/html"), "{}", page.head);
    for reference in [
        "http:",
        "https:",
        "src=",
        "@import",
        "url(",
        "innerHTML",
        "href=\"/",
    ] {
        assert!(!page.body.contains(reference), "{reference}");
    }
    assert!(page.body.contains("fetch(\"/status\""), "{}", page.body);
    running.process.terminate();
    running.finish().exits_with(5);
}

#[test]
fn strangers_do_not_disturb_the_job() {
    let ends = ends();
    let (running, at) = ends.start(&[]);
    // Noise and a head without an end are answered with an error, or not at all.
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000));
    for noise in ["\r\n\r\n\r\n\u{0}", "PING\r\n", &long] {
        let mut stream = TcpStream::connect(at).expect("somebody listens");
        // It may hang up before it has all of it.
        let _ = stream.write_all(noise.as_bytes());
    }
    // Many that say nothing take a place each, and none of the job.
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(at)).collect();
    assert!(silent.iter().all(Result::is_ok), "{silent:?}");
    let before = key_count(&ends.target);
    wait_until("keys go on arriving", PATIENCE, || {
        key_count(&ends.target) > before
    });
    running.process.interrupt();
    running.finish().exits_with(5);
    drop(silent);
}

#[test]
fn where_nobody_can_listen_nothing_is_written() {
    let ends = ends();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken
        .local_addr()
        .expect("it has an address")
        .port()
        .to_string();
    let rows = [
        (port.as_str(), "another program listens there"),
        ("192.0.2.1:9121", "name an address of this machine"),
        (
            "no-such-host.invalid:9121",
            "name an address of this machine",
        ),
    ];
    for (address, expected) in rows {
        let options = ["--status-listen", address];
        let ran = copy(&ends.source.uri(), &ends.target.uri(), &options).exits_with(3);
        assert_eq!(ran.report["outcome"], "refused", "{address}: {ran:#?}");
        let said = ran.outcome.stderr.trim_end();
        assert!(
            said.starts_with("error: --status-listen: cannot listen on"),
            "{said}"
        );
        assert!(
            said.contains(expected) && said.lines().count() == 1,
            "{said}"
        );
        assert_eq!(key_count(&ends.target), 0, "{address}");
    }
}
