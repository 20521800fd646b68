//! Forms of commands, one by one, and that nothing makes the table panic.

use std::borrow::Cow;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::expiry::Carry;
use super::super::keys::Role;
use super::super::table::rows;
use super::super::*;
use super::mirror::show;

fn command(line: &str) -> Written {
    let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    Written::new(words.into_iter()).unwrap()
}

fn spec_of(args: &Args<'_>) -> &'static Spec {
    match lookup(args) {
        Kind::Keys(spec) | Kind::Eval(spec) => spec,
        kind => panic!("{}: {kind:?}", show(args)),
    }
}

/// Encoded commands as lines.
fn lines(bytes: &[u8]) -> Vec<String> {
    let mut parser = crate::follow::parser::Parser::new(0);
    parser.push(bytes::Bytes::copy_from_slice(bytes));
    let mut lines = Vec::new();
    while let Some(cut) = parser.next().unwrap() {
        lines.push(show(&cut.args()));
    }
    assert_eq!(parser.offset(), bytes.len() as u64);
    lines
}

const NEWEST: Abilities = Abilities {
    set_pxat: true,
    set_ifeq: true,
    msetex: true,
    counted_pops: true,
    entries_read: true,
    field_expiry: true,
    hsetex: true,
    hgetdel: true,
    stream_refs: true,
};

#[test]
fn kinds_of_what_is_no_write() {
    let check =
        |line: &str, expected| assert_eq!(lookup(&command(line).args()), expected, "{line}");
    check("select 3", Kind::Select);
    check("Multi", Kind::Multi);
    check("exec", Kind::Exec);
    check("ping", Kind::Nothing);
    check("REPLCONF GETACK *", Kind::GetAck);
    check("replconf getack *", Kind::GetAck);
    check("REPLCONF VERSION 1", Kind::Nothing);
    check("REPLCONF", Kind::Nothing);
    check("CLUSTER SYNCSLOTS x", Kind::Nothing);
    check("CLUSTER FLUSHSLOT 5 ASYNC", Kind::EmptySlots);
    check("TRIMSLOTS RANGES 1 0 5", Kind::EmptySlots);
    check("FLUSHALL ASYNC", Kind::Flush { all: true });
    check("flushdb", Kind::Flush { all: false });
    check("SPUBLISH c m", Kind::Publish { sharded: true });
    check("GET k", Kind::Unknown);
    check("FT.CREATE i", Kind::Unknown);
    assert_eq!(selected_db(&command("SELECT 15").args()), Some(15));
    assert_eq!(selected_db(&command("SELECT -1").args()), None);
}

#[test]
fn deadlines_and_the_same_with_another() {
    let check = |line: &str, expected, (older, newer): (&[&str], &[&str])| {
        let command = command(line);
        let args = command.args();
        assert_eq!(deadline(spec_of(&args), &args), expected, "{line}");
        let said = |abilities| {
            let mut out = BytesMut::new();
            let count = with_deadline(spec_of(&args), &args, 7, abilities, &mut out);
            assert_eq!(count.unwrap_or(0), lines(&out).len(), "{line}");
            lines(&out)
        };
        assert_eq!(said(Abilities::default()), older, "{line}");
        assert_eq!(said(NEWEST), newer, "{line}");
    };
    use Deadline::*;
    let set: (&[&str], &[&str]) = (&["SET k v", "PEXPIREAT k 7"], &["SET k v PXAT 7"]);
    let expire: (&[&str], &[&str]) = (&["PEXPIREAT k 7"], &["PEXPIREAT k 7"]);
    check("SET k v EX 5", Relative { ttl_ms: 5000 }, set);
    check("set k v xx px 5 get", Relative { ttl_ms: 5 }, set);
    check("SET k v NX EXAT 5", Absolute { at_ms: 5000 }, set);
    check("SET k v PXAT 5", Absolute { at_ms: 5 }, set);
    check("SET k v IFEQ PX PXAT 5", Absolute { at_ms: 5 }, set);
    check("SET k v EX 9223372036854775807", Unclear, set);
    check("SET k v EX", Unclear, set);
    check("SETEX k 5 v", Relative { ttl_ms: 5000 }, set);
    check("PSETEX k 5 v", Relative { ttl_ms: 5 }, set);
    check("EXPIRE k 5 NX", Relative { ttl_ms: 5000 }, expire);
    check("PEXPIREAT k -5 GT", Absolute { at_ms: -5 }, expire);
    check("GETEX k PX 5", Relative { ttl_ms: 5 }, expire);
    check("RESTORE k 5 x", Relative { ttl_ms: 5 }, (&[], &[]));
    check(
        "RESTORE k 5 x REPLACE ABSTTL",
        Absolute { at_ms: 5 },
        (&[], &[]),
    );
    check("RESTORE k 0 x ABSTTL", None, (&[], &[]));
    check("INCR k", None, (&[], &[]));
    let many: (&[&str], &[&str]) = (
        &["SET a EX", "PEXPIREAT a 7", "SET b 5", "PEXPIREAT b 7"],
        &["MSETEX 2 a EX b 5 PXAT 7"],
    );
    check("MSETEX 2 a EX b 5 NX PX 9", Relative { ttl_ms: 9 }, many);
    let fields: &[&str] = &["HPEXPIREAT k 7 NX FIELDS 2 EX 5"];
    let at = FieldsAbsolute { at_ms: 9000 };
    check("HEXPIREAT k 9 NX FIELDS 2 EX 5", at, (fields, fields));
    let fields: &[&str] = &["HPEXPIREAT k 7 FIELDS 2 EX 5"];
    check("HGETEX k EXAT 9 FIELDS 2 EX 5", at, (fields, fields));
    let fields: &[&str] = &["HSETEX k FNX PXAT 7 FIELDS 1 PX 5"];
    check("HSETEX k FNX EXAT 9 FIELDS 1 PX 5", at, (fields, fields));
    let none = deadline(
        spec_of(&command("HSETEX k FIELDS 1 PX 5").args()),
        &command("HSETEX k FIELDS 1 PX 5").args(),
    );
    assert_eq!(none, None);
}

#[test]
fn other_forms_for_targets_that_know_less() {
    let check = |line: &str, abilities, expected: Option<&[&str]>| {
        let command = command(line);
        let args = command.args();
        let mut out = BytesMut::from(&b"*1\r\n$4\r\nPING\r\n"[..]);
        let form = form(spec_of(&args), &args, abilities, &mut out);
        let said = &lines(&out)[1..];
        match (form, expected) {
            (Form::AsItIs, Some(expected)) => assert_eq!([line], expected, "{said:?}"),
            (Form::Commands(count), Some(expected)) => {
                assert_eq!(said, expected, "{line}");
                assert_eq!(count, said.len());
            }
            (Form::Reread, Option::None) => assert!(said.is_empty(), "{line}: {said:?}"),
            (form, expected) => panic!("{line}: {form:?}, {said:?} and not {expected:?}"),
        }
    };
    let old = Abilities::default();
    let fields = Abilities {
        field_expiry: true,
        ..old
    };
    let limit = "XADD x NOMKSTREAM KEEPREF MINID = 1-1 LIMIT 5 2-2 LIMIT 5";
    check(
        limit,
        NEWEST,
        Some(&["XADD x NOMKSTREAM KEEPREF MINID = 1-1 2-2 LIMIT 5"]),
    );
    check(limit, old, Some(&["XADD x MINID = 1-1 2-2 LIMIT 5"]));
    check(
        "XTRIM x MAXLEN = 5 LIMIT 9",
        NEWEST,
        Some(&["XTRIM x MAXLEN = 5"]),
    );
    check(
        "XTRIM x MAXLEN ~ 5 LIMIT 9",
        NEWEST,
        Some(&["XTRIM x MAXLEN ~ 5 LIMIT 9"]),
    );
    check("XADD x ACKED MAXLEN 5 1-1 f v", old, None);
    check(
        "XADD x 1-1 LIMIT MAXLEN",
        old,
        Some(&["XADD x 1-1 LIMIT MAXLEN"]),
    );
    let group = "XGROUP SETID x g 1-1 ENTRIESREAD -1";
    check(group, NEWEST, Some(&[group]));
    check(group, old, Some(&["XGROUP SETID x g 1-1"]));
    check(
        "XSETID x 1-1 ENTRIESADDED 5 MAXDELETEDID 1-0",
        old,
        Some(&["XSETID x 1-1"]),
    );
    check(
        "XDELEX x KEEPREF IDS 2 1-1 1-2",
        old,
        Some(&["XDEL x 1-1 1-2"]),
    );
    check("XDELEX x DELREF IDS 1 1-1", old, None);
    check("XACKDEL x g KEEPREF IDS 1 1-1", old, None);
    check("HSETEX h FIELDS 1 f v", old, Some(&["HSET h f v"]));
    check("HSETEX h KEEPTTL FIELDS 1 f v", old, Some(&["HSET h f v"]));
    check("HSETEX h KEEPTTL FIELDS 1 f v", fields, None);
    check("HSETEX h PXAT 5 FIELDS 1 f v", old, None);
    let both: &[&str] = &["HSET h f v g w", "HPEXPIREAT h 5 FIELDS 2 f g"];
    check("HSETEX h FNX PXAT 5 FIELDS 2 f v g w", fields, Some(both));
    check("HGETDEL h FIELDS 2 f g", old, Some(&["HDEL h f g"]));
    check("HPEXPIREAT h 5 FIELDS 1 f", old, None);
    check("PEXPIREAT k 5 GT", NEWEST, Some(&["PEXPIREAT k 5"]));
    check("PEXPIREAT k 5", old, Some(&["PEXPIREAT k 5"]));
    check("SET k v PXAT 5", old, Some(&["SET k v", "PEXPIREAT k 5"]));
    check("SET k v IFEQ w KEEPTTL", old, Some(&["SET k v KEEPTTL"]));
    check("SET k v KEEPTTL", old, Some(&["SET k v KEEPTTL"]));
    check(
        "MSETEX 2 a 1 b 2 KEEPTTL",
        old,
        Some(&["SET a 1 KEEPTTL", "SET b 2 KEEPTTL"]),
    );
    check("LPOP l 2", old, Some(&["LTRIM l 2 -1"]));
    check("RPOP l 2", old, Some(&["LTRIM l 0 -3"]));
    check("LPOP l", old, Some(&["LPOP l"]));
    check("LMOVE a b RIGHT LEFT", old, Some(&["RPOPLPUSH a b"]));
    check("LMOVE a b LEFT LEFT", old, None);
    check("SET k v", old, Some(&["SET k v"]));
}

#[test]
fn taken_apart_where_each_key_is_for_itself() {
    let check = |line: &str, expected: Option<&[(usize, &str)]>| {
        let command = command(line);
        let args = command.args();
        let mut at = Vec::new();
        keys(spec_of(&args), &args, &mut at).unwrap();
        let mut out = BytesMut::from(&b"before"[..]);
        let slot = |key: &[u8]| u16::from(key[0]);
        let split = split(spec_of(&args), &args, &at, slot, NEWEST, &mut out);
        match (split, expected) {
            (Split::Parts(parts), Some(expected)) => {
                let parts = parts.into_iter().map(|part| {
                    let said = lines(&out[part.bytes]);
                    assert_eq!(said.len(), part.commands);
                    (part.key, said.join("; "))
                });
                let expected = expected.iter().map(|&(key, said)| (key, said.to_owned()));
                assert_eq!(parts.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
            (Split::Reread, Option::None) => assert_eq!(out, &b"before"[..]),
            (Split::Whole, Some([])) => assert_eq!(out, &b"before"[..]),
            (split, expected) => panic!("{line}: {split:?} and not {expected:?}"),
        }
    };
    check("DEL k1 k2", Some(&[]));
    check("RENAME k1 k2", Some(&[]));
    check("unlink a b", Some(&[(1, "unlink a"), (2, "unlink b")]));
    check(
        "MSET a 1 b 2 a 3",
        Some(&[(1, "SET a 1"), (3, "SET b 2"), (5, "SET a 3")]),
    );
    check("MSETNX a 1 b 2", Some(&[(1, "SET a 1"), (3, "SET b 2")]));
    let parts: &[_] = &[(2, "SET a 1 PXAT 5"), (4, "SET b 2 PXAT 5")];
    check("MSETEX 2 a 1 b 2 XX PXAT 5", Some(parts));
    check("MSETEX 2 a 1 b 2 EX 5", None);
    check("SMOVE a b m", Some(&[(1, "SREM a m"), (2, "SADD b m")]));
    check(
        "JSON.MSET a $ 1 b $ 2",
        Some(&[(1, "JSON.SET a $ 1"), (4, "JSON.SET b $ 2")]),
    );
    check(
        "TS.MADD a 1 2 b 3 4",
        Some(&[(1, "TS.ADD a 1 2"), (4, "TS.ADD b 3 4")]),
    );
    for line in [
        "RENAME a b",
        "COPY a b",
        "LMOVE a b LEFT LEFT",
        "SUNIONSTORE a b",
        "BITOP AND a b",
    ] {
        check(line, None);
    }
}

#[test]
fn keys_roles_and_whose_expiry_goes_where() {
    let find = |line: &str| {
        let command = command(line);
        let args = command.args();
        let mut at = Vec::new();
        keys(spec_of(&args), &args, &mut at)?;
        let seen = at.iter().map(|key| (key.index, key.role, key.db));
        Ok(seen.collect::<Vec<_>>())
    };
    use Db::{Other, Same};
    use Role::{Read, Remove, Write};
    let check = |line, expected: &[_]| assert_eq!(find(line), Ok(expected.to_vec()), "{line}");
    check("MOVE k 5", &[(1, Remove, Same), (1, Write, Other(5))]);
    check(
        "COPY a b REPLACE db 5",
        &[(1, Read, Same), (2, Write, Other(5))],
    );
    check("RENAME a b", &[(1, Remove, Same), (2, Write, Same)]);
    check(
        "SORT a BY STORE STORE b",
        &[(1, Read, Same), (5, Write, Same)],
    );
    check(
        "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
        &[(1, Write, Same), (3, Read, Same), (4, Read, Same)],
    );
    check("EVAL x 0 a", &[]);
    let malformed = [
        "INCR",
        "MSET a",
        "DEL",
        "ZUNIONSTORE d 9 a",
        "EVAL x -1",
        "MOVE k x",
        "LMPOP 0 LEFT",
    ];
    for line in malformed {
        assert_eq!(find(line), Err(Malformed::Form), "{line}");
    }
    let lost = |ranges: &[ArgRange]| {
        keys(
            spec_of(&command("DEL a").args()),
            &Args::new(b"DELa", ranges),
            &mut Vec::new(),
        )
    };
    assert_eq!(lost(&[0..3, CUT]), Err(Malformed::KeysLost));
    let off = Args::cut_off(b"DELa", &[0..3, 3..4]);
    let result = keys(spec_of(&off), &off, &mut Vec::new());
    assert_eq!(result, Err(Malformed::KeysLost));

    let carried = carries_expiry(
        spec_of(&command("COPY a b DB 5").args()),
        &command("COPY a b DB 5").args(),
    );
    let expected = Carry {
        source: 1,
        target: 2,
        target_db: Other(5),
        moves: false,
    };
    assert_eq!(carried, Some(expected));
}

#[test]
fn keys_get_other_names() {
    let command = command("ZUNIONSTORE a:d 2 a:x b:y WEIGHTS 1 2");
    let args = command.args();
    let mut at = Vec::new();
    keys(spec_of(&args), &args, &mut at).unwrap();
    let renamed = rewrite(&args, &at, |key| match key.strip_prefix(b"a:") {
        Some(rest) => Cow::Owned([b"new:", rest].concat()),
        Option::None => Cow::Borrowed(key),
    });
    assert_eq!(
        show(&renamed.unwrap().args()),
        "ZUNIONSTORE new:d 2 new:x b:y WEIGHTS 1 2"
    );
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    let words = "EX PX EXAT PXAT KEEPTTL NX XX IFEQ FIELDS STREAMS STORE STOREDIST DB KEYS BY GET LIMIT MAXLEN MINID ~ = IDS \
                 KEEPREF DELREF NOMKSTREAM ENTRIESREAD FLUSHSLOT GETACK TIMESTAMP ABSTTL PERSIST RIGHT LEFT k * -1 0 1 2 3 \
                 9223372036854775807 -9223372036854775808 18446744073709551615";
    let words: Vec<_> = words
        .split_whitespace()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    prop_oneof![8 => proptest::sample::select(words), 1 => vec(any::<u8>(), 0..5)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    #[test]
    fn nothing_makes_it_panic(row in 0..rows().len(), words in vec(word(), 0..12), cut in 0_usize..40) {
        let name = rows()[row].name.as_bytes();
        let all = [name].into_iter().chain(words.iter().map(Vec::as_slice));
        let written = Written::new(all.collect::<Vec<_>>().into_iter()).unwrap();
        let whole = written.args();
        let bytes: Vec<u8> = whole.iter().flatten().copied().collect();
        let mut ranges: Vec<ArgRange> = Vec::new();
        let mut at = 0;
        for arg in whole.iter() {
            let end = at + u32::try_from(arg.len()).unwrap();
            ranges.push(at..end);
            at = end;
        }
        if let Some(range) = ranges.get_mut(cut) {
            *range = CUT;
        }
        let args = if cut % 3 == 0 { Args::cut_off(&bytes, &ranges) } else { Args::new(&bytes, &ranges) };
        let _ = (lookup(&args), selected_db(&args));
        let spec = &rows()[row];
        let mut at = Vec::new();
        let found = keys(spec, &args, &mut at);
        let _ = (how(spec, &args), deadline(spec, &args), carries_expiry(spec, &args));
        for abilities in [Abilities::default(), NEWEST] {
            let mut out = BytesMut::new();
            let before = out.len();
            if with_deadline(spec, &args, -1, abilities, &mut out).is_none() {
                prop_assert_eq!(out.len(), before);
            }
            let mut out = BytesMut::new();
            match form(spec, &args, abilities, &mut out) {
                Form::Commands(count) => prop_assert_eq!(lines(&out).len(), count),
                _ => prop_assert!(out.is_empty()),
            }
            if found.is_ok() {
                let _ = split(spec, &args, &at, |key| key.len() as u16, abilities, &mut out);
            }
        }
        if found.is_ok() {
            prop_assert!(rewrite(&args, &at, Cow::Borrowed).is_some());
        }
    }
}
