//! One comparison as a user makes it: its exit, its report, its diff file; and what it should have found,
//! by the test kit's own diff.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use keyhaul_testkit::diff::{DiffOptions, Difference, DifferenceKind, View, keyspaces};
use keyhaul_testkit::process::{Outcome, Process};
use keyhaul_testkit::{Cluster, Endpoint, Server, key_slot};
use redis::{Connection, cmd};
use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, command};

/// A line of a diff file: mark, db, and the key as it is shown.
pub(crate) type Row = (char, u64, String);

/// Rows in db 0: `-one` is a key named `one` that is missing.
pub(crate) fn rows(texts: &[&str]) -> BTreeSet<Row> {
    texts.iter().map(|text| row(text)).collect()
}

/// `-one` in db 0, `3-one` in db 3.
pub(crate) fn row(text: &str) -> Row {
    let at = text.find(['-', '+', '*', '!']).expect("has a mark");
    let db = text[..at].parse().unwrap_or(0);
    let mark = text[at..].chars().next().expect("has a mark");
    (mark, db, text[at + 1..].to_owned())
}

/// A key as reports and diff files write it (docs/guide/report.md).
pub(crate) fn shown(key: &[u8]) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("\\x{b:02X}")).collect() };
    let one = |c: char| match c {
        '\\' => "\\\\".to_owned(),
        c if c.is_control() => hex(c.to_string().as_bytes()),
        c => c.to_string(),
    };
    key.utf8_chunks()
        .map(|chunk| chunk.valid().chars().map(one).collect::<String>() + &hex(chunk.invalid()))
        .collect()
}

/// How a comparison ended.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) outcome: Outcome,
    /// Null where none was written.
    pub(crate) report: Value,
    /// The lines of the diff file that tell a difference; `None`: there is no such file.
    pub(crate) lines: Option<BTreeSet<Row>>,
    /// Holds `diffs.tsv` and `report.json`.
    pub(crate) folder: TempDir,
}

/// A comparison that is running.
pub(crate) struct Comparing {
    pub(crate) process: Process,
    folder: TempDir,
}

/// Compares to the end.
pub(crate) fn compare(source: &str, target: &str, options: &[&str]) -> Compared {
    Comparing::start(source, target, options).finish()
}

impl Comparing {
    pub(crate) fn start(source: &str, target: &str, options: &[&str]) -> Comparing {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut command = command(&["compare", source, target, "--progress", "none"]);
        command.args(options);
        for (option, name) in [("--report", "report.json"), ("--diff-file", "diffs.tsv")] {
            if !options.contains(&option) {
                command.arg(option).arg(folder.path().join(name));
            }
        }
        Comparing {
            process: Process::start(command),
            folder,
        }
    }

    /// Waits for what must happen while it runs.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let started = Instant::now();
        while !ready() {
            let runs = self.process.rss_peak_bytes_now().is_some();
            assert!(
                runs,
                "it ended before: {what}: {}{}",
                self.process.stdout_so_far(),
                self.process.stderr_so_far()
            );
            assert!(started.elapsed() < DEADLINE, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn finish(self) -> Compared {
        let outcome = self.process.wait(DEADLINE);
        let read = |name: &str| std::fs::read(self.folder.path().join(name));
        let report = read("report.json").map_or(Value::Null, |text| {
            serde_json::from_slice(&text).expect("the report is JSON")
        });
        let lines = read("diffs.tsv").ok().map(|bytes| {
            let text = String::from_utf8(bytes).expect("a diff file is UTF-8");
            let mut all: Vec<Row> = text.lines().map(line).collect();
            all.sort();
            let is_twice = |pair: &&[Row]| pair[0] == pair[1];
            let twice: Vec<&[Row]> = all.windows(2).filter(is_twice).take(9).collect();
            assert!(twice.is_empty(), "lines stand twice: {twice:?}");
            all.into_iter().filter(|row| row.0 != '=').collect()
        });
        Compared {
            outcome,
            report,
            lines,
            folder: self.folder,
        }
    }
}

/// A line of a diff file: mark, tab, db, tab, key.
fn line(text: &str) -> Row {
    let mut parts = text.splitn(3, '\t');
    let mut next = || parts.next().expect("a line has mark, db and key");
    let (mark, db, key) = (next(), next(), next());
    let mut marks = mark.chars();
    let mark = marks.next().filter(|mark| "=-+*!".contains(*mark));
    assert!(mark.is_some() && marks.next().is_none(), "{text:?}");
    (
        mark.unwrap_or_default(),
        db.parse().expect("a db is a number"),
        key.to_owned(),
    )
}

impl Compared {
    /// The diff file of it, to be given back.
    pub(crate) fn diff_file(&self) -> PathBuf {
        self.folder.path().join("diffs.tsv")
    }

    /// Fails unless it ended with this code, also by its report.
    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Compared {
        assert_eq!(self.outcome.code, Some(code), "{self:#?}");
        assert_eq!(self.report["exit_code"], code, "{self:#?}");
        self
    }

    /// Fails unless it found exactly these: by its exit, its diff file, its report and its counts.
    #[track_caller]
    pub(crate) fn finds(self, expected: &BTreeSet<Row>) -> Compared {
        let found = self.lines.clone().unwrap_or_default();
        let lacks: Vec<_> = expected.difference(&found).collect();
        let has: Vec<_> = found.difference(expected).collect();
        assert!(
            lacks.is_empty() && has.is_empty(),
            "not found {lacks:?}, found in vain {has:?}: {self:#?}"
        );
        assert_eq!(&self.reported(), expected, "the report: {self:#?}");
        let of = |mark| expected.iter().filter(|row| row.0 == mark).count() as u64;
        let differ = ["type_differs", "value_differs", "expiry_differs"];
        let counted = [
            self.count("missing"),
            self.count("extra"),
            differ.iter().map(|name| self.count(name)).sum(),
            self.count("unsettled") + self.count("errors"),
        ];
        assert_eq!(counted, [of('-'), of('+'), of('*'), of('!')], "{self:#?}");
        let all = counted.iter().sum::<u64>() + self.count("same");
        assert_eq!(self.count("checked"), all, "{self:#?}");
        let code = i32::from(!expected.is_empty() || self.count("functions_differ") > 0);
        self.exits_with(code)
    }

    /// Fails unless it found nothing, of so many keys.
    #[track_caller]
    pub(crate) fn equal(self, keys: u64) -> Compared {
        let ran = self.finds(&BTreeSet::new()).exits_with(0);
        assert_eq!(ran.count("same"), keys, "{ran:#?}");
        ran
    }

    /// What the report lists.
    #[track_caller]
    pub(crate) fn reported(&self) -> BTreeSet<Row> {
        let list = self.report["differences"].as_array();
        assert!(list.is_some(), "no list of differences: {self:#?}");
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        list.into_iter()
            .flatten()
            .map(|row| {
                let mark = text(row, "mark").chars().next().expect("has a mark");
                assert_ne!(text(row, "what"), "", "says nothing: {row}");
                (
                    mark,
                    row["db"].as_u64().expect("has a db"),
                    text(row, "key"),
                )
            })
            .collect()
    }

    /// A number under `counts`.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        let number = self.report["counts"][name].as_u64();
        assert!(number.is_some(), "no count {name}: {self:#?}");
        number.unwrap_or_default()
    }
}

/// What the test kit finds, as lines of a diff file.
pub(crate) fn truth(source: &View, target: &View, options: &DiffOptions) -> BTreeSet<Row> {
    let row = |difference: &Difference| {
        let mark = match difference.kind {
            DifferenceKind::Missing => '-',
            DifferenceKind::Extra => '+',
            _ => '*',
        };
        (mark, u64::from(difference.db), shown(&difference.key))
    };
    keyspaces(source, target, options).iter().map(row).collect()
}

/// A server or a cluster, as the kit's client reaches it.
pub(crate) enum End {
    One(Box<Server>),
    Many(Cluster),
}

impl End {
    pub(crate) fn one(server: Server) -> End {
        End::One(Box::new(server))
    }

    pub(crate) fn uri(&self) -> String {
        match self {
            End::One(server) => server.uri(),
            End::Many(cluster) => cluster.uri(),
        }
    }

    pub(crate) fn view(&self) -> View {
        match self {
            End::One(server) => View::server(server),
            End::Many(cluster) => View::cluster(cluster),
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        match self {
            End::One(server) => Reach::server(server, 0),
            End::Many(cluster) => Reach {
                owners: cluster.slot_owners(),
                links: Vec::new(),
                db: 0,
            },
        }
    }
}

/// One db of a server, or a cluster: the connection to each owner.
pub(crate) struct Reach {
    /// Of each slot, or of all keys.
    owners: Vec<Endpoint>,
    links: Vec<(Endpoint, Connection)>,
    db: u32,
}

impl Reach {
    pub(crate) fn server(server: &Server, db: u32) -> Reach {
        Reach {
            owners: vec![server.endpoint()],
            links: Vec::new(),
            db,
        }
    }

    /// The connection to the owner of a key.
    pub(crate) fn of(&mut self, key: &[u8]) -> &mut Connection {
        let owner = match &self.owners[..] {
            [all] => all,
            slots => &slots[usize::from(key_slot(key))],
        };
        let known = self
            .links
            .iter()
            .position(|(endpoint, _)| endpoint == owner);
        let index = known.unwrap_or_else(|| {
            self.links.push((owner.clone(), owner.connection(self.db)));
            self.links.len() - 1
        });
        &mut self.links[index].1
    }

    pub(crate) fn keys(&mut self) -> Vec<Vec<u8>> {
        let mut owners = self.owners.clone();
        owners.dedup();
        let keys = |owner: &Endpoint| -> Vec<Vec<u8>> {
            let all = cmd("KEYS").arg("*").query(&mut owner.connection(self.db));
            all.expect("KEYS is answered")
        };
        owners.iter().flat_map(keys).collect()
    }
}

/// Gives the target every key as the source has it, by the kit's own client.
pub(crate) fn clone_keys(source: &mut Reach, target: &mut Reach) {
    for key in source.keys() {
        let from = source.of(&key);
        let payload: Vec<u8> = cmd("DUMP").arg(&key).query(from).expect("is answered");
        let at: i64 = cmd("PEXPIRETIME")
            .arg(&key)
            .query(from)
            .expect("is answered");
        let mut restore = cmd("RESTORE");
        restore.arg(&key).arg(at.max(0)).arg(payload);
        restore.arg("REPLACE").arg("ABSTTL");
        restore.exec(target.of(&key)).expect("is taken");
    }
}

/// A server of the same version that has started with what this one holds now.
pub(crate) fn twin(server: &Server) -> Server {
    cmd("SAVE")
        .exec(&mut server.client())
        .expect("it can be saved");
    let dump = server.dir().join("dump.rdb");
    Server::builder(server.version()).dump(&dump).start()
}

/// Runs commands, separated by ` | `, on a key, which they call `@`; `300*` before a command runs it for `{}` from 0
/// to 299; `{20k}` is a long text.
#[track_caller]
pub(crate) fn script(link: &mut Connection, key: &str, text: &str) {
    let mut pipe = redis::pipe();
    for part in text.split(" | ").filter(|part| !part.is_empty()) {
        let (times, words) = match part.split_once('*') {
            Some((times, words)) if times.parse::<usize>().is_ok() => (times, words),
            _ => ("1", part),
        };
        for n in 0..times.parse().expect("was looked at") {
            let mut words = words.split(' ').map(|word| fill(word, key, n));
            let name = words.next().expect("has a name");
            let command = pipe.cmd(std::str::from_utf8(&name).expect("a name is text"));
            words.for_each(|word| {
                command.arg(word);
            });
            command.ignore();
        }
    }
    if pipe.cmd_iter().next().is_some() {
        let sent = pipe.exec(link);
        assert!(sent.is_ok(), "{key}: {text}: {sent:?}");
    }
}

fn fill(word: &str, key: &str, n: usize) -> Vec<u8> {
    let long = "x".repeat(20_000);
    let word = word.replace("{}", &n.to_string()).replace("{20k}", &long);
    match word.as_str() {
        "@" => key.into(),
        other => other.into(),
    }
}
