//! Sends the calls of a maker, pipelined, and counts what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::Value;

use super::asked::write_commands;
use super::links::{Call, Links};
use super::maker::{Form, Gifts, Maker};
use super::place::Place;
use crate::Version;

/// How random writes are sent.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Connections that write at the same time, each with calls of its own.
    pub threads: usize,
    /// Dbs that are written to; a cluster has db 0 alone.
    pub dbs: Vec<u32>,
    /// Commands per second of all threads together; None: as fast as the server takes them.
    pub rate: Option<u32>,
    /// Commands that are sent before their replies are read; sequences are not torn apart for it.
    pub pipeline: usize,
    /// Whether dbs are emptied and swapped too.
    pub flushes: bool,
    /// Commands that are not called, as COMMAND names them in lower case.
    pub leave_out: Vec<String>,
}

impl Default for WriteOptions {
    fn default() -> WriteOptions {
        WriteOptions {
            threads: 1,
            dbs: vec![0],
            rate: None,
            pipeline: 16,
            flushes: false,
            leave_out: Vec::new(),
        }
    }
}

/// What became of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Times it was sent outside of a transaction.
    pub sent: u64,
    /// Of them, answered without an error.
    pub ok: u64,
    /// Of them, answered with an error. The rest was not answered: a link broke.
    pub errors: u64,
    /// The first error.
    pub first_error: Option<String>,
}

/// Counts by command, as COMMAND names them in lower case.
pub type Stats = BTreeMap<String, Count>;

/// Threads that send random writes until told to stop. A server that goes away is waited for.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Stats>>,
}

impl Writer {
    /// Starts them; the same seed makes the same calls on a server of the same version.
    ///
    /// # Panics
    /// If the place does not answer.
    pub fn start(place: &Place, version: Version, seed: u64, options: &WriteOptions) -> Writer {
        eprintln!("random writes to {version}: seed {seed}");
        let commands = write_commands(&place.nodes()[0]);
        let gifts = Gifts::ask(place, &commands);
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let threads = (0..options.threads).map(|thread| {
            let seed = seed.wrapping_add(thread as u64 * 1_000_003);
            let maker = Maker::new(place, version, &commands, options, gifts.clone(), seed);
            let mut links = Links::new(place);
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            let options = options.clone();
            std::thread::spawn(move || run(&mut links, maker, &options, &stop, &sent))
        });
        Writer {
            threads: threads.collect(),
            stop,
            sent,
        }
    }

    /// Commands that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more commands were sent.
    ///
    /// # Panics
    /// If that takes longer than `deadline`.
    pub fn wait_for(&self, commands: u64, deadline: Duration) {
        let goal = self.sent() + commands;
        crate::wait_until("commands are sent", deadline, || self.sent() >= goal);
    }

    /// Ends the writes; all that was sent is answered then.
    ///
    /// # Panics
    /// If a writing thread has.
    pub fn stop(mut self) -> Stats {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Stats::new();
        for thread in self.threads.drain(..) {
            for (name, count) in thread.join().expect("the writing thread is sound") {
                let entry = total.entry(name).or_default();
                entry.sent += count.sent;
                entry.ok += count.ok;
                entry.errors += count.errors;
                entry.first_error = entry.first_error.take().or(count.first_error);
            }
        }
        total
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A test that fails must not leave threads behind that write to a killed server for ever.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(
    links: &mut Links,
    mut maker: Maker,
    options: &WriteOptions,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Stats {
    let mut stats = Stats::new();
    let started = Instant::now();
    let mut own_sent = 0_u64;
    let rate = options
        .rate
        .map(|rate| f64::from(rate) / options.threads as f64);
    while !stop.load(Ordering::Relaxed) {
        let db = maker.db();
        let mut calls: Vec<Form> = Vec::new();
        let mut commands = 0;
        while commands < options.pipeline {
            let form = maker.form();
            commands += form.commands.len();
            calls.push(form);
        }
        let packed: Vec<Call> = calls.iter().map(Form::to_call).collect();
        for (form, replies) in calls.iter().zip(links.send(db, &packed)) {
            if let Some(replies) = replies {
                count(&mut stats, form, &replies);
            }
        }
        own_sent += commands as u64;
        sent.fetch_add(commands as u64, Ordering::Relaxed);
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(own_sent as f64 / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    stats
}

/// Counts what became of one form.
fn count(stats: &mut Stats, form: &Form, replies: &[Value]) {
    let mut queueing = false;
    for (index, words) in form.commands.iter().enumerate() {
        let name = name_of(words);
        queueing &= !matches!(name.as_str(), "exec" | "discard");
        if queueing {
            continue;
        }
        queueing = name == "multi";
        let count = stats.entry(name).or_default();
        count.sent += 1;
        match replies.get(index) {
            Some(Value::ServerError(error)) => {
                count.errors += 1;
                count.first_error.get_or_insert_with(|| error.to_string());
            }
            Some(_) => count.ok += 1,
            None => {}
        }
    }
}

/// As COMMAND names it.
fn name_of(words: &[Vec<u8>]) -> String {
    let word = |index: usize| String::from_utf8_lossy(&words[index]).to_lowercase();
    let name = word(0);
    match name.as_str() {
        "xgroup" | "function" => format!("{name}|{}", word(1)),
        _ => name,
    }
}
