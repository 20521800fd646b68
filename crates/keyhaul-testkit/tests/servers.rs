//! Servers of every version start, answer, stop, come back and leave nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keyhaul_testkit::process::Process;
use keyhaul_testkit::truth::{Hints, truth};
use keyhaul_testkit::{Family, Server, Tls, Version, check_rdb, require, wait_until};

#[test]
fn every_available_version_starts_and_reports_itself() {
    for version in Version::ALL {
        if !require(version) {
            continue;
        }
        let server = Server::start(version);
        let field = match version.family() {
            Family::Redis => "redis_version",
            Family::Valkey => "valkey_version",
        };
        let (major, minor) = version.number();
        let full = server.info(field);
        assert!(
            full.starts_with(&format!("{major}.{minor}.")),
            "{version} reports {full}"
        );
        assert_eq!(
            server.uri(),
            format!("unix://{}", server.socket().display())
        );
        assert!(server.socket().as_os_str().len() < 107);
        assert_eq!(server.info("process_id"), server.pid().to_string());
        assert!(server.rss_bytes() > 1024 * 1024);
        let saves: Vec<String> = redis::cmd("CONFIG")
            .arg("GET")
            .arg("save")
            .query(&mut server.client())
            .unwrap();
        assert_eq!(saves, ["save", ""]);
    }
}

#[test]
fn drop_kills_the_process_and_removes_the_folder() {
    let server = Server::start(Version::REDIS_7_0);
    let (pid, dir) = (server.pid(), server.dir().to_path_buf());
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
}

/// Runs itself in another process, which starts a server and is killed.
#[test]
fn servers_die_with_a_killed_test_process() {
    const CHILD: &str = "KEYHAUL_TESTKIT_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let server = Server::start(Version::REDIS_7_0);
        println!(
            "child-server {} {} end",
            server.pid(),
            server.dir().display()
        );
        loop {
            std::thread::park();
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "servers_die_with_a_killed_test_process",
        "--nocapture",
    ]);
    command.env(CHILD, "1");
    let mut child = Process::start(command);
    child.wait_for_output(" end", Duration::from_secs(30));
    let output = child.stdout_so_far();
    let words: Vec<&str> = output
        .split("child-server ")
        .nth(1)
        .unwrap()
        .split(' ')
        .collect();
    let server = Path::new("/proc").join(words[0]);
    assert!(server.exists());
    child.kill();
    wait_until("the server is gone", Duration::from_secs(10), || {
        !server.exists()
    });
    // The one thing that a killed test process leaves behind.
    std::fs::remove_dir_all(words[1]).unwrap();
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let server = std::thread::spawn(|| Server::start(Version::REDIS_7_0))
        .join()
        .unwrap();
    redis::cmd("PING").exec(&mut server.client()).unwrap();
    wait_until("still there", Duration::from_secs(5), || {
        server.info("role") == "master"
    });
}

#[test]
fn dumps_survive_a_shutdown_and_a_kill_loses_what_was_not_saved() {
    let mut server = Server::builder(Version::VALKEY_8_0).tcp().start();
    let port = server.port();
    let set = |server: &Server, key: &str| {
        redis::cmd("SET")
            .arg(key)
            .arg("v")
            .exec(&mut server.connection(3))
            .unwrap();
    };
    set(&server, "saved");
    server.shutdown_save();
    server.restart();
    set(&server, "lost");
    server.stop();
    server.restart();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut server.connection(3))
        .unwrap();
    assert_eq!(keys, ["saved"]);
    assert_eq!(server.port(), port);
}

#[test]
fn a_paused_server_takes_connections_and_does_not_answer() {
    let server = Server::start(Version::REDIS_7_0);
    server.pause();
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    std::io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    let error = std::io::Read::read(&mut stream, &mut answer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    server.resume();
    stream.set_read_timeout(None).unwrap();
    std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn cpu_seconds_grow_with_work() {
    let server = Server::start(Version::REDIS_7_0);
    let before = server.cpu_seconds();
    let mut client = server.client();
    redis::cmd("DEBUG")
        .arg("POPULATE")
        .arg(300_000)
        .exec(&mut client)
        .unwrap();
    assert!(server.cpu_seconds() > before);
}

#[test]
fn passwords_and_users_bind_the_client_under_test_and_not_the_kit() {
    for version in [Version::REDIS_6_0, Version::REDIS_7_0, Version::VALKEY_8_0] {
        if !require(version) {
            continue;
        }
        let server = Server::builder(version)
            .tcp()
            .password("open")
            .acl_user("alice", "on >secret ~app:* +@read")
            .start();
        redis::cmd("SET")
            .arg("app:1")
            .arg("v")
            .exec(&mut server.client())
            .unwrap();
        let run = |user: &str, key: &str| -> Result<String, redis::RedisError> {
            let uri = format!("redis://{user}127.0.0.1:{}", server.port());
            redis::cmd("GET")
                .arg(key)
                .query(&mut redis::Client::open(uri)?.get_connection()?)
        };
        assert_eq!(run(":open@", "app:1").unwrap(), "v");
        assert_eq!(run("alice:secret@", "app:1").unwrap(), "v");
        assert_eq!(
            run("alice:secret@", "other").unwrap_err().code(),
            Some("NOPERM")
        );
        assert_eq!(run("", "app:1").unwrap_err().code(), Some("NOAUTH"));
    }
}

#[test]
fn servers_listen_on_ipv6() {
    let server = Server::builder(Version::REDIS_7_0).bind("::1").start();
    assert_eq!(server.uri(), format!("redis://[::1]:{}", server.port()));
    let mut connection = redis::Client::open(server.uri())
        .unwrap()
        .get_connection()
        .unwrap();
    redis::cmd("PING").exec(&mut connection).unwrap();
}

#[test]
fn options_win_over_those_of_the_kit() {
    let server = Server::builder(Version::REDIS_7_0)
        .arg("databases", 3)
        .arg("save", "60 1")
        .start();
    let get = |name: &str| -> Vec<String> {
        redis::cmd("CONFIG")
            .arg("GET")
            .arg(name)
            .query(&mut server.client())
            .unwrap()
    };
    assert_eq!(get("databases")[1], "3");
    assert_eq!(get("save")[1], "60 1");
}

#[test]
#[should_panic(expected = "did not start")]
fn a_server_that_cannot_start_says_so() {
    Server::builder(Version::REDIS_7_0)
        .arg("no-such-option", 1)
        .start();
}

#[test]
fn tls_servers_show_the_certificate_that_was_asked_for() {
    let tls = Tls::new();
    let good = Server::builder(Version::REDIS_7_0).tls(&tls).start();
    assert!(tls_ping(&good, &tls.ca(), None).is_ok());
    assert!(tls_ping(&good, &tls.wrong_ca(), None).is_err());

    let valkey = Server::builder(Version::VALKEY_8_0)
        .tls(&tls)
        .arg("tls-auth-clients", "yes")
        .start();
    assert!(tls_ping(&valkey, &tls.ca(), Some(&tls)).is_ok());
    assert!(tls_ping(&valkey, &tls.ca(), None).is_err());

    for (cert, key) in [
        (tls.expired_cert(), tls.expired_key()),
        (tls.wrong_host_cert(), tls.wrong_host_key()),
    ] {
        let bad = Server::builder(Version::REDIS_7_0)
            .tls_with_certificate(&tls, &cert, &key)
            .start();
        let error = tls_ping(&bad, &tls.ca(), None).unwrap_err();
        assert!(error.contains("certificate"), "{error}");
    }
}

fn tls_ping(server: &Server, ca: &Path, client: Option<&Tls>) -> Result<(), String> {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let certificates = redis::TlsCertificates {
        client_tls: client.map(|tls| redis::ClientTlsConfig {
            client_cert: read(&tls.client_cert()),
            client_key: read(&tls.client_key()),
        }),
        root_cert: Some(read(ca)),
    };
    let run = || -> redis::RedisResult<()> {
        let client = redis::Client::build_with_tls(server.uri(), certificates)?;
        redis::cmd("PING").exec(&mut client.get_connection()?)
    };
    run().map_err(|error| format!("{error}: {error:?}"))
}

#[test]
fn a_dump_is_checked_and_loaded_and_an_end_is_noticed() {
    for version in Version::DEFAULT {
        require(version);
        let mut server = Server::start(version);
        redis::cmd("SET")
            .arg("k")
            .arg("v")
            .exec(&mut server.client())
            .unwrap();
        server.shutdown_save();
        let rdb_file = server.dir().join("dump.rdb");
        check_rdb(version, &rdb_file).unwrap();

        let mut loaded = Server::builder(version).dump(&rdb_file).start();
        let expected = "key\t0\tk\tstring\t-\nvalue\tv\n";
        assert_eq!(truth(&loaded, &Hints::default()), expected);
        assert_eq!(loaded.has_ended(), None);
        redis::cmd("SHUTDOWN")
            .arg("NOSAVE")
            .exec(&mut loaded.client())
            .unwrap_or_default();
        wait_until("it ends", Duration::from_secs(10), || {
            loaded.has_ended().is_some()
        });

        let mut damaged = std::fs::read(&rdb_file).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&rdb_file, damaged).unwrap();
        check_rdb(version, &rdb_file).unwrap_err();
    }
}

#[test]
fn a_server_runs_with_a_clock_of_its_own() {
    for version in Version::all_available() {
        let server = Server::builder(version).clock_shift_seconds(3600).start();
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut server.client()).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let ahead = seconds.abs_diff(now.unwrap().as_secs());
        assert!((3590..=3610).contains(&ahead), "{version}: {ahead} s");
        // What expires is decided by that clock too.
        redis::cmd("SET")
            .arg("k")
            .arg(1)
            .arg("EX")
            .arg(100)
            .exec(&mut server.client())
            .unwrap();
        let ttl_ms: i64 = redis::cmd("PTTL")
            .arg("k")
            .query(&mut server.client())
            .unwrap();
        assert!(
            (90_000..=100_000).contains(&ttl_ms),
            "{version}: {ttl_ms} ms"
        );
    }
}
