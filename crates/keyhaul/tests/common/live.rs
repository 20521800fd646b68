//! Jobs that follow: two ends of any shape, the built binary with its status page, waiting for states, kills and
//! restarts, and what must be true at the end.

#![allow(clippy::panic, reason = "helpers of tests are tests too")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::process::Process;
use keyhaul_testkit::writes::{
    FIELD_TTL_COMMANDS, Place, WriteOptions, Writer, wait_until_short_lived_are_gone,
};
use keyhaul_testkit::{Cluster, ClusterBuilder, Dataset, Sentinel, Server, ServerBuilder, Version};
use redis::{Connection, cmd};
use serde_json::Value;
use tempfile::TempDir;

use super::copying::{Ran, key_counts};
use super::{DEADLINE, command};

/// Longest wait for a state; far above what is needed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Set to anything for the tests at full length.
pub(crate) const LONG: &str = "KEYHAUL_TEST_LONG";
/// What the names of all keys of our own begin with.
const OWN_PREFIX: &str = "keyhaul:";
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Whether the tests run at full length.
pub(crate) fn at_full_length() -> bool {
    std::env::var_os(LONG).is_some()
}

/// A source or a target.
pub(crate) enum Side {
    One(Box<Server>),
    Many(Cluster),
    /// A server and its replicas, found by sentinels.
    Watched(Sentinel),
}

impl Side {
    /// A server on a TCP port too, so that a replica can be attached.
    pub(crate) fn one(version: Version) -> Side {
        Side::built(Server::builder(version))
    }

    /// The same with options of its own.
    pub(crate) fn built(builder: ServerBuilder) -> Side {
        let builder = builder.tcp().arg("repl-diskless-sync-delay", 0);
        // Enough for what is written while nobody reads.
        let builder = builder.arg("repl-backlog-size", "64mb");
        Side::One(Box::new(builder.start()))
    }

    pub(crate) fn many(version: Version, primaries: usize) -> Side {
        let builder = Cluster::builder(version).primaries(primaries);
        Side::clustered(builder)
    }

    /// The same with options of its own.
    pub(crate) fn clustered(builder: ClusterBuilder) -> Side {
        let builder = builder.arg("repl-diskless-sync-delay", 0);
        Side::Many(builder.arg("repl-backlog-size", "64mb").start())
    }

    pub(crate) fn uri(&self) -> String {
        match self {
            Side::One(server) => server.uri(),
            Side::Many(cluster) => cluster.uri(),
            Side::Watched(sentinel) => sentinel.uri(),
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self {
            Side::One(server) => Place::server(server),
            Side::Many(cluster) => Place::cluster(cluster),
            Side::Watched(sentinel) => Place::server(sentinel.primary()),
        }
    }

    pub(crate) fn view(&self) -> View {
        match self {
            Side::One(server) => View::server(server),
            Side::Many(cluster) => View::cluster(cluster),
            Side::Watched(sentinel) => View::server(sentinel.primary()),
        }
    }

    pub(crate) fn version(&self) -> Version {
        match self {
            Side::One(server) => server.version(),
            Side::Many(cluster) => cluster.version(),
            Side::Watched(sentinel) => sentinel.primary().version(),
        }
    }

    pub(crate) fn primaries(&self) -> Vec<&Server> {
        match self {
            Side::One(server) => vec![server],
            Side::Many(cluster) => cluster.primaries(),
            Side::Watched(sentinel) => vec![sentinel.primary()],
        }
    }

    /// The server.
    #[track_caller]
    pub(crate) fn server(&self) -> &Server {
        match self {
            Side::One(server) => server,
            _ => panic!("it is not one server"),
        }
    }

    /// The server, to stop and restart it.
    #[track_caller]
    pub(crate) fn server_mut(&mut self) -> &mut Server {
        match self {
            Side::One(server) => server,
            _ => panic!("it is not one server"),
        }
    }

    /// The cluster.
    #[track_caller]
    pub(crate) fn cluster(&self) -> &Cluster {
        match self {
            Side::Many(cluster) => cluster,
            _ => panic!("it is no cluster"),
        }
    }

    /// Puts keys of all types in, as far as this target can hold them.
    pub(crate) fn fill_for(&self, target: &Side, keys: usize) {
        let dataset = Dataset {
            keys,
            field_ttls: target.version().has_field_ttls(),
            ..Dataset::default()
        };
        match self {
            Side::One(server) => dataset.fill(server),
            Side::Many(cluster) => dataset.fill_cluster(cluster),
            Side::Watched(sentinel) => dataset.fill(sentinel.primary()),
        }
    }

    /// All keys there are, of all dbs and nodes.
    pub(crate) fn key_count(&self) -> u64 {
        let servers = self.primaries().into_iter();
        servers
            .flat_map(|server| key_counts(server).into_values())
            .sum()
    }
}

/// Random writes that this target can hold, at a rate which leaves the machine to others.
pub(crate) fn writes_for(source: &Side, target: &Side) -> WriteOptions {
    let clusters = [source, target].map(|side| matches!(side, Side::Many(_)));
    let both_standalone = clusters == [false, false];
    let mut leave_out: Vec<String> = Vec::new();
    if !target.version().has_field_ttls() {
        leave_out.extend(FIELD_TTL_COMMANDS.iter().map(|name| (*name).to_owned()));
    }
    if source.version() != target.version() {
        // A value that only some versions know.
        leave_out.extend(["vadd", "vrem", "vsetattr"].map(Into::into));
    }
    WriteOptions {
        threads: 2,
        dbs: if both_standalone { vec![0, 2] } else { vec![0] },
        rate: Some(6000),
        leave_out,
        ..WriteOptions::default()
    }
}

/// The same, as far as a source tells of them that is read by this method.
pub(crate) fn writes_by(method: &str, source: &Side, target: &Side) -> WriteOptions {
    let mut options = writes_for(source, target);
    if method == "scan" {
        // It changes the form of a value and tells nobody, but for replicas.
        options.leave_out.push("pfdebug".into());
    }
    options
}

/// Keys that are there before, where it does not matter how many.
pub(crate) const KEYS: usize = 3000;

/// A source with keys and an empty target.
pub(crate) fn ends() -> (Side, Side) {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    source.fill_for(&target, KEYS);
    (source, target)
}

/// Random writes that go on until they are stopped.
pub(crate) fn writer(source: &Side, target: &Side, seed: u64) -> Writer {
    Writer::start(
        &source.place(),
        source.version(),
        seed,
        &writes_for(source, target),
    )
}

/// Random writes before the copy, while it runs and after it; then both sides hold the same.
#[track_caller]
pub(crate) fn follows(source: &Side, target: &Side, method: &str, seed: u64) {
    let commands = if at_full_length() { 200_000 } else { 5000 };
    source.fill_for(target, 2000);
    let options = writes_by(method, source, target);
    let writer = Writer::start(&source.place(), source.version(), seed, &options);
    writer.wait_for(500, PATIENCE);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", method]);
    let follower = live.start();
    writer.wait_for(commands, PATIENCE);
    follower.wait_following();
    writer.wait_for(commands, PATIENCE);
    let stats = writer.stop();
    assert!(stats.values().map(|count| count.ok).sum::<u64>() > commands);
    follower.ends_equal(source, target);
}

/// One command line with a folder of its own for state and report; it can be given again and again.
pub(crate) struct Live {
    words: Vec<String>,
    folder: TempDir,
}

/// A job that follows.
pub(crate) struct Follower {
    pub(crate) process: Process,
    port: u16,
    report: PathBuf,
}

impl Live {
    /// `keyhaul replicate SOURCE TARGET --mode live` with these options.
    pub(crate) fn new(source: &str, target: &str, options: &[&str]) -> Live {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let fixed = [
            "replicate",
            source,
            target,
            "--mode",
            "live",
            "--progress",
            "plain",
        ];
        let mut words: Vec<String> = fixed.iter().map(|word| (*word).to_owned()).collect();
        words.extend(options.iter().map(|word| (*word).to_owned()));
        let path = |name: &str| folder.path().join(name).display().to_string();
        words.extend(["--report".into(), path("report.json")]);
        words.extend(["--state-dir".into(), path("state")]);
        Live { words, folder }
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Follower {
        self.start_by(|command| command)
    }

    /// Starts it where no file can grow beyond so many blocks of the shell's `ulimit -f` (512 or 1024 bytes): as on a
    /// disk that is full.
    pub(crate) fn start_with_file_limit(&self, blocks: u32) -> Follower {
        self.start_by(|command| {
            let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
            let mut limited = Command::new("sh");
            limited.args(["-c", script, "sh", &blocks.to_string()]);
            limited.arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => limited.env(name, value),
                    None => limited.env_remove(name),
                };
            }
            limited
        })
    }

    fn start_by(&self, wrapped: impl FnOnce(Command) -> Command) -> Follower {
        let report = self.folder.path().join("report.json");
        drop(std::fs::remove_file(&report));
        let port = free_port();
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut command = command(&words);
        command.args(["--status-listen", &format!("127.0.0.1:{port}")]);
        // The spool lies with the temporary files.
        command.env("TMPDIR", self.folder.path());
        Follower {
            process: Process::start(wrapped(command)),
            port,
            report,
        }
    }

    /// Bytes of all files below the job's folder, the spool's too.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        bytes_below(self.folder.path())
    }
}

impl Follower {
    /// What `/status` says; None where nobody answers yet.
    pub(crate) fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.get("/status")?).ok()
    }

    /// The body of a page.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        head.lines()
            .next()?
            .contains(" 200")
            .then(|| body.to_owned())
    }

    /// Waits until its status is like this, and gives it.
    #[track_caller]
    pub(crate) fn wait_status(&self, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| is(status)) {
                return status.clone();
            }
            let output = || {
                format!(
                    "{}\n{}",
                    self.process.stdout_so_far(),
                    self.process.stderr_so_far()
                )
            };
            let runs = self.process.rss_peak_bytes_now().is_some();
            assert!(runs, "it ended before: {what}\n{}", output());
            assert!(
                started.elapsed() < PATIENCE,
                "in vain: {what}; status {status:?}\n{}",
                output()
            );
            std::thread::sleep(POLL);
        }
    }

    /// Waits until keys move.
    #[track_caller]
    pub(crate) fn wait_copying(&self) {
        self.wait_status("keys are copied", |status| {
            status["live"]["state"] == "copying" || is_past_copy(status)
        });
    }

    /// Waits until the first copy is done.
    #[track_caller]
    pub(crate) fn wait_following(&self) {
        self.wait_status("changes are followed", is_past_copy);
    }

    /// Waits until all that the source has done up to now is applied. Writes must have ended.
    #[track_caller]
    pub(crate) fn wait_applied(&self, source: &Side, target: &Side) {
        let written = marks(source);
        let reached: Vec<(String, u64)> = source
            .primaries()
            .iter()
            .map(|server| (server.info("master_replid"), offset_of(server)))
            .collect();
        self.wait_status("all is applied", |status| {
            let caught_up = if has_offsets(status) {
                // Shards are told apart by their histories; an offset of another history means nothing.
                reached.iter().all(|(replid, offset)| {
                    shards(status).iter().any(|shard| {
                        shard["replid"] == replid.as_str()
                            && shard["applied_offset"].as_u64() >= Some(*offset)
                    })
                })
            } else {
                written.iter().all(|key| is_there(target, key))
            };
            caught_up && is_synced(status)
        });
        // By tracking, what was told before the mark may have been under way when the state was looked at.
        if self.status().is_some_and(|status| !has_offsets(&status)) {
            let since = Instant::now();
            self.wait_status("it stays so", |status| {
                is_synced(status) && since.elapsed() > Duration::from_secs(1)
            });
        }
    }

    /// Ctrl-C, and its end, which must be exit code 0.
    #[track_caller]
    pub(crate) fn stop(self) -> Ran {
        self.process.interrupt();
        self.finish().exits_with(0)
    }

    /// kill -9.
    #[track_caller]
    pub(crate) fn kill(self) {
        self.process.kill();
        let ran = self.finish();
        assert_eq!(ran.outcome.signal, Some(9), "it ended before: {ran:#?}");
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Ran {
        let outcome = self.process.wait(DEADLINE);
        let report = std::fs::read(&self.report).map_or(Value::Null, |text| {
            serde_json::from_slice(&text).expect("the report is JSON")
        });
        Ran { outcome, report }
    }

    /// The end of every test: nothing is short-lived any more, all is applied, Ctrl-C ends it well, both ends hold
    /// the same, and nothing of ours is left on either.
    #[track_caller]
    pub(crate) fn ends_equal(self, source: &Side, target: &Side) -> Ran {
        self.ends_equal_but_for(source, target, &DiffOptions::as_a_replica())
    }

    /// The same with what may differ.
    #[track_caller]
    pub(crate) fn ends_equal_but_for(
        self,
        source: &Side,
        target: &Side,
        options: &DiffOptions,
    ) -> Ran {
        wait_until_short_lived_are_gone(&source.place());
        self.wait_applied(source, target);
        let ran = self.stop();
        assert_eq!(
            ran.not_moved(),
            std::collections::BTreeSet::new(),
            "{ran:#?}"
        );
        assert_nothing_of_ours(source);
        assert_nothing_of_ours(target);
        assert_equal_with(&source.view(), &target.view(), options);
        ran
    }
}

/// Fails if there is a key of ours.
#[track_caller]
pub(crate) fn assert_nothing_of_ours(side: &Side) {
    for server in side.primaries() {
        for db in key_counts(server).into_keys() {
            let names: Vec<String> = cmd("KEYS")
                .arg(format!("{OWN_PREFIX}*"))
                .query(&mut server.connection(db))
                .expect("KEYS is answered");
            assert!(names.is_empty(), "{}: {names:?}", server.uri());
        }
    }
}

/// Whether the keys that were there at the start are over.
pub(crate) fn is_past_copy(status: &Value) -> bool {
    let state = status["live"]["state"].as_str().unwrap_or_default();
    ["catching_up", "following", "synced"].contains(&state)
}

/// Whether nothing is open.
pub(crate) fn is_synced(status: &Value) -> bool {
    status["live"]["state"] == "synced"
        && shards(status).iter().all(|shard| shard["keys_open"] == 0)
}

/// A number of the shards, added up.
pub(crate) fn sum(status: &Value, name: &str) -> u64 {
    shards(status)
        .iter()
        .filter_map(|shard| shard[name].as_u64())
        .sum()
}

/// The shards of a status.
pub(crate) fn shards(status: &Value) -> &[Value] {
    status["live"]["shards"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// Up to where a server's stream has come.
pub(crate) fn offset_of(server: &Server) -> u64 {
    server
        .info("master_repl_offset")
        .parse()
        .expect("is a number")
}

fn has_offsets(status: &Value) -> bool {
    let shards = shards(status);
    !shards.is_empty() && shards.iter().all(|shard| shard["applied_offset"].is_u64())
}

/// Writes a key to each primary, after everything else, and gives the names.
fn marks(source: &Side) -> Vec<String> {
    let owner = |key: &str| match source {
        Side::Many(cluster) => cluster.owner_of(key.as_bytes()),
        _ => 0,
    };
    let mut names = Vec::new();
    let mut marked = std::collections::BTreeSet::new();
    let primaries = source.primaries().len();
    for number in 0.. {
        if marked.len() == primaries {
            break;
        }
        let name = format!("mark:{}:{number}", std::process::id());
        if !marked.insert(owner(&name)) {
            continue;
        }
        let mut connection = connection_for(source, name.as_bytes());
        // Names of an earlier mark are there already: they tell nothing.
        let unique = format!("{{{name}}}{:?}", Instant::now());
        cmd("SET")
            .arg(&unique)
            .arg(1)
            .exec(&mut connection)
            .expect("SET");
        names.push(unique);
    }
    names
}

/// A connection to who serves the key.
pub(crate) fn connection_for(side: &Side, key: &[u8]) -> Connection {
    match side {
        Side::Many(cluster) => cluster.connection_for(key),
        _ => side.primaries()[0].client(),
    }
}

fn is_there(target: &Side, key: &str) -> bool {
    let mut connection = connection_for(target, key.as_bytes());
    let count: u64 = cmd("EXISTS")
        .arg(key)
        .query(&mut connection)
        .expect("EXISTS");
    count == 1
}

/// A port that is free at this moment; taken by somebody else before it is used, the job says so and ends.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    listener.local_addr().expect("it is bound").port()
}

fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_below(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
