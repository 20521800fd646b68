//! Random input: what is encoded is decoded again, and mutated replies never make the decoder panic.

mod common;

use bytes::{Bytes, BytesMut};
use common::{REPLIES, Random, join_parts, tokens, values};
use keyhaul_resp::{Limits, Value, encode};
use proptest::collection::vec;
use proptest::prelude::*;

const SEED: u64 = 0x6b65_7968_6175_6c01;
const MUTATIONS: usize = 100_000;

/// Replies with bytes changed, dropped, doubled or swapped: whatever comes out, both ways of cutting the
/// bytes agree on it.
#[test]
fn mutated_replies_are_decoded_or_refused() {
    let mut random = Random::new(SEED);
    let mut refused = 0;
    let limits = Limits {
        bulk_whole_max: 16,
        value_bytes_max: 4096,
        ..Limits::default()
    };
    for round in 0..MUTATIONS {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(3) {
            bytes.extend_from_slice(REPLIES[random.below(REPLIES.len())]);
        }
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let case = format!("seed {SEED:#x}, round {round}: {}", bytes.escape_ascii());
        let cut = random.below(bytes.len() + 1);
        let (head, tail) = bytes.split_at(cut);

        let whole = values(&[&bytes], limits);
        let pieces = values(&[head, tail], limits);
        assert_eq!(kind_of(&pieces), kind_of(&whole), "{case}, cut {cut}");
        let whole = tokens(&[&bytes], limits).map(join_parts);
        let pieces = tokens(&[head, tail], limits).map(join_parts);
        assert_eq!(kind_of(&pieces), kind_of(&whole), "{case}, cut {cut}");
        refused += usize::from(whole.is_err());
    }
    // Neither all nothing nor all errors: the mutations reach both.
    assert!(
        (MUTATIONS / 10..MUTATIONS * 9 / 10).contains(&refused),
        "{refused} were refused"
    );
}

/// What was decoded, or which error it was: how much of the bytes an error shows depends on the cut.
fn kind_of<T: std::fmt::Debug>(result: &Result<T, keyhaul_resp::DecodeError>) -> String {
    match result {
        Ok(decoded) => format!("{decoded:?}"),
        Err(error) => format!("{:?}", std::mem::discriminant(error)),
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const TELLING: &[u8] = b"+-:$*_#,(!=%~>|?0129\r\n\0\xff";
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let telling = TELLING[random.below(TELLING.len())];
    match random.below(5) {
        0 => bytes[at] = telling,
        1 => bytes.insert(at, telling),
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        _ => {
            let other = random.below(bytes.len());
            bytes.swap(at, other);
        }
    }
}

/// Replies of any shape, without NaN, which equals nothing.
fn any_value() -> impl Strategy<Value = Value> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let line = || "[ -~]{0,40}".prop_map(Bytes::from);
    let scalar = prop_oneof![
        line().prop_map(Value::Simple),
        line().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("NaN", |n| !n.is_nan())
            .prop_map(Value::Double),
        any::<bool>().prop_map(Value::Bool),
        "-?[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into())),
        Just(Value::Null),
        bytes().prop_map(Value::Bulk),
        bytes().prop_map(Value::Verbatim),
    ];
    let tree = scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec(inner.clone(), 0..6).prop_map(Value::Set),
            vec((inner.clone(), inner), 0..6).prop_map(Value::Map),
        ]
    });
    prop_oneof![4 => tree.clone(), 1 => vec(tree, 0..6).prop_map(Value::Push)]
}

/// Writes a reply as a server would.
fn write_reply(out: &mut Vec<u8>, value: &Value) {
    let list = |out: &mut Vec<u8>, mark: char, items: &[Value]| {
        out.extend_from_slice(format!("{mark}{}\r\n", items.len()).as_bytes());
        items.iter().for_each(|item| write_reply(out, item));
    };
    match value {
        Value::Simple(text) => out.extend_from_slice(&[b"+", &text[..], b"\r\n"].concat()),
        Value::Error(text) => out.extend_from_slice(&[b"-", &text[..], b"\r\n"].concat()),
        Value::BigNumber(text) => out.extend_from_slice(&[b"(", &text[..], b"\r\n"].concat()),
        Value::Int(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
        Value::Double(n) => out.extend_from_slice(format!(",{n:e}\r\n").as_bytes()),
        Value::Bool(truth) => out.extend_from_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Null => out.extend_from_slice(b"_\r\n"),
        Value::Bulk(bytes) => {
            out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(&[&bytes[..], b"\r\n"].concat());
        }
        Value::Verbatim(bytes) => {
            out.extend_from_slice(format!("={}\r\ntxt:", bytes.len() + 4).as_bytes());
            out.extend_from_slice(&[&bytes[..], b"\r\n"].concat());
        }
        Value::Array(items) => list(out, '*', items),
        Value::Set(items) => list(out, '~', items),
        Value::Push(items) => list(out, '>', items),
        Value::Map(pairs) => {
            out.extend_from_slice(format!("%{}\r\n", pairs.len()).as_bytes());
            for (key, value) in pairs {
                write_reply(out, key);
                write_reply(out, value);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_are_decoded_as_they_were_encoded(
        args in vec(vec(any::<u8>(), 0..200), 0..20),
        number in any::<i64>(),
        piece_len in 1..300_usize,
    ) {
        let mut out = BytesMut::new();
        let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        encode::command(&mut out, &slices);
        encode::bulk_int(&mut out, number);
        let pieces: Vec<&[u8]> = out.chunks(piece_len).collect();
        let got = values(&pieces, Limits { bulk_whole_max: 50, ..Limits::default() }).unwrap();
        let args = args.into_iter().map(|arg| Value::Bulk(arg.into())).collect();
        let number_text = Value::Bulk(number.to_string().into());
        prop_assert_eq!(got[1].as_int(), Some(number));
        prop_assert_eq!(got, [Value::Array(args), number_text]);
    }

    #[test]
    fn replies_are_decoded_as_they_were_written(
        replies in vec(any_value(), 1..5),
        piece_len in 1..300_usize,
    ) {
        let mut bytes = Vec::new();
        replies.iter().for_each(|reply| write_reply(&mut bytes, reply));
        let pieces: Vec<&[u8]> = bytes.chunks(piece_len).collect();
        prop_assert_eq!(values(&pieces, Limits::default()).unwrap(), replies);
    }
}
