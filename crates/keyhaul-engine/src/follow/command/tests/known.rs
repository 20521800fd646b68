//! Every write command of every server version is in the table, with the keys that the server sees.

use std::collections::BTreeSet;

use keyhaul_testkit::redis::{Arg, Cmd, Connection, Value, cmd, from_redis_value};
use keyhaul_testkit::{Server, Version};

use super::super::table::{KeysAt, rows};
use super::super::*;
use super::examples::{EXAMPLES, FURTHER, lines, parse};

fn words(command: &Cmd) -> Vec<Vec<u8>> {
    let words = command.args_iter().map(|arg| match arg {
        Arg::Simple(bytes) => bytes.to_vec(),
        _ => panic!("not a cursor"),
    });
    words.collect()
}

fn text(value: &Value) -> String {
    from_redis_value(value.clone()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        other => panic!("a list was expected: {other:?}"),
    }
}

/// Names of commands that may come in a stream, with subcommands behind `|`.
fn written(connection: &mut Connection) -> BTreeSet<String> {
    let reply: Value = cmd("COMMAND").query(connection).unwrap();
    let mut names = BTreeSet::new();
    let mut open: Vec<Value> = list(&reply).to_vec();
    while let Some(command) = open.pop() {
        let entry = list(&command);
        let flags: Vec<_> = list(&entry[2]).iter().map(text).collect();
        if flags
            .iter()
            .any(|flag| flag == "write" || flag == "may_replicate")
        {
            names.insert(text(&entry[0]));
        }
        if let Some(subcommands) = entry.get(9) {
            open.extend_from_slice(list(subcommands));
        }
    }
    names
}

#[test]
fn every_write_command_of_every_server_is_known() {
    for version in Version::all_available() {
        let server = Server::start(version);
        let names = written(&mut server.client());
        assert!(names.len() > 80, "{version}: {names:?}");
        for name in names {
            let args = name.split('|').map(str::as_bytes).collect::<Vec<_>>();
            let written = Written::new(args.into_iter()).unwrap();
            let kind = lookup(&written.args());
            let is_known = !matches!(kind, Kind::Unknown | Kind::Nothing);
            assert!(is_known, "{version}: {name}: {kind:?}");
        }
    }
}

#[test]
fn keys_are_those_that_servers_see() {
    let mut asked = BTreeSet::new();
    for version in Version::all_available() {
        let server = Server::start(version);
        let mut connection = server.client();
        for line in lines(EXAMPLES).chain(lines(FURTHER)) {
            let words = words(&parse(line));
            let written = Written::new(words.iter().map(Vec::as_slice)).unwrap();
            let args = written.args();
            let (Kind::Keys(spec) | Kind::Eval(spec)) = lookup(&args) else {
                continue;
            };
            let mut getkeys = cmd("COMMAND");
            getkeys.arg("GETKEYS").arg(&words);
            let Ok(theirs) = getkeys.query::<Vec<Vec<u8>>>(&mut connection) else {
                // An older server.
                continue;
            };
            let mut ours = Vec::new();
            keys(spec, &args, &mut ours).unwrap_or_else(|error| panic!("{line}: {error}"));
            let ours = ours.iter().map(|key| args.get(key.index).unwrap().to_vec());
            let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
                (ours.collect(), theirs.into_iter().collect());
            // Redis up to 6.2 takes the numkeys of PFDEBUG and the like as written in one table; see below.
            assert_eq!(ours, theirs, "{version}: {line}");
            asked.insert(spec.name);
        }
    }
    let modules = |name: &str| name.contains('.');
    let not_here = ["DELEX", "XCFGSET", "PFDEBUG"];
    for spec in rows().iter().filter(|spec| spec.keys_at != KeysAt::Nowhere) {
        let expected = !modules(spec.name) && !not_here.contains(&spec.name);
        assert!(
            asked.contains(spec.name) || !expected,
            "no example of {}",
            spec.name
        );
    }
}
