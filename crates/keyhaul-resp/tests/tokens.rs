//! Tokens: every type, however the bytes are cut.

mod common;

use bytes::{BufMut, BytesMut};
use common::{REPLIES, join_parts, text, tokens};
use keyhaul_resp::{Decoder, Limits, Token};

#[track_caller]
fn check(bytes: &[u8], expected: &[Token]) {
    let got = tokens(&[bytes], Limits::default());
    assert_eq!(got.as_deref(), Ok(expected), "{}", bytes.escape_ascii());
}

#[test]
fn every_type_of_resp2() {
    check(b"+OK\r\n", &[Token::Simple(text(b"OK"))]);
    check(b"+OKAY\r\n", &[Token::Simple(text(b"OKAY"))]);
    check(b"+\r\n", &[Token::Simple(text(b""))]);
    check(
        b"+a status of many bytes\r\n",
        &[Token::Simple(text(b"a status of many bytes"))],
    );
    check(b"+a\rb\r\n", &[Token::Simple(text(b"a\rb"))]);
    check(b"-ERR no\r\n", &[Token::Error(text(b"ERR no"))]);
    check(b":0\r\n", &[Token::Int(0)]);
    check(b":-0\r\n", &[Token::Int(0)]);
    check(b":+5\r\n", &[Token::Int(5)]);
    check(b":-12\r\n", &[Token::Int(-12)]);
    check(b":9223372036854775807\r\n", &[Token::Int(i64::MAX)]);
    check(b":-9223372036854775808\r\n", &[Token::Int(i64::MIN)]);
    check(b"$0\r\n\r\n", &[Token::Bulk(text(b""))]);
    check(b"$4\r\n\r\n\0\xff\r\n", &[Token::Bulk(text(b"\r\n\0\xff"))]);
    check(b"$-1\r\n", &[Token::Null]);
    check(b"*-1\r\n", &[Token::Null]);
    check(b"*0\r\n", &[Token::Array(0)]);
    check(
        b"*2\r\n:1\r\n*-1\r\n",
        &[Token::Array(2), Token::Int(1), Token::Null],
    );
    check(b"*4294967296\r\n", &[Token::Array(1 << 32)]);
    check(b"", &[]);
}

#[test]
fn every_type_of_resp3() {
    check(b"_\r\n", &[Token::Null]);
    check(b"#t\r\n#f\r\n", &[Token::Bool(true), Token::Bool(false)]);
    check(b",3.25\r\n", &[Token::Double(3.25)]);
    check(b",10\r\n", &[Token::Double(10.0)]);
    check(b",-1.5e300\r\n", &[Token::Double(-1.5e300)]);
    check(b",inf\r\n", &[Token::Double(f64::INFINITY)]);
    check(b",-inf\r\n", &[Token::Double(f64::NEG_INFINITY)]);
    let nan = tokens(&[b",nan\r\n"], Limits::default());
    assert!(
        matches!(nan.as_deref(), Ok([Token::Double(n)]) if n.is_nan()),
        "got {nan:?}"
    );
    check(
        b"(-12345678901234567890\r\n",
        &[Token::BigNumber(text(b"-12345678901234567890"))],
    );
    check(b"!5\r\nERR a\r\n", &[Token::Error(text(b"ERR a"))]);
    check(b"=7\r\ntxt:a\nb\r\n", &[Token::Verbatim(text(b"a\nb"))]);
    check(b"=4\r\nmkd:\r\n", &[Token::Verbatim(text(b""))]);
    check(b"%1\r\n", &[Token::Map(1)]);
    check(b"~2\r\n", &[Token::Set(2)]);
    check(b">3\r\n", &[Token::Push(3)]);
    check(b"|4\r\n", &[Token::Attribute(4)]);
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    let bytes = REPLIES.concat();
    // Once with strings whole, once with most of them in parts.
    for bulk_whole_max in [1 << 20, 4] {
        let limits = Limits {
            bulk_whole_max,
            ..Limits::default()
        };
        // Blob errors never come in parts, so the limit refuses that one.
        let bytes = match bulk_whole_max {
            4 => without(&bytes, b"!21\r\nSYNTAX invalid syntax\r\n"),
            _ => bytes.clone(),
        };
        let expected = join_parts(tokens(&[&bytes], limits).unwrap());
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            let got = join_parts(tokens(&[head, tail], limits).unwrap());
            assert_eq!(got, expected, "cut at {at}");
        }
        let singly: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            join_parts(tokens(&singly, limits).unwrap()),
            expected,
            "byte by byte"
        );
    }
}

fn without(bytes: &[u8], part: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(part.len())
        .position(|window| window == part)
        .expect("the part is there");
    [&bytes[..at], &bytes[at + part.len()..]].concat()
}

#[test]
fn a_prefix_of_a_token_is_none_and_no_error() {
    for reply in REPLIES {
        // Of aggregates, the tokens before the last one may come.
        let whole = tokens(&[reply], Limits::default()).unwrap();
        for end in 0..reply.len() {
            let got = tokens(&[&reply[..end]], Limits::default());
            let got = got.unwrap_or_else(|e| panic!("{}: {e}", reply[..end].escape_ascii()));
            assert!(
                got.len() < whole.len(),
                "{}: {got:?}",
                reply[..end].escape_ascii()
            );
            assert!(
                whole.starts_with(&got),
                "{}: {got:?}",
                reply[..end].escape_ascii()
            );
        }
    }
}

#[test]
fn payloads_are_slices_of_the_buffer() {
    let mut buf = BytesMut::from(&b"*3\r\n$3\r\nabc\r\n=5\r\ntxt:d\r\n-ERR\r\n"[..]);
    let range = buf.as_ptr_range();
    let mut decoder = Decoder::new(Limits::default());
    let mut payloads = 0;
    while let Some(token) = decoder.token(&mut buf).unwrap() {
        if let Token::Bulk(bytes) | Token::Verbatim(bytes) | Token::Error(bytes) = token {
            assert!(range.contains(&bytes.as_ptr()), "{bytes:?} was copied");
            payloads += 1;
        }
    }
    assert_eq!(payloads, 3);
    assert!(buf.is_empty());
}

#[test]
fn a_long_bulk_comes_in_bounded_parts() {
    let limits = Limits {
        bulk_whole_max: 4,
        ..Limits::default()
    };
    let got = tokens(&[b"$4\r\nwhol\r\n$10\r\nabcdefghij\r\n:1\r\n"], limits).unwrap();
    let expected = [
        Token::Bulk(text(b"whol")),
        Token::BulkStart(10),
        Token::BulkPart(text(b"abcd")),
        Token::BulkPart(text(b"efgh")),
        Token::BulkPart(text(b"ij")),
        Token::BulkEnd,
        Token::Int(1),
    ];
    assert_eq!(got, expected);
}

#[test]
fn a_long_verbatim_text_comes_in_parts_without_its_format() {
    let limits = Limits {
        bulk_whole_max: 5,
        ..Limits::default()
    };
    let got = tokens(&[b"=7", b"\r\nt", b"xt:a", b"bc\r\n"], limits).unwrap();
    let expected = [
        Token::BulkStart(3),
        Token::BulkPart(text(b"a")),
        Token::BulkPart(text(b"bc")),
        Token::BulkEnd,
    ];
    assert_eq!(got, expected);
}

#[test]
fn bytes_wanted_is_what_is_missing() {
    let mut decoder = Decoder::new(Limits {
        bulk_whole_max: 100,
        ..Limits::default()
    });
    let mut buf = BytesMut::new();
    let mut check = |piece: &[u8], expected: Option<Token>, wanted: usize, idle: bool| {
        buf.put_slice(piece);
        assert_eq!(
            decoder.token(&mut buf),
            Ok(expected),
            "after {}",
            piece.escape_ascii()
        );
        assert_eq!(
            decoder.bytes_wanted(),
            wanted,
            "after {}",
            piece.escape_ascii()
        );
        assert_eq!(decoder.is_idle(), idle, "after {}", piece.escape_ascii());
    };
    check(b"", None, 0, true);
    check(b"$", None, 0, false);
    check(b"100\r", None, 0, false);
    check(b"\n", None, 100, false);
    check(&[b'x'; 60], None, 42, false);
    check(&[b'x'; 40], None, 2, false);
    check(b"\r", None, 1, false);
    check(b"\n", Some(Token::Bulk(text(&[b'x'; 100]))), 0, true);
    check(b"$101\r\n", Some(Token::BulkStart(101)), 0, false);
    check(b"", None, 1, false);
    check(
        &[b'x'; 100],
        Some(Token::BulkPart(text(&[b'x'; 100]))),
        0,
        false,
    );
    check(b"y", Some(Token::BulkPart(text(b"y"))), 0, false);
    check(b"", None, 2, false);
    check(b"\r\n", Some(Token::BulkEnd), 0, true);
    check(b"+O", None, 0, false);
    check(b"K\r\n", Some(Token::Simple(text(b"OK"))), 0, true);
}

/// Shown by a line feed that is put where the decoder has looked already: it does not look again.
#[test]
fn a_line_that_arrives_in_pieces_is_searched_once() {
    let mut decoder = Decoder::new(Limits::default());
    let mut buf = BytesMut::from(&b"+"[..]);
    for _ in 0..1000 {
        buf.put_bytes(b'x', 32);
        assert_eq!(decoder.token(&mut buf), Ok(None));
    }
    let at = buf.len() / 2;
    buf[at] = b'\n';
    buf.put_slice(b"\r\n");
    let got = decoder.token(&mut buf).unwrap();
    assert!(
        matches!(&got, Some(Token::Simple(line)) if line.len() == 32_000),
        "got {got:?}"
    );
}

#[test]
fn a_long_verbatim_text_waits_for_its_format() {
    let mut decoder = Decoder::new(Limits {
        bulk_whole_max: 5,
        ..Limits::default()
    });
    let mut buf = BytesMut::from(&b"=7\r\nt"[..]);
    assert_eq!(decoder.token(&mut buf), Ok(None));
    assert_eq!((decoder.bytes_wanted(), decoder.is_idle()), (3, false));
}
