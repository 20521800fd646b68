//! Big keys: makers of values of every type, values whose elements tell their generation, jobs with a
//! state folder, and threads that write or look while a job runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyhaul_testkit::Server;
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::process::Process;
use redis::{Connection, cmd};
use serde_json::Value;
use tempfile::TempDir;

use super::copying::{Ran, key_counts};
use super::{DEADLINE, command};

/// Longest wait for something that is about to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What the names of staging keys begin with.
pub(crate) const STAGING: &str = "keyhaul:staging:";

/// One command line with a state folder of its own; it can be given again and again.
pub(crate) struct Job {
    words: Vec<String>,
    folder: TempDir,
}

/// A job that is running.
pub(crate) struct Underway {
    pub(crate) process: Process,
    report: PathBuf,
}

impl Job {
    pub(crate) fn replicate(source: &str, target: &str, options: &[&str]) -> Job {
        Job::new("replicate", source, target, options)
    }

    pub(crate) fn big_keys(source: &str, target: &str, options: &[&str]) -> Job {
        Job::new("big-keys", source, target, options)
    }

    fn new(name: &str, source: &str, target: &str, options: &[&str]) -> Job {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut words: Vec<String> = [name, source, target, "--progress", "plain"]
            .map(Into::into)
            .into();
        words.extend(options.iter().map(|word| (*word).to_owned()));
        let path = |name: &str| folder.path().join(name).display().to_string();
        words.extend(["--report".into(), path("report.json")]);
        words.extend(["--state-dir".into(), path("state")]);
        Job { words, folder }
    }

    /// The state folder; the job makes it.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The checkpoints that are there. What only keeps two jobs apart may stay.
    pub(crate) fn checkpoints(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.state_dir(), &mut found);
        found.retain(|path| path.extension().is_none_or(|ending| ending != "lock"));
        found
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Underway {
        self.start_with(&[])
    }

    /// Starts it with more options.
    pub(crate) fn start_with(&self, options: &[&str]) -> Underway {
        let report = self.folder.path().join("report.json");
        drop(std::fs::remove_file(&report));
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut command = command(&words);
        command.args(options);
        Underway {
            process: Process::start(command),
            report,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Ran {
        self.start().finish()
    }

    /// Starts it and kills it once so many bytes of big keys lie in staging keys.
    #[track_caller]
    pub(crate) fn kill_when_staged(&self, target: &Server, bytes: u64) {
        let underway = self.start();
        underway.wait_staged(target, bytes);
        underway.process.kill();
        let ran = underway.finish();
        assert_eq!(ran.outcome.signal, Some(9), "it ended before: {ran:#?}");
    }

    /// Runs it to its end, which must be this code, and leave neither checkpoint nor staging keys.
    #[track_caller]
    pub(crate) fn ends(&self, targets: &[&Server], code: i32) -> Ran {
        let ran = self.run().exits_with(code);
        self.left_nothing(targets);
        ran
    }

    /// Fails if there is a checkpoint or a staging key.
    #[track_caller]
    pub(crate) fn left_nothing(&self, targets: &[&Server]) {
        assert_eq!(self.checkpoints(), Vec::<PathBuf>::new());
        for target in targets {
            assert_eq!(staging_keys(target), Vec::<(u32, String)>::new());
        }
    }
}

impl Underway {
    /// Waits for something that must happen while it runs.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let started = Instant::now();
        while !ready() {
            let runs = self.process.rss_peak_bytes_now().is_some();
            assert!(runs, "it ended before: {what}");
            assert!(started.elapsed() < PATIENCE, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so much lies in staging keys.
    #[track_caller]
    pub(crate) fn wait_staged(&self, target: &Server, bytes: u64) {
        self.wait_until("a staging key grows", || staged_bytes(target) >= bytes);
    }

    /// Waits until the target has read so much more than before.
    #[track_caller]
    pub(crate) fn wait_input(&self, target: &Server, before: u64, bytes: u64) {
        self.wait_until("bytes arrive", || net_input(target) >= before + bytes);
    }
    /// Waits for its end.
    pub(crate) fn finish(self) -> Ran {
        let outcome = self.process.wait(DEADLINE);
        let report = std::fs::read(&self.report).map_or(Value::Null, |text| {
            serde_json::from_slice(&text).expect("the report is JSON")
        });
        Ran { outcome, report }
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Copies in chunks of so many elements, whatever the size of a key.
#[track_caller]
pub(crate) fn chunked(
    source: &Server,
    target: &Server,
    chunk_elements: &str,
    more: &[&str],
) -> Ran {
    let options = [
        &["--chunk-threshold", "1", "--chunk-size", chunk_elements][..],
        more,
    ]
    .concat();
    Job::replicate(&source.uri(), &target.uri(), &options).ends(&[target], 0)
}

/// Fails unless both hold the same, and nothing but that.
#[track_caller]
pub(crate) fn same(source: &Server, target: &Server) {
    diff::assert_equal(&View::server(source), &View::server(target));
}

/// The staging keys: db and name.
pub(crate) fn staging_keys(server: &Server) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for db in key_counts(server).into_keys() {
        let names: Vec<Vec<u8>> = cmd("KEYS")
            .arg(format!("{STAGING}*"))
            .query(&mut server.connection(db))
            .expect("KEYS is answered");
        found.extend(
            names
                .iter()
                .map(|name| (db, name.escape_ascii().to_string())),
        );
    }
    found.sort();
    found
}

/// What lies in staging keys, as the server estimates it.
pub(crate) fn staged_bytes(server: &Server) -> u64 {
    let usage = |(db, name): (u32, String)| memory_usage(server, db, &name);
    staging_keys(server).into_iter().map(usage).sum()
}

/// What stands in the place of a staging key while it grows may be gone between two looks.
fn memory_usage(server: &Server, db: u32, name: &str) -> u64 {
    let usage: Option<u64> = cmd("MEMORY")
        .arg("USAGE")
        .arg(name)
        .query(&mut server.connection(db))
        .expect("MEMORY USAGE is answered");
    usage.unwrap_or(0)
}

/// Bytes that the server has read from clients since it started.
pub(crate) fn net_input(server: &Server) -> u64 {
    server
        .info("total_net_input_bytes")
        .parse()
        .expect("is a number")
}

/// The types that go over by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hash,
    Zset,
    Set,
    List,
    Text,
    Stream,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Hash,
    Kind::Zset,
    Kind::Set,
    Kind::List,
    Kind::Text,
    Kind::Stream,
];

/// Elements that carry the generation, spread over the value.
const MARKS: usize = 8;
/// Width of a generation in a string.
const MARK_BYTES: usize = 20;
/// A string has so many bytes per element of other types.
const TEXT_UNIT: usize = 100;

/// A key of so many elements of some length, of which eight carry one number, the generation. Writes
/// change all eight in one transaction: a value with two numbers in it never was.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) kind: Kind,
    pub(crate) key: String,
    pub(crate) elements: usize,
    pub(crate) element_bytes: usize,
}

/// What a look at a marked key shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Absent,
    /// A value of another type.
    Other,
    /// All of it, of this generation.
    Whole(u64),
    /// What never was.
    Broken(String),
}

impl Marked {
    pub(crate) fn new(kind: Kind, elements: usize, element_bytes: usize) -> Marked {
        Marked {
            kind,
            key: format!("marked:{kind:?}"),
            elements,
            element_bytes,
        }
    }

    /// About the bytes of its value.
    pub(crate) fn bytes(&self) -> u64 {
        let one = match self.kind {
            Kind::Text => TEXT_UNIT,
            _ => self.element_bytes,
        };
        (self.elements * one) as u64
    }

    fn element(&self, n: usize) -> String {
        format!(
            "{n:07}:{}",
            "e".repeat(self.element_bytes.saturating_sub(8))
        )
    }

    /// Makes the key anew, in one step.
    pub(crate) fn make(&self, client: &mut Connection, generation: u64) {
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("DEL").arg(&self.key).ignore();
        if self.kind == Kind::Text {
            let last = self.elements * TEXT_UNIT - 1;
            pipe.cmd("SETRANGE")
                .arg(&self.key)
                .arg(last)
                .arg("e")
                .ignore();
        }
        for first in (0..self.elements).step_by(500) {
            let numbers = first..self.elements.min(first + 500);
            match self.kind {
                Kind::Text => {}
                Kind::Stream => numbers.for_each(|n| {
                    let id = format!("1-{}", n + 1);
                    pipe.cmd("XADD")
                        .arg(&self.key)
                        .arg(id)
                        .arg("e")
                        .arg(self.element(n))
                        .ignore();
                }),
                _ => {
                    let name = match self.kind {
                        Kind::Hash => "HSET",
                        Kind::Zset => "ZADD",
                        Kind::Set => "SADD",
                        _ => "RPUSH",
                    };
                    let command = pipe.cmd(name).arg(&self.key);
                    for n in numbers {
                        match self.kind {
                            Kind::Hash => command.arg(format!("e:{n}")).arg(self.element(n)),
                            Kind::Zset => command.arg(n).arg(self.element(n)),
                            _ => command.arg(self.element(n)),
                        };
                    }
                    command.ignore();
                }
            }
        }
        if self.kind == Kind::Stream {
            pipe.cmd("XGROUP")
                .arg("CREATE")
                .arg(&self.key)
                .arg("g")
                .arg("0")
                .ignore();
        }
        self.mark(&mut pipe, 0, generation);
        pipe.exec(client).expect("is taken");
    }

    /// Changes all marks from one generation to another, in one step.
    pub(crate) fn advance(&self, client: &mut Connection, from: u64, to: u64) {
        let mut pipe = redis::pipe();
        pipe.atomic();
        self.mark(&mut pipe, from, to);
        pipe.exec(client).expect("is taken");
    }

    fn mark(&self, pipe: &mut redis::Pipeline, from: u64, to: u64) {
        for mark in 0..MARKS {
            let place = self.elements / MARKS * mark;
            match self.kind {
                Kind::Hash => pipe
                    .cmd("HSET")
                    .arg(&self.key)
                    .arg(format!("m:{mark}"))
                    .arg(to),
                Kind::Zset => pipe
                    .cmd("ZADD")
                    .arg(&self.key)
                    .arg(to)
                    .arg(format!("m:{mark}")),
                Kind::Set => {
                    let old = format!("m:{mark}:{from}");
                    pipe.cmd("SREM").arg(&self.key).arg(old).ignore();
                    pipe.cmd("SADD")
                        .arg(&self.key)
                        .arg(format!("m:{mark}:{to}"))
                }
                Kind::List => pipe
                    .cmd("LSET")
                    .arg(&self.key)
                    .arg(place)
                    .arg(format!("m:{mark}:{to}")),
                Kind::Text => {
                    let text = format!("{to:0MARK_BYTES$}");
                    pipe.cmd("SETRANGE")
                        .arg(&self.key)
                        .arg(place * TEXT_UNIT)
                        .arg(text)
                }
                Kind::Stream => {
                    let old = format!("{}-{mark}", from + 10);
                    pipe.cmd("XDEL").arg(&self.key).arg(old).ignore();
                    let id = format!("{}-{mark}", to + 10);
                    pipe.cmd("XGROUP")
                        .arg("SETID")
                        .arg(&self.key)
                        .arg("g")
                        .arg(&id)
                        .ignore();
                    pipe.cmd("XADD").arg(&self.key).arg(id).arg("m").arg(to)
                }
            }
            .ignore();
        }
    }

    /// Reads all of it by one command.
    pub(crate) fn look(&self, client: &mut Connection) -> Seen {
        let mut command = match self.kind {
            Kind::Hash => cmd("HGETALL"),
            Kind::Zset => cmd("ZRANGE"),
            Kind::Set => cmd("SMEMBERS"),
            Kind::List => cmd("LRANGE"),
            Kind::Text => cmd("GET"),
            Kind::Stream => cmd("XRANGE"),
        };
        command.arg(&self.key);
        match self.kind {
            Kind::Zset => command.arg(0).arg(-1).arg("WITHSCORES"),
            Kind::List => command.arg(0).arg(-1),
            Kind::Stream => command.arg("-").arg("+"),
            _ => &mut command,
        };
        let mut words = Vec::new();
        match command.query::<redis::Value>(client) {
            Ok(reply) => flatten(reply, &mut words),
            Err(error) if error.code() == Some("WRONGTYPE") => return Seen::Other,
            Err(error) => return Seen::Broken(error.to_string()),
        }
        if words.is_empty() {
            return Seen::Absent;
        }
        let (elements, marks) = self.count(&words);
        let expected = match self.kind {
            Kind::List => self.elements - MARKS,
            _ => self.elements,
        };
        match marks.first() {
            Some(first) if elements == expected && marks == [*first; MARKS] => Seen::Whole(*first),
            _ => Seen::Broken(format!(
                "{:?}: {elements} of {expected} elements, marks {marks:?}",
                self.kind
            )),
        }
    }

    /// The elements that are no marks, and the marks' numbers.
    fn count(&self, words: &[String]) -> (usize, Vec<u64>) {
        let number = |text: &str| text.parse::<u64>().expect("a mark is a number");
        let after_colon = |text: &String| number(text.rsplit(':').next().unwrap_or_default());
        let is_mark = |text: &String| text.starts_with("m:");
        match self.kind {
            Kind::Text => {
                let Some(text) = words
                    .first()
                    .filter(|text| text.len() == self.elements * TEXT_UNIT)
                else {
                    return (0, Vec::new());
                };
                let at = |mark| self.elements / MARKS * mark * TEXT_UNIT;
                let mark = |mark| number(&text[at(mark)..at(mark) + MARK_BYTES]);
                (self.elements, (0..MARKS).map(mark).collect())
            }
            Kind::Hash | Kind::Zset => {
                let marks: Vec<u64> = words
                    .chunks(2)
                    .filter(|pair| is_mark(&pair[0]))
                    .map(|pair| number(&pair[1]))
                    .collect();
                (words.len() / 2 - marks.len(), marks)
            }
            Kind::Stream => {
                let marks: Vec<u64> = words
                    .chunks(3)
                    .filter(|entry| entry[1] == "m")
                    .map(|entry| number(&entry[2]))
                    .collect();
                (words.len() / 3 - marks.len(), marks)
            }
            Kind::Set | Kind::List => {
                let marks: Vec<u64> = words
                    .iter()
                    .filter(|w| is_mark(w))
                    .map(after_colon)
                    .collect();
                (words.len() - marks.len(), marks)
            }
        }
    }
}

fn flatten(value: redis::Value, words: &mut Vec<String>) {
    match value {
        redis::Value::Array(values) => values.into_iter().for_each(|value| flatten(value, words)),
        redis::Value::BulkString(bytes) => words.push(String::from_utf8_lossy(&bytes).into_owned()),
        redis::Value::Nil => {}
        other => words.push(format!("{other:?}")),
    }
}

/// Sends commands in batches; fails on the first error reply.
pub(crate) fn send_all(client: &mut Connection, commands: impl Iterator<Item = redis::Cmd>) {
    let mut pipe = redis::pipe();
    let mut bytes = 0;
    for command in commands {
        bytes += command.get_packed_command().len();
        pipe.add_command(command).ignore();
        if bytes > 4 * 1024 * 1024 {
            pipe.exec(client).expect("is taken");
            pipe.clear();
            bytes = 0;
        }
    }
    if bytes > 0 {
        pipe.exec(client).expect("is taken");
    }
}

/// A command of these words.
pub(crate) fn words<T: AsRef<[u8]>>(all: &[T]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in all {
        command.arg(word.as_ref());
    }
    command
}

/// The command that adds element `n` to a key of this type; `part` is what the element is made of.
pub(crate) fn add(kind: Kind, key: &[u8], n: usize, part: &[u8]) -> redis::Cmd {
    let number = n.to_string();
    let (number, id) = (number.as_bytes(), format!("{}-7", n + 1));
    let numbered = [number, b":", part].concat();
    match kind {
        Kind::Hash => words(&[b"HSET", key, number, part]),
        Kind::Zset => words(&[b"ZADD", key, number, &numbered]),
        Kind::Set => words(&[b"SADD", key, &numbered]),
        Kind::List => words(&[b"RPUSH", key, &numbered]),
        Kind::Text => words(&[b"APPEND", key, part]),
        Kind::Stream => words(&[b"XADD", key, id.as_bytes(), b"f", part]),
    }
}

/// A thread that does something again and again until it is stopped; then it tells what it found.
pub(crate) struct Again<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Again<T> {
    /// `round` is called until the stop, with what the calls before have made.
    pub(crate) fn start(mut found: T, mut round: impl FnMut(&mut T) + Send + 'static) -> Again<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    round(&mut found);
                }
                found
            }
        });
        Again {
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn stop(mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("is stopped once");
        thread.join().expect("it does not panic")
    }
}

impl<T> Drop for Again<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Writes new generations until it is stopped, or for so long; tells the last one.
pub(crate) fn writer(
    server: &Server,
    marked: &Marked,
    pause: Duration,
    time: Duration,
) -> Again<u64> {
    let (mut client, marked, started) = (server.client(), marked.clone(), Instant::now());
    Again::start(1, move |generation: &mut u64| {
        if started.elapsed() < time {
            marked.advance(&mut client, *generation, *generation + 1);
            *generation += 1;
        }
        std::thread::sleep(pause);
    })
}

/// Looks at a key in a tight loop; tells each change of what it saw, and how often it looked.
pub(crate) fn watcher(server: &Server, marked: &Marked) -> Again<(Vec<Seen>, u64)> {
    let (mut client, marked) = (server.client(), marked.clone());
    Again::start(
        (Vec::new(), 0),
        move |(all, looks): &mut (Vec<Seen>, u64)| {
            let seen = marked.look(&mut client);
            *looks += 1;
            if all.last() != Some(&seen) {
                all.push(seen);
            }
        },
    )
}
