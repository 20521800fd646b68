//! Writes whose end state is known from what was acknowledged: what is applied twice or not at all shows.
//!
//! Each connection has a counter, a list, a string and a stream of its own, and running numbers: `INCR`,
//! `RPUSH n`, `APPEND n,`, `XADD * n n`. A number whose reply was lost may be there or not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};

use super::links::{Call, Links};
use super::place::Place;
use crate::key_slot;

/// Rounds of four commands that are sent before their replies are read.
const ROUNDS: u64 = 8;

/// Threads that write until told to stop.
#[derive(Debug)]
pub struct Exact {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Writes>>,
}

/// What was written: what a place must hold.
#[derive(Debug)]
pub struct ExactBooks {
    connections: Vec<Writes>,
}

/// The numbers of one connection, in order, and whether each was acknowledged; those that were refused are not
/// among them.
#[derive(Debug, Default)]
struct Writes {
    tag: String,
    by_kind: [Vec<(u64, Fate)>; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Unknown,
}

const KINDS: [&str; 4] = ["counter", "list", "string", "stream"];

impl Exact {
    /// Starts so many connections; `rate` is in rounds of four commands per second and connection, None: as fast
    /// as the server takes them. `name` keeps the keys of one start apart from those of another.
    ///
    /// # Panics
    /// If the place does not answer.
    pub fn start(place: &Place, name: &str, connections: usize, rate: Option<u32>) -> Exact {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let threads = (0..connections).map(|index| {
            let mut links = Links::new(place);
            let tag = format!("{{exact:{name}:{index}}}");
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            std::thread::spawn(move || write(&mut links, tag, rate, &stop, &rounds))
        });
        Exact {
            threads: threads.collect(),
            stop,
            rounds,
        }
    }

    /// Waits until so many more rounds are written.
    ///
    /// # Panics
    /// If that takes longer than `deadline`.
    pub fn wait_for(&self, rounds: u64, deadline: Duration) {
        let now = || self.rounds.load(Ordering::Relaxed);
        let goal = now() + rounds;
        crate::wait_until("rounds are written", deadline, || now() >= goal);
    }

    /// Ends the writes.
    ///
    /// # Panics
    /// If a writing thread has.
    pub fn stop(mut self) -> ExactBooks {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.threads.drain(..).map(JoinHandle::join);
        ExactBooks {
            connections: joined.map(|writes| writes.expect("it is sound")).collect(),
        }
    }
}

impl Drop for Exact {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl ExactBooks {
    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let kinds = self.connections.iter().flat_map(|writes| &writes.by_kind);
        kinds
            .flatten()
            .filter(|write| write.1 == Fate::Acknowledged)
            .count()
    }

    /// Fails unless the place holds each acknowledged write once and nothing but what was sent; the message names
    /// the first that differs.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn assert_held_by(&self, place: &Place) {
        for writes in &self.connections {
            if let Err(difference) = writes.check(place) {
                panic!("{difference}");
            }
        }
    }

    /// Fails unless both places hold the same of these writes, each once; for a source that may itself have lost
    /// some, as in a failover.
    ///
    /// # Panics
    /// If they do not.
    #[track_caller]
    pub fn assert_same(&self, source: &Place, target: &Place) {
        for writes in &self.connections {
            for (kind, name) in KINDS.iter().enumerate() {
                let (expected, got) = (writes.read(source, kind), writes.read(target, kind));
                let first = expected.iter().zip(&got).position(|(a, b)| a != b);
                let first = first.unwrap_or(expected.len().min(got.len()));
                assert!(
                    expected == got,
                    "{name} {}: {} numbers on the source, {} on the target; at place {first} {:?} and {:?}",
                    writes.tag,
                    expected.len(),
                    got.len(),
                    expected.get(first),
                    got.get(first)
                );
            }
        }
    }
}

fn write(
    links: &mut Links,
    tag: String,
    rate: Option<u32>,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Writes {
    let started = Instant::now();
    let slot = key_slot(tag.as_bytes());
    let mut writes = Writes {
        tag,
        ..Writes::default()
    };
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        let numbers = next..next + ROUNDS;
        next += ROUNDS;
        let commands = numbers.clone().flat_map(|number| writes.commands(number));
        let call = Call {
            slot,
            commands: commands.collect(),
        };
        if let Some(replies) = links.send(0, &[call]).pop().flatten() {
            let mut replies = replies.iter();
            for number in numbers {
                for writes in &mut writes.by_kind {
                    match replies.next() {
                        Some(Value::ServerError(_)) => {}
                        Some(_) => writes.push((number, Fate::Acknowledged)),
                        None => writes.push((number, Fate::Unknown)),
                    }
                }
            }
        }
        rounds.fetch_add(ROUNDS, Ordering::Relaxed);
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(next as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    writes
}

impl Writes {
    fn key(&self, kind: usize) -> String {
        format!("{}{}", self.tag, KINDS[kind])
    }

    fn commands(&self, number: u64) -> [Cmd; 4] {
        let mut commands = [cmd("INCR"), cmd("RPUSH"), cmd("APPEND"), cmd("XADD")];
        for (kind, command) in commands.iter_mut().enumerate() {
            command.arg(self.key(kind));
        }
        commands[1].arg(number);
        commands[2].arg(format!("{number},"));
        commands[3].arg("*").arg(number).arg(number);
        commands
    }

    /// The numbers that a place holds; of a counter, one element, how often it was increased.
    fn read(&self, place: &Place, kind: usize) -> Vec<u64> {
        let key = self.key(kind);
        let mut connection = place.connection_for(key.as_bytes());
        let parse = |text: &str| text.parse().unwrap_or_else(|_| panic!("{key}: '{text}'"));
        match kind {
            0 => {
                let count: Option<u64> = cmd("GET").arg(&key).query(&mut connection).expect("GET");
                vec![count.unwrap_or(0)]
            }
            1 => {
                let mut range = cmd("LRANGE");
                range.arg(&key).arg(0).arg(-1);
                range.query(&mut connection).expect("LRANGE")
            }
            2 => {
                let text: Option<String> =
                    cmd("GET").arg(&key).query(&mut connection).expect("GET");
                let text = text.unwrap_or_default();
                text.split_terminator(',').map(parse).collect()
            }
            _ => {
                let mut range = cmd("XRANGE");
                range.arg(&key).arg("-").arg("+");
                let entries: Vec<(String, Vec<String>)> =
                    range.query(&mut connection).expect("XRANGE");
                entries.iter().map(|entry| parse(&entry.1[0])).collect()
            }
        }
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        for (kind, writes) in self.by_kind.iter().enumerate() {
            let held = self.read(place, kind);
            let problem = if kind == 0 {
                check_count(held[0], writes)
            } else {
                check_numbers(&held, writes)
            };
            if let Some(problem) = problem {
                return Err(format!("{} {}: {problem}", KINDS[kind], self.key(kind)));
            }
        }
        Ok(())
    }
}

fn check_count(held: u64, writes: &[(u64, Fate)]) -> Option<Problem> {
    let acknowledged = writes.iter().filter(|write| write.1 == Fate::Acknowledged);
    let (least, most) = (acknowledged.count() as u64, writes.len() as u64);
    let within = (least..=most).contains(&held);
    (!within).then_some(Problem::Count { held, least, most })
}

/// Both are in order, so that one look from left to right finds the first difference.
fn check_numbers(held: &[u64], writes: &[(u64, Fate)]) -> Option<Problem> {
    let mut held = held.iter().copied().enumerate().peekable();
    for &(number, fate) in writes {
        match held.peek() {
            Some(&(_, found)) if found == number => {
                held.next();
            }
            found if fate == Fate::Acknowledged => {
                return Some(Problem::Number {
                    expected: number,
                    found: found.copied(),
                });
            }
            _ => {}
        }
    }
    held.next()
        .map(|(place, found)| Problem::Surplus { place, found })
}

/// What is wrong with what a place holds.
enum Problem {
    Count {
        held: u64,
        least: u64,
        most: u64,
    },
    Number {
        expected: u64,
        found: Option<(usize, u64)>,
    },
    Surplus {
        place: usize,
        found: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Count { held, least, most } => {
                write!(f, "is {held}, was increased {least} to {most} times")
            }
            Problem::Number {
                expected,
                found: Some((place, found)),
            } if found < expected => {
                write!(
                    f,
                    "{found} stands doubled at place {place}, before {expected}"
                )
            }
            Problem::Number { expected, found } => {
                write!(f, "{expected} is lost; in its place {found:?}")
            }
            Problem::Surplus { place, found } => {
                write!(f, "{found} at place {place} is one too many")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(held: &[u64], writes: &[(u64, Fate)], expected: Option<&str>) {
        let got = check_numbers(held, writes).map(|problem| problem.to_string());
        assert_eq!(got.as_deref(), expected, "{held:?} {writes:?}");
    }

    #[test]
    fn numbers_that_are_lost_doubled_or_one_too_many_are_named() {
        use Fate::{Acknowledged as A, Unknown as U};
        let writes = [(1, A), (2, A), (3, U), (4, A)];
        check(&[1, 2, 3, 4], &writes, None);
        check(&[1, 2, 4], &writes, None);
        check(
            &[1, 4],
            &writes,
            Some("2 is lost; in its place Some((1, 4))"),
        );
        check(&[1, 2], &writes, Some("4 is lost; in its place None"));
        check(
            &[1, 1, 2, 4],
            &writes,
            Some("1 stands doubled at place 1, before 2"),
        );
        check(&[1, 2, 4, 4], &writes, Some("4 at place 3 is one too many"));
        assert!(check_count(4, &writes).is_none() && check_count(3, &writes).is_none());
        assert!(check_count(2, &writes).is_some() && check_count(5, &writes).is_some());
    }
}
