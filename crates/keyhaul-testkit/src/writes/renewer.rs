//! Keys that live two seconds and are renewed every second: who expires them by a clock of his own loses them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};

use super::links::{Call, Links};
use super::place::Place;
use crate::key_slot;

/// What each renewal gives a key to live.
const LIFE: Duration = Duration::from_secs(2);
/// From one renewal to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks of a watcher.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Renews keys on a source, and watches other places for them.
#[derive(Debug)]
pub struct Renewer {
    keys: Arc<Vec<String>>,
    stop: Arc<AtomicBool>,
    /// Keys that the source itself has lost since its machine was busy for too long.
    lost: Arc<Mutex<BTreeSet<String>>>,
    renews: Option<JoinHandle<u64>>,
    watchers: Vec<JoinHandle<Vec<Missing>>>,
}

/// A key that a watched place had held, and did not hold at a later look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The key.
    pub key: String,
    /// From the start of the watch to that look.
    pub after: Duration,
}

impl Renewer {
    /// Makes so many keys and begins to renew them: half of them by INCR and PEXPIRE, the others by SET KEEPTTL and
    /// EXPIRE or by GETEX PX. Needs Redis 6.2.
    pub fn start(source: &Place, keys: usize) -> Renewer {
        let keys: Arc<Vec<String>> = Arc::new((0..keys).map(|n| format!("renewed:{n}")).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let lost = Arc::new(Mutex::new(BTreeSet::new()));
        let mut links = Links::new(source);
        make(&mut links, &keys);
        let renews = std::thread::spawn({
            let (keys, stop, lost) = (Arc::clone(&keys), Arc::clone(&stop), Arc::clone(&lost));
            move || {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    renew(&mut links, &keys, rounds, &lost);
                    rounds += 1;
                    while begun.elapsed() < INTERVAL && !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(LOOK_PAUSE);
                    }
                }
                rounds
            }
        });
        Renewer {
            keys,
            stop,
            lost,
            renews: Some(renews),
            watchers: Vec::new(),
        }
    }

    /// Begins to look at another place: a key that it held once must be there at each later look.
    pub fn watch(&mut self, target: &Place) {
        let mut links = Links::new(target);
        let (keys, stop) = (Arc::clone(&self.keys), Arc::clone(&self.stop));
        self.watchers.push(std::thread::spawn(move || {
            let started = Instant::now();
            let mut seen = vec![false; keys.len()];
            let mut missing = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                for (index, there) in look(&mut links, &keys).into_iter().enumerate() {
                    if there == Some(false) && seen[index] {
                        missing.push(Missing {
                            key: keys[index].clone(),
                            after: started.elapsed(),
                        });
                    }
                    // A key is told once for each time that it vanishes.
                    seen[index] = there.unwrap_or(seen[index]);
                }
                std::thread::sleep(LOOK_PAUSE);
            }
            missing
        }));
    }

    /// The keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The keys that a place does not hold now.
    pub fn absent(&self, place: &Place) -> Vec<String> {
        let there = look(&mut Links::new(place), &self.keys);
        let absent = self
            .keys
            .iter()
            .zip(there)
            .filter(|(_, there)| *there != Some(true));
        absent.map(|(key, _)| key.clone()).collect()
    }

    /// Ends renewals and watches, and tells what was missing. Keys that the source itself has lost (its machine was
    /// busy) are left out.
    ///
    /// # Panics
    /// If a thread has, or if the source has lost more than a tenth of the keys: nothing was shown then.
    pub fn stop(mut self) -> Vec<Missing> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(renews) = self.renews.take() {
            renews.join().expect("it is sound");
        }
        let mut missing = Vec::new();
        for watcher in self.watchers.drain(..) {
            missing.extend(watcher.join().expect("it is sound"));
        }
        let lost = self.lost.lock().expect("no holder panics");
        assert!(
            lost.len() * 10 <= self.keys.len(),
            "the source itself has lost {} of {} keys: the machine is too busy",
            lost.len(),
            self.keys.len()
        );
        missing.retain(|missing| !lost.contains(&missing.key));
        missing
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn make(links: &mut Links, keys: &[String]) {
    let life_ms = u64::try_from(LIFE.as_millis()).expect("some seconds");
    let calls = keys.iter().map(|key| {
        let mut set = cmd("SET");
        set.arg(key).arg(1).arg("PX").arg(life_ms);
        call(key, vec![set])
    });
    links.send(0, &calls.collect::<Vec<Call>>());
}

fn renew(links: &mut Links, keys: &[String], round: u64, lost: &Mutex<BTreeSet<String>>) {
    let life_ms = u64::try_from(LIFE.as_millis()).expect("some seconds");
    let with = |name: &str, key: &str, words: &[&str]| {
        let mut command = cmd(name);
        command.arg(key).arg(words);
        command
    };
    let (ms, seconds) = (life_ms.to_string(), LIFE.as_secs().to_string());
    let calls: Vec<Call> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| {
            let exists = with("EXISTS", key, &[]);
            let renewal = match index % 4 {
                0 | 2 => vec![with("INCR", key, &[]), with("PEXPIRE", key, &[&ms])],
                1 => vec![
                    with("SET", key, &[&round.to_string(), "KEEPTTL"]),
                    with("EXPIRE", key, &[&seconds]),
                ],
                _ => vec![with("GETEX", key, &["PX", &ms])],
            };
            call(key, [vec![exists], renewal].concat())
        })
        .collect();
    let mut again = Vec::new();
    for (key, replies) in keys.iter().zip(links.send(0, &calls)) {
        let first = replies.as_ref().and_then(|replies| replies.first());
        if !matches!(first, Some(Value::Int(1))) {
            lost.lock().expect("no holder panics").insert(key.clone());
            again.push(key.clone());
        }
    }
    make(links, &again);
}

/// For each key whether it is there; None where nobody answered.
fn look(links: &mut Links, keys: &[String]) -> Vec<Option<bool>> {
    let calls = keys.iter().map(|key| {
        let mut exists = cmd("EXISTS");
        exists.arg(key);
        call(key, vec![exists])
    });
    let replies = links.send(0, &calls.collect::<Vec<Call>>());
    replies
        .into_iter()
        .map(|replies| match replies?.first()? {
            Value::Int(count) => Some(*count == 1),
            _ => None,
        })
        .collect()
}

fn call(key: &str, commands: Vec<Cmd>) -> Call {
    Call {
        slot: key_slot(key.as_bytes()),
        commands,
    }
}
