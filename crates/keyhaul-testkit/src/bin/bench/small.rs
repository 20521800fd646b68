//! 1.2 million small keys, between servers, clusters and files.

use std::process::Command;

use keyhaul_testkit::{Cluster, Server, Tls, Version, redis, require};

use crate::measured::{self, COMPARE, COPY, MEM_KEYS, Measured};

/// Keys of the data set: strings of 100 bytes, and collections of 20 elements.
const STRINGS: usize = 1_000_000;
const COLLECTIONS: usize = 200_000;
const ELEMENTS: usize = 20;

/// Every pair of endpoints, those with a budget of their own so many times.
pub(crate) fn measure(keyhaul: &str, runs: usize) -> Vec<Measured> {
    let tls = Tls::new();
    let source = Server::builder(Version::REDIS_7_0).tcp().tls(&tls).start();
    println!("filling the source with {} keys", STRINGS + COLLECTIONS);
    fill(&source);

    let mut measured = Vec::new();
    for _ in 0..runs {
        let target = Server::start(Version::VALKEY_8_0);
        let args = [socket_uri(&source), target.uri()];
        for (name, job) in [
            ("standalone, Unix socket", COPY),
            ("comparison of these", COMPARE),
        ] {
            measured.push(measured::measure(
                name,
                keyhaul,
                job,
                &args,
                &[&source],
                &[&target],
            ));
        }
    }
    // Over TCP, as a server is reached.
    for _ in 0..runs {
        let name = "keystats memkeys, TCP";
        let args = [source.tcp_uri()];
        let sources = [&source];
        measured.push(measured::measure(
            name,
            keyhaul,
            MEM_KEYS,
            &args,
            &sources,
            &[],
        ));
    }
    if let Some(cli) = Version::REDIS_7_0.cli_binary() {
        let mut command = Command::new(cli);
        command.args(["-p", &source.port().to_string(), "--memkeys"]);
        let name = "redis-cli --memkeys, TCP";
        measured.push(measured::measure_command(name, command, &[&source], &[]));
    }
    {
        let target = Server::builder(Version::VALKEY_8_0).tls(&tls).start();
        let uri = |server: &Server| format!("rediss://127.0.0.1:{}", server.tls_port());
        let ca = tls.ca().display().to_string();
        let args = [
            uri(&source),
            uri(&target),
            "--source-cacert".into(),
            ca.clone(),
            "--target-cacert".into(),
            ca,
        ];
        measured.push(measured::measure(
            "standalone, TLS",
            keyhaul,
            COPY,
            &args,
            &[&source],
            &[&target],
        ));
    }
    {
        let target = Cluster::start(Version::VALKEY_8_0, 3);
        let nodes: Vec<&Server> = target.nodes().iter().collect();
        let args = [socket_uri(&source), target.uri()];
        measured.push(measured::measure(
            "to a cluster of 3, TCP",
            keyhaul,
            COPY,
            &args,
            &[&source],
            &nodes,
        ));
    }
    {
        redis::cmd("SAVE")
            .exec(&mut source.client())
            .expect("the source saves");
        let file = source.dir().join("dump.rdb").display().to_string();
        for _ in 0..runs {
            let target = Server::start(Version::VALKEY_8_0);
            let args = [format!("file:{file}"), target.uri()];
            measured.push(measured::measure(
                "an RDB file",
                keyhaul,
                COPY,
                &args,
                &[],
                &[&target],
            ));
        }
        let backup = source.dir().join("backup.rdb").display().to_string();
        let args = [socket_uri(&source), format!("file:{backup}")];
        measured.push(measured::measure(
            "to an RDB file, PSYNC",
            keyhaul,
            COPY,
            &args,
            &[&source],
            &[],
        ));
    }
    drop(source);
    if require(Version::REDIS_8_2) && require(Version::VALKEY_8_1) {
        let source = Server::start(Version::REDIS_8_2);
        fill(&source);
        for _ in 0..runs {
            let target = Server::start(Version::VALKEY_8_1);
            let args = [source.uri(), target.uri()];
            measured.push(measured::measure(
                "Redis 8.2 to Valkey 8.1",
                keyhaul,
                COPY,
                &args,
                &[&source],
                &[&target],
            ));
        }
    }
    measured
}

/// The source listens on a Unix socket beside its TLS port.
fn socket_uri(server: &Server) -> String {
    format!("unix://{}", server.socket().display())
}

/// Puts the data set in.
pub(crate) fn fill(server: &Server) {
    const PIPELINE: usize = 1000;
    let mut connection = server.client();
    for first in (0..STRINGS + COLLECTIONS).step_by(PIPELINE) {
        let mut pipe = redis::pipe();
        for n in first..first + PIPELINE {
            if n < STRINGS {
                pipe.cmd("SET")
                    .arg(format!("string:{n}"))
                    .arg(format!("{n:0>100}"))
                    .ignore();
                continue;
            }
            let kind = n % 4;
            let (command, name) = [
                ("HSET", "hash"),
                ("ZADD", "zset"),
                ("SADD", "set"),
                ("RPUSH", "list"),
            ][kind];
            pipe.cmd(command).arg(format!("{name}:{n}"));
            for element in 0..ELEMENTS {
                match command {
                    "HSET" => pipe
                        .arg(format!("field:{element}"))
                        .arg(format!("value:{n}")),
                    "ZADD" => pipe.arg(element * n).arg(format!("member:{element}")),
                    _ => pipe.arg(format!("element:{element}:{n}")),
                };
            }
            pipe.ignore();
        }
        pipe.query::<()>(&mut connection)
            .expect("the source takes the data");
    }
}
