//! Makes random calls out of the templates.

use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::cmd;

use super::asked::WriteCommands;
use super::links::Call;
use super::place::Place;
use super::templates::{FLUSHES, RARE, RARE_DIVISOR, TEMPLATES};
use super::writer::WriteOptions;
use crate::{Family, Version, key_slot};

/// Keys of a type for each tag.
const KEYS_PER_TAG: u32 = 3;
/// Hash tags.
const TAGS: u32 = 8;
/// How many ids of a stream are remembered, to name them again.
const IDS_REMEMBERED: usize = 20;
/// Families of keys, as the templates name them.
const FAMILIES: &[&str] = &[
    "str", "num", "flt", "bit", "hll", "lst", "set", "zs", "lex", "geo", "hs", "hn", "hf", "st",
    "sx", "vec",
];
const SCRIPT: &str =
    "local n = redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], ARGV[1], n) return n";
const LIBRARY: &str = "#!lua name=keyhaul_library\nredis.register_function('keyhaul_push', \
    function(keys, args) return redis.call('RPUSH', keys[1], args[1]) end)";
/// What payloads for RESTORE are made of: family, then the command that makes one.
const DUMPED: &[(&str, &str)] = &[
    ("str", "SET $ dumped"),
    ("lst", "RPUSH $ a b c 1 2"),
    ("set", "SADD $ 1 2 3 x"),
    ("zs", "ZADD $ 1 a 2.5 b"),
    ("hs", "HSET $ f0 a f1 2"),
];

type Words = Vec<Vec<u8>>;

/// One form, filled in: commands that belong together, all for one node.
pub(super) struct Form {
    slot: u16,
    pub(super) commands: Vec<Words>,
}

impl Form {
    /// As it is sent.
    pub(super) fn to_call(&self) -> Call {
        let commands = self.commands.iter().map(|words| {
            let mut command = redis::Cmd::new();
            words.iter().for_each(|word| {
                command.arg(word);
            });
            command
        });
        Call {
            slot: self.slot,
            commands: commands.collect(),
        }
    }
}

/// What a server gives that calls need: payloads, the digest of the script.
#[derive(Debug, Clone, Default)]
pub(super) struct Gifts {
    dumps: HashMap<&'static str, Vec<u8>>,
    functions: Vec<u8>,
    sha: Vec<u8>,
}

/// A seeded source of calls.
pub(super) struct Maker {
    rng: StdRng,
    forms: Vec<(&'static str, Vec<&'static str>)>,
    gifts: Gifts,
    in_cluster: bool,
    dbs: Vec<u32>,
    id_ms: u64,
    id_next: u64,
    ids: HashMap<Vec<u8>, VecDeque<u64>>,
    // Of the form that is being filled in.
    tag: u32,
    first_key: Vec<u8>,
    stream: Vec<u8>,
}

impl Maker {
    pub(super) fn new(
        place: &Place,
        version: Version,
        commands: &WriteCommands,
        options: &WriteOptions,
        gifts: Gifts,
        seed: u64,
    ) -> Maker {
        let left_out = |name: &str| {
            options.leave_out.iter().any(|left_out| left_out == name)
                || (FLUSHES.contains(&name) && !options.flushes)
        };
        let admits = |form: &str| admits(form, version, place.is_cluster());
        let forms: Vec<(&str, Vec<&str>)> = TEMPLATES
            .iter()
            .filter(|(name, _)| commands.has(name) && !left_out(name))
            .map(|&(name, forms)| {
                let admitted = forms.iter().copied().filter(|form| admits(form));
                (name, admitted.collect::<Vec<&str>>())
            })
            .filter(|(_, forms)| !forms.is_empty())
            .collect();
        Maker {
            rng: StdRng::seed_from_u64(seed),
            forms,
            gifts,
            in_cluster: place.is_cluster(),
            dbs: options.dbs.clone(),
            id_ms: now_ms(),
            id_next: 1,
            ids: HashMap::new(),
            tag: 0,
            first_key: Vec::new(),
            stream: Vec::new(),
        }
    }

    /// The next form, filled in.
    pub(super) fn form(&mut self) -> Form {
        let forms = loop {
            let index = self.rng.random_range(0..self.forms.len());
            let name = self.forms[index].0;
            let rare = FLUSHES.contains(&name) || RARE.contains(&name);
            if !rare || self.rng.random_ratio(1, RARE_DIVISOR) {
                break &self.forms[index].1;
            }
        };
        let form = forms[self.rng.random_range(0..forms.len())];
        self.tag = self.rng.random_range(0..TAGS);
        self.first_key.clear();
        self.stream.clear();
        let commands = without_gate(form)
            .split(" ; ")
            .map(|command| command.split(' ').map(|word| self.fill(word)).collect())
            .collect();
        // Without keys any node will do.
        let slot = key_slot(&self.first_key);
        Form { slot, commands }
    }

    /// The db for the next calls.
    pub(super) fn db(&mut self) -> u32 {
        self.dbs[self.rng.random_range(0..self.dbs.len())]
    }

    fn fill(&mut self, word: &str) -> Vec<u8> {
        let Some(name) = word.strip_prefix('$').filter(|name| !name.is_empty()) else {
            // A number inside of a word, as in JSON.
            return word.replace("$small", "7").into_bytes();
        };
        if FAMILIES.contains(&name) {
            return self.key(name);
        }
        if let Some(family) = name.strip_prefix("dump") {
            return self.gifts.dumps[family].clone();
        }
        match name {
            "any" => {
                let family = FAMILIES[self.rng.random_range(0..FAMILIES.len())];
                self.key(family)
            }
            "1" => self.first_key.clone(),
            "val" => self.value(),
            "int" => self.number(-1000..=1000),
            "small" => self.number(0..=1500),
            "few" => self.number(1..=4),
            "01" => self.number(0..=1),
            "byte" => self.number(0..=255),
            "float" => format!(
                "{}.{:02}",
                self.rng.random_range(-9..=9),
                self.rng.random_range(0..100)
            )
            .into_bytes(),
            "lon" => format!("{}.5", self.rng.random_range(-170..=170)).into_bytes(),
            "lat" => format!("{}.25", self.rng.random_range(-80..=80)).into_bytes(),
            "member" => self.one_of("m", 12),
            "field" => self.one_of("f", 8),
            "grp" => self.one_of("g", 2),
            "con" => self.one_of("c", 3),
            "db" => self.db().to_string().into_bytes(),
            "sec" => self.ttl_ms().div_ceil(1000).to_string().into_bytes(),
            "ms" => self.ttl_ms().to_string().into_bytes(),
            "at" => (now_ms() + self.ttl_ms())
                .div_ceil(1000)
                .to_string()
                .into_bytes(),
            "atms" => (now_ms() + self.ttl_ms()).to_string().into_bytes(),
            "newid" => self.new_id(),
            "oldid" => self.old_id(),
            "script" => SCRIPT.into(),
            "sha" => self.gifts.sha.clone(),
            "library" => LIBRARY.into(),
            "functions" => self.gifts.functions.clone(),
            _ => panic!("no placeholder is named ${name}"),
        }
    }

    fn key(&mut self, family: &str) -> Vec<u8> {
        if !self.in_cluster {
            self.tag = self.rng.random_range(0..TAGS);
        }
        let number = self.rng.random_range(0..KEYS_PER_TAG);
        let key = format!("{{t{}}}{family}:{number}", self.tag).into_bytes();
        if self.first_key.is_empty() {
            self.first_key.clone_from(&key);
        }
        if family == "sx" {
            self.stream.clone_from(&key);
        }
        key
    }

    /// Mostly short; sometimes a number, long, or long enough for a reply in parts.
    fn value(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..1000) {
            0 => vec![b'L'; 100_000],
            1..10 => vec![b'l'; self.rng.random_range(1000..8000)],
            10..60 => self.number(-100_000..=100_000),
            _ => {
                let length = self.rng.random_range(1..40);
                (0..length).map(|_| self.rng.random::<u8>()).collect()
            }
        }
    }

    /// Mostly far away; sometimes within the next seconds.
    fn ttl_ms(&mut self) -> u64 {
        if self.rng.random_ratio(1, 4) {
            self.rng.random_range(300..2000)
        } else {
            self.rng.random_range(100_000..100_000_000)
        }
    }

    fn number(&mut self, range: std::ops::RangeInclusive<i64>) -> Vec<u8> {
        self.rng.random_range(range).to_string().into_bytes()
    }

    fn one_of(&mut self, prefix: &str, count: u32) -> Vec<u8> {
        format!("{prefix}{}", self.rng.random_range(0..count)).into_bytes()
    }

    fn new_id(&mut self) -> Vec<u8> {
        let ids = self.ids.entry(self.stream.clone()).or_default();
        let number = self.id_next;
        self.id_next += 1;
        ids.push_back(number);
        if ids.len() > IDS_REMEMBERED {
            ids.pop_front();
        }
        format!("{}-{number}", self.id_ms).into_bytes()
    }

    fn old_id(&mut self) -> Vec<u8> {
        let number = match self.ids.get(&self.stream) {
            Some(ids) => ids[self.rng.random_range(0..ids.len())],
            None => 0,
        };
        format!("{}-{number}", self.id_ms).into_bytes()
    }
}

impl Gifts {
    /// Asks for them; leaves a function library on every node, and no key.
    ///
    /// # Panics
    /// If a node does not answer.
    pub(super) fn ask(place: &Place, commands: &WriteCommands) -> Gifts {
        let mut gifts = Gifts::default();
        for node in place.nodes() {
            let mut connection = node.connection(0);
            let mut script = cmd("SCRIPT");
            script.arg("LOAD").arg(SCRIPT);
            let sha: String = script.query(&mut connection).expect("a digest");
            gifts.sha = sha.into_bytes();
            if commands.has("fcall") {
                let mut load = cmd("FUNCTION");
                load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
                // A replica has it from its primary.
                drop(load.exec(&mut connection));
                let mut dump = cmd("FUNCTION");
                dump.arg("DUMP");
                gifts.functions = dump.query(&mut connection).expect("a payload");
            }
        }
        for (family, words) in DUMPED {
            let key = format!("{{gift}}{family}");
            let mut connection = place.connection_for(key.as_bytes());
            let mut make = redis::Cmd::new();
            for word in words.split(' ') {
                make.arg(if word == "$" { &key } else { word });
            }
            make.exec(&mut connection).expect(words);
            let payload = cmd("DUMP").arg(&key).query(&mut connection);
            gifts.dumps.insert(family, payload.expect("a payload"));
            cmd("DEL").arg(&key).exec(&mut connection).expect("DEL");
        }
        gifts
    }
}

/// Whether this form is for such a server; see `templates.rs`.
fn admits(form: &str, version: Version, in_cluster: bool) -> bool {
    let Some((gate, _)) = form
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    else {
        return true;
    };
    let number = |text: &str| -> (u16, u16) {
        let (major, minor) = text.split_once('.').expect("major.minor");
        (
            major.parse().expect("a number"),
            minor.parse().expect("a number"),
        )
    };
    if gate == "alone" {
        return !in_cluster;
    }
    if let Some(since) = gate.strip_prefix('R') {
        let (major, minor) = number(since);
        return version.is_at_least(Family::Redis, major, minor);
    }
    if let Some(since) = gate.strip_prefix('V') {
        let (major, minor) = number(since);
        return version.is_at_least(Family::Valkey, major, minor);
    }
    let (major, minor) = number(gate);
    version.has_redis_feature(major, minor)
}

fn without_gate(form: &str) -> &str {
    match form
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, calls)) => calls,
        None => form,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("before the year 500 million")
}
