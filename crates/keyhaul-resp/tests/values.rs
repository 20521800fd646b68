//! Whole values: trees, what is skipped, how callers look into them.

mod common;

use bytes::BytesMut;
use common::{REPLIES, text, values};
use keyhaul_resp::{DecodeError, Decoder, Limits, Value};

fn bulk(bytes: &[u8]) -> Value {
    Value::Bulk(text(bytes))
}

#[track_caller]
fn check(bytes: &[u8], expected: &[Value]) {
    let got = values(&[bytes], Limits::default());
    assert_eq!(got.as_deref(), Ok(expected), "{}", bytes.escape_ascii());
}

#[test]
fn every_type() {
    check(b"+OK\r\n", &[Value::Simple(text(b"OK"))]);
    check(
        b"-ERR a\r\n!1\r\nb\r\n",
        &[Value::Error(text(b"ERR a")), Value::Error(text(b"b"))],
    );
    check(
        b":7\r\n,1.5\r\n#t\r\n",
        &[Value::Int(7), Value::Double(1.5), Value::Bool(true)],
    );
    check(b"(12\r\n", &[Value::BigNumber(text(b"12"))]);
    check(
        b"_\r\n$-1\r\n*-1\r\n",
        &[Value::Null, Value::Null, Value::Null],
    );
    check(
        b"$1\r\na\r\n=5\r\ntxt:b\r\n",
        &[bulk(b"a"), Value::Verbatim(text(b"b"))],
    );
    check(
        b"*0\r\n~0\r\n%0\r\n>0\r\n",
        &[
            Value::Array(vec![]),
            Value::Set(vec![]),
            Value::Map(vec![]),
            Value::Push(vec![]),
        ],
    );
    check(
        b"*2\r\n*1\r\n:1\r\n%1\r\n+a\r\n~1\r\n_\r\n:9\r\n",
        &[
            Value::Array(vec![
                Value::Array(vec![Value::Int(1)]),
                Value::Map(vec![(
                    Value::Simple(text(b"a")),
                    Value::Set(vec![Value::Null]),
                )]),
            ]),
            Value::Int(9),
        ],
    );
    check(
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n",
        &[
            Value::Push(vec![bulk(b"invalidate"), Value::Array(vec![bulk(b"k")])]),
            Value::Simple(text(b"OK")),
        ],
    );
}

#[test]
fn attributes_are_skipped() {
    check(b"|1\r\n+k\r\n+v\r\n:1\r\n", &[Value::Int(1)]);
    check(b"|0\r\n:1\r\n", &[Value::Int(1)]);
    check(
        b"|1\r\n+k\r\n*2\r\n:1\r\n%1\r\n:2\r\n:3\r\n:1\r\n",
        &[Value::Int(1)],
    );
    check(
        b"*2\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n",
        &[Value::Array(vec![Value::Int(1), Value::Int(2)])],
    );
    // An attribute of an attribute, and of a push.
    check(
        b"|1\r\n|1\r\n+a\r\n+b\r\n+k\r\n+v\r\n>1\r\n:1\r\n",
        &[Value::Push(vec![Value::Int(1)])],
    );
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    let bytes = REPLIES.concat();
    let expected = values(&[&bytes], Limits::default()).unwrap();
    assert_eq!(expected.len(), REPLIES.len());
    for at in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(
            values(&[head, tail], Limits::default()).unwrap(),
            expected,
            "cut at {at}"
        );
    }
    let singly: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(
        values(&singly, Limits::default()).unwrap(),
        expected,
        "byte by byte"
    );
}

#[test]
fn a_prefix_of_a_value_is_none_and_not_idle() {
    for reply in REPLIES {
        for end in 0..=reply.len() {
            let mut decoder = Decoder::new(Limits::default());
            let mut buf = BytesMut::from(&reply[..end]);
            let got = decoder.value(&mut buf).unwrap();
            let (empty, whole) = (end == 0, end == reply.len());
            assert_eq!(got.is_some(), whole, "{}", reply[..end].escape_ascii());
            assert_eq!(
                decoder.is_idle(),
                empty || whole,
                "{}",
                reply[..end].escape_ascii()
            );
        }
    }
}

#[test]
fn long_bulks_are_gathered_whole() {
    let limits = Limits {
        bulk_whole_max: 4,
        value_bytes_max: 1000,
        ..Limits::default()
    };
    let long = [b'x'; 1000];
    let bytes = [
        b"$1000\r\n",
        &long[..],
        b"\r\n=9\r\ntxt:hello\r\n!5\r\nERR a\r\n",
    ]
    .concat();
    let expected = [
        bulk(&long),
        Value::Verbatim(text(b"hello")),
        Value::Error(text(b"ERR a")),
    ];
    assert_eq!(values(&[&bytes], limits).unwrap(), expected);
    let pieces: Vec<&[u8]> = bytes.chunks(3).collect();
    assert_eq!(values(&pieces, limits).unwrap(), expected);
}

#[test]
fn depth_is_bounded() {
    let limits = Limits {
        depth_max: 3,
        ..Limits::default()
    };
    let nest = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    assert_eq!(values(&[&nest(3)], limits).unwrap().len(), 1);
    assert_eq!(
        values(&[&nest(4)], limits),
        Err(DecodeError::TooDeep { limit: 3 })
    );
    let attributes = b"|1\r\n".repeat(4);
    assert_eq!(
        values(&[&attributes], limits),
        Err(DecodeError::TooDeep { limit: 3 })
    );
}

#[test]
fn memory_is_bounded() {
    let limit = 10 * size_of::<Value>();
    let limits = Limits {
        value_bytes_max: limit,
        ..Limits::default()
    };
    let too_large = Err(DecodeError::TooLarge { limit });
    let array = |count: usize, element: &[u8]| {
        [format!("*{count}\r\n").as_bytes(), &element.repeat(count)].concat()
    };
    // Each value on its own, and what came before does not count.
    let bytes = array(10, b":1\r\n");
    assert_eq!(
        values(&[&bytes, &bytes, &bytes], limits).map(|all| all.len()),
        Ok(3)
    );
    assert_eq!(values(&[&array(11, b":1\r\n")], limits), too_large);
    assert_eq!(
        values(&[b"*11\r\n"], limits),
        too_large,
        "refused by its head"
    );
    assert_eq!(
        values(&[b"%6\r\n"], limits),
        too_large,
        "a pair is two elements"
    );
    assert_eq!(
        values(&[&array(10, b"$1\r\na\r\n")], limits),
        too_large,
        "payloads count"
    );
    assert_eq!(
        values(&[&array(6, b"*1\r\n:1\r\n")], limits),
        too_large,
        "inner elements count"
    );
    let header = format!("${}\r\n", limit + 1);
    assert_eq!(
        values(&[header.as_bytes()], limits),
        too_large,
        "refused by its header"
    );
    // Attributes take no memory.
    let attribute = [b"|100\r\n", &b":1\r\n".repeat(200)[..], b":7\r\n"].concat();
    assert_eq!(values(&[&attribute], limits).unwrap(), [Value::Int(7)]);
}

#[test]
fn pushes_stand_between_replies_only() {
    for bytes in [&b"*1\r\n>0\r\n"[..], b"|1\r\n>1\r\n", b">1\r\n>0\r\n"] {
        let got = values(&[bytes], Limits::default());
        assert_eq!(
            got,
            Err(DecodeError::NestedPush),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn a_value_cannot_begin_inside_a_bulk_in_parts() {
    let mut decoder = Decoder::new(Limits {
        bulk_whole_max: 1,
        ..Limits::default()
    });
    let mut buf = BytesMut::from(&b"$2\r\nab\r\n"[..]);
    assert!(decoder.token(&mut buf).unwrap().is_some());
    assert_eq!(decoder.value(&mut buf), Err(DecodeError::MidBulk));
}

#[test]
fn strings_and_integers_are_seen_through() {
    let simple = Value::Simple(text(b"-5"));
    let verbatim = Value::Verbatim(text(b"7"));
    assert_eq!(simple.as_bytes(), Some(&text(b"-5")));
    assert_eq!(bulk(b"a").as_bytes(), Some(&text(b"a")));
    assert_eq!(verbatim.as_bytes(), Some(&text(b"7")));
    assert_eq!(bulk(b"a").into_bytes(), Some(text(b"a")));
    for none in [
        Value::Int(1),
        Value::Null,
        Value::Error(text(b"a")),
        Value::Array(vec![]),
    ] {
        assert_eq!(none.as_bytes(), None, "{none:?}");
    }
    let integers = [
        (Value::Int(3), Some(3)),
        (simple, Some(-5)),
        (bulk(b"12"), Some(12)),
        (bulk(b"12 "), None),
        (bulk(b""), None),
        (Value::Null, None),
        (Value::Bool(true), None),
    ];
    for (value, expected) in integers {
        assert_eq!(value.as_int(), expected, "{value:?}");
    }
    assert!(Value::Error(text(b"ERR")).is_error());
    assert_eq!(Value::Error(text(b"ERR")).as_error(), Some(&text(b"ERR")));
    assert!(Value::Null.is_null());
}

#[test]
fn lists_and_pairs_are_seen_through() {
    let (one, two) = (Value::Int(1), Value::Int(2));
    let items = vec![one.clone(), two.clone()];
    for list in [
        Value::Array(items.clone()),
        Value::Set(items.clone()),
        Value::Push(items.clone()),
    ] {
        assert_eq!(list.as_list(), Some(&items[..]), "{list:?}");
        assert_eq!(list.into_list(), Some(items.clone()));
    }
    let map = Value::Map(vec![(one.clone(), two.clone())]);
    assert_eq!(map.as_list(), None);
    for pairs in [map, Value::Array(items)] {
        let iter = pairs.pairs().unwrap();
        assert_eq!(iter.len(), 1);
        assert_eq!(iter.collect::<Vec<_>>(), [(&one, &two)], "{pairs:?}");
    }
    assert!(
        Value::Array(vec![one.clone()]).pairs().is_none(),
        "an odd length"
    );
    assert!(Value::Set(vec![]).pairs().is_none());
}
