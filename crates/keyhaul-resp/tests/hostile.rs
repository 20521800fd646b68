//! Peers that are broken, malicious or no Redis at all: the right error, and no memory for promises.

mod common;

use bytes::BytesMut;
use common::{tokens, values};
use keyhaul_resp::{DecodeError, Decoder, Limits, Value};

/// The message names the cause, by token and by value alike.
#[track_caller]
fn check(bytes: &[u8], message: &str) {
    let shown = bytes[..bytes.len().min(60)].escape_ascii();
    let by_token = tokens(&[bytes], Limits::default()).map_err(|e| e.to_string());
    assert_eq!(by_token, Err(message.into()), "{shown}");
    let by_value = values(&[bytes], Limits::default()).map_err(|e| e.to_string());
    assert_eq!(by_value, Err(message.into()), "{shown}");
}

#[test]
fn other_protocols() {
    check(
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        r#"the peer does not speak RESP: it sent "HTTP/1.1 400 Bad Request\r\nContent-Type: ...""#,
    );
    check(
        b"SSH-2.0-OpenSSH\r\n",
        r#"the peer does not speak RESP: it sent "SSH-2.0-OpenSSH\r\n""#,
    );
    check(
        b"\x15\x03\x03",
        r#"the peer does not speak RESP: it sent "\x15\x03\x03""#,
    );
    check(b"\0", r#"the peer does not speak RESP: it sent "\x00""#);
    check(b"\r\n", r#"the peer does not speak RESP: it sent "\r\n""#);
    check(
        b"\xff\"\\",
        r#"the peer does not speak RESP: it sent "\xff\"\\""#,
    );
    check(
        b":1\r\n;4\r\nabcd\r\n",
        r#"the peer does not speak RESP: it sent ";4\r\nabcd\r\n""#,
    );
    let not_resp = tokens(&[b"G"], Limits::default());
    assert!(
        matches!(not_resp, Err(DecodeError::NotResp { byte: b'G', .. })),
        "{not_resp:?}"
    );
}

#[test]
fn lengths() {
    for bad in [
        "-2", "+1", "-0", "--1", "01", "-01", "00", " 1", "1 ", "1a", "", "0x1", "1.0", "\0",
    ] {
        for mark in ["$", "*"] {
            let line = format!("{mark}{bad}");
            let message = format!("bad length in \"{}\"", line.escape_default());
            let message = message.replace("\\u{0}", "\\x00");
            check(format!("{line}\r\n").as_bytes(), &message);
        }
    }
    for mark in ["!", "=", "%", "~", ">", "|"] {
        check(
            format!("{mark}-1\r\n").as_bytes(),
            &format!("bad length in \"{mark}-1\""),
        );
    }
    check(
        b"$18446744073709551616\r\n",
        r#"bad length in "$18446744073709551616""#,
    );
    let digits = "9".repeat(1000);
    let shown = "9".repeat(39);
    check(
        format!("*{digits}\r\n").as_bytes(),
        &format!("bad length in \"*{shown}...\""),
    );
}

#[test]
fn promises() {
    check(
        b"$4611686018427387904\r\n",
        "a bulk string of 4611686018427387904 bytes is above the limit of 68719476736",
    );
    check(
        b"=68719476737\r\n",
        "a bulk string of 68719476737 bytes is above the limit of 68719476736",
    );
    for mark in ["*", "%", "~", ">", "|"] {
        check(
            format!("{mark}1099511627776\r\n").as_bytes(),
            "an aggregate of 1099511627776 elements is above the limit of 4294967296",
        );
    }
    // A blob error never comes in parts, which are data.
    let got = tokens(&[b"!1048577\r\n"], Limits::default());
    assert_eq!(
        got,
        Err(DecodeError::BulkTooLong {
            len: 1_048_577,
            limit: 1 << 20
        })
    );
}

/// Were memory taken for what is announced, this would abort.
#[test]
fn no_memory_for_promises() {
    let limits = Limits {
        bulk_len_max: u64::MAX,
        aggregate_len_max: u64::MAX,
        value_bytes_max: usize::MAX,
        ..Limits::default()
    };
    for mark in ["*", "~", ">", "$", "!"] {
        let mut decoder = Decoder::new(limits);
        let mut buf = BytesMut::from(format!("{mark}288230376151711744\r\n").as_bytes());
        let capacity = buf.capacity();
        assert_eq!(decoder.value(&mut buf), Ok(None), "{mark}");
        assert!(buf.capacity() <= capacity, "{mark}");
        assert!(decoder.bytes_wanted() <= limits.bulk_whole_max, "{mark}");
        assert!(!decoder.is_idle(), "{mark}");
    }
    // Elements are taken as they come, and room for them doubles.
    let bytes = [b"*3000\r\n", &b":1\r\n".repeat(3000)[..]].concat();
    let list = values(&[&bytes], limits)
        .unwrap()
        .pop()
        .and_then(Value::into_list)
        .unwrap();
    assert!(
        list.len() == 3000 && list.capacity() <= 4096,
        "{}",
        list.capacity()
    );
}

#[test]
fn streamed_types() {
    for line in ["$?", "*?", "%?", "~?"] {
        check(
            format!("{line}\r\n").as_bytes(),
            &format!("streamed strings and aggregates are not supported: \"{line}\""),
        );
    }
}

#[test]
fn numbers_and_constants() {
    for bad in [
        ":",
        ":-",
        ":a",
        ":1.5",
        ":9223372036854775808",
        ":1 ",
        ":1\\r",
    ] {
        let bytes = format!("{}\r\n", bad.replace("\\r", "\r"));
        check(bytes.as_bytes(), &format!("bad number in \"{bad}\""));
    }
    for bad in [",", ",1,5", ",one", ",1.5.", "(", "(-", "(12a", "(1.5"] {
        check(
            format!("{bad}\r\n").as_bytes(),
            &format!("bad number in \"{bad}\""),
        );
    }
    check(b",\xff\r\n", r#"bad number in ",\xff""#);
    for bad in ["#", "#T", "#tf", "#1", "_ ", "_null"] {
        check(
            format!("{bad}\r\n").as_bytes(),
            &format!("bad boolean or null in \"{bad}\""),
        );
    }
    check(
        b"=3\r\ntxt\r\n",
        r#"bad verbatim string: it begins with "txt""#,
    );
    check(
        b"=5\r\nhello\r\n",
        r#"bad verbatim string: it begins with "hello""#,
    );
}

#[test]
fn line_ends() {
    check(
        b"$3\r\nabcd\r\n",
        r#"line end missing: found "d\r" instead"#,
    );
    check(
        b"$3\r\nabc\n\r",
        r#"line end missing: found "\n\r" instead"#,
    );
    check(b"$0\r\n+OK\r\n", r#"line end missing: found "+O" instead"#);
    check(b"+OK\n", r#"line end missing: found "+OK\n" instead"#);
    check(
        b"$3\nabc\r\n",
        r#"line end missing: found "$3\nabc\r\n" instead"#,
    );
    check(b"-\n", r#"line end missing: found "-\n" instead"#);
    let limits = Limits {
        bulk_whole_max: 1,
        ..Limits::default()
    };
    let got = tokens(&[b"$2\r\nabc\r\n"], limits);
    assert!(
        matches!(got, Err(DecodeError::MissingCrlf { .. })),
        "{got:?}"
    );
}

#[test]
fn endless_lines() {
    let limits = Limits {
        line_len_max: 100,
        ..Limits::default()
    };
    let line = |len: usize| [b"-", &vec![b'x'; len][..], b"\r\n"].concat();
    let too_long = Err(DecodeError::LineTooLong { limit: 100 });
    assert_eq!(tokens(&[&line(100)], limits).map(|all| all.len()), Ok(1));
    assert_eq!(tokens(&[&line(101)], limits), too_long);
    // Without an end the verdict comes as soon as it is sure, and not before.
    assert_eq!(tokens(&[&line(101)[..102]], limits), Ok(vec![]));
    assert_eq!(tokens(&[&line(102)[..103]], limits), too_long);
    let singly = line(100);
    let singly: Vec<&[u8]> = singly.chunks(1).collect();
    assert_eq!(tokens(&singly, limits).map(|all| all.len()), Ok(1));
}

#[test]
fn depth_bomb() {
    for mark in ["*1\r\n", "~1\r\n", "%1\r\n", "|1\r\n"] {
        let got = values(&[mark.repeat(100_000).as_bytes()], Limits::default());
        assert_eq!(got, Err(DecodeError::TooDeep { limit: 32 }), "{mark:?}");
    }
    // By tokens depth costs nothing.
    let bytes = b"*1\r\n".repeat(100_000);
    assert_eq!(
        tokens(&[&bytes], Limits::default()).map(|all| all.len()),
        Ok(100_000)
    );
}

/// An error does not go away by asking again.
#[test]
fn errors_stay() {
    for bytes in [
        &b"HTTP"[..],
        b"$x\r\n",
        b":x\r\n",
        b"$1\r\nabc\r\n",
        b"+a\n",
    ] {
        let mut decoder = Decoder::new(Limits::default());
        let mut buf = BytesMut::from(bytes);
        let first = decoder.token(&mut buf);
        assert!(first.is_err(), "{}", bytes.escape_ascii());
        assert_eq!(decoder.token(&mut buf), first, "{}", bytes.escape_ascii());
    }
}
