//! Any chunking gives the same commands at the same offsets, whatever the bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A command, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Command {
        end: u64,
        /// `None`: not held.
        args: Vec<Option<Vec<u8>>>,
        is_cut_short: bool,
        is_cut_off: bool,
        /// What would be sent.
        bytes: Vec<u8>,
    },
    Error(StreamError),
}

fn see(chunks: &[&[u8]]) -> (Vec<Seen>, u64) {
    let mut parser = Parser::new(1000);
    let mut seen = Vec::new();
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
        loop {
            match parser.next() {
                Ok(None) => break,
                Ok(Some(cut)) => seen.push(seen_of(&cut)),
                Err(error) => {
                    seen.push(Seen::Error(error));
                    return (seen, 0);
                }
            }
        }
    }
    let offset = parser.offset();
    (seen, offset)
}

fn seen_of(cut: &Cut<'_>) -> Seen {
    let args = cut.args();
    let held = |index| (!args.is_cut(index)).then(|| args.get(index).unwrap().to_vec());
    Seen::Command {
        end: cut.end,
        args: (0..args.len()).map(held).collect(),
        is_cut_short: cut.is_cut_short(),
        is_cut_off: args.is_cut_off(),
        bytes: cut.to_bytes().to_vec(),
    }
}

fn encoded(args: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    keyhaul_resp::encode::command(&mut out, args);
    out.to_vec()
}

fn whole(start: u64, args: &[&[u8]]) -> Seen {
    let bytes = encoded(args);
    Seen::Command {
        end: start + bytes.len() as u64,
        args: args.iter().map(|arg| Some(arg.to_vec())).collect(),
        is_cut_short: false,
        is_cut_off: false,
        bytes,
    }
}

/// However the bytes are cut into two, three, or single ones.
fn check(stream: &[u8], expected: &[Seen]) {
    let single: Vec<_> = stream.chunks(1).collect();
    assert_eq!(see(&[stream]).0, expected);
    assert_eq!(see(&single), see(&[stream]));
    for at in 0..=stream.len() {
        let (one, other) = stream.split_at(at);
        assert_eq!(see(&[one, other]).0, expected, "cut at {at}");
        let (two, three) = other.split_at(other.len() / 2);
        assert_eq!(see(&[one, two, three]).0, expected, "cut at {at}");
    }
}

fn check_error(stream: &[u8], offset: u64, what: Fault) {
    check(stream, &[Seen::Error(StreamError { offset, what })]);
}

#[test]
fn commands_tile_the_stream_and_newlines_count() {
    let set: &[&[u8]] = &[b"SET", b"k", b"\r\n*1\r\n"];
    let ping: &[&[u8]] = &[b"PING"];
    let stream = [encoded(set), encoded(ping), b"\n\n".to_vec(), encoded(ping)].concat();
    let second = 1000 + encoded(set).len() as u64;
    let third = second + encoded(ping).len() as u64 + 2;
    check(
        &stream,
        &[whole(1000, set), whole(second, ping), whole(third, ping)],
    );
    let end = 1000 + stream.len() as u64;
    assert_eq!(see(&[&stream]).1, end);
    // What was begun does not count, newlines do.
    assert_eq!(see(&[&stream, b"\n*1\r\n$4\r\nPI"]).1, end + 1);
}

#[test]
fn what_is_no_command_is_told_with_its_offset() {
    check_error(b"PING\r\n", 1000, Fault::NoCommand(b'P'));
    check_error(b"\n\r\n", 1001, Fault::NoCommand(b'\r'));
    check_error(b"*0\r\n", 1004, Fault::Empty);
    check_error(b"*-1\r\n", 1000, Fault::Length);
    check_error(b"*1x", 1000, Fault::Length);
    check_error(b"*\r\n", 1000, Fault::Length);
    check_error(b"*1\rx", 1000, Fault::Length);
    check_error(b"*12345678901234567890\r\n", 1000, Fault::Length);
    check_error(b"*1\r\n:1\r\n", 1004, Fault::NoArgument(b':'));
    check_error(b"*1\r\n$-1\r\n", 1004, Fault::Length);
    check_error(b"*1\r\n$4\r\nPINGxx", 1012, Fault::ArgumentEnd);
    check_error(b"*1\r\n$4\r\nPING\r\r", 1012, Fault::ArgumentEnd);
}

#[test]
fn a_long_argument_is_passed_over_and_the_key_is_known() {
    let long = vec![b'x'; ARG_BYTES_MAX as usize + 1];
    let fits = vec![b'y'; ARG_BYTES_MAX as usize];
    let stream = [
        encoded(&[b"SET", b"key", &long, b"PXAT", b"5"]),
        encoded(&[b"SET", b"key", &fits]),
    ]
    .concat();
    let (seen, _) = see(&[&stream]);
    let chunks: Vec<_> = stream.chunks(1_000_003).collect();
    assert!(see(&chunks).0 == seen, "chunks give something else");
    let [
        Seen::Command {
            args,
            is_cut_short,
            end,
            ..
        },
        second,
    ] = &seen[..]
    else {
        panic!("two commands are in it");
    };
    assert!(*is_cut_short);
    let expected = [
        Some(&b"SET"[..]),
        Some(b"key"),
        None,
        Some(b"PXAT"),
        Some(b"5"),
    ];
    let args: Vec<_> = args.iter().map(|arg| arg.as_deref()).collect();
    assert_eq!(args, expected);
    assert!(*second == whole(*end, &[b"SET", b"key", &fits]));
}

#[test]
fn an_argument_of_any_announced_length_is_taken_as_it_comes() {
    let mut parser = Parser::new(0);
    parser.push(Bytes::from_static(
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9223372036854775807\r\n",
    ));
    for _ in 0..100 {
        parser.push(vec![0; 1 << 20].into());
        assert!(parser.next().unwrap().is_none());
    }
    assert_eq!(parser.offset(), 0);
}

#[test]
fn one_command_holds_no_more_than_it_may() {
    let part = vec![b'x'; 1 << 20];
    let mut args = vec![&b"RPUSH"[..], b"key"];
    args.resize(42, &part);
    let stream = encoded(&args);
    let (seen, _) = see(&stream.chunks(3_000_000).collect::<Vec<_>>());
    assert!(see(&[&stream]).0 == seen, "chunks give something else");
    let [
        Seen::Command {
            args,
            bytes,
            is_cut_short: true,
            is_cut_off: false,
            ..
        },
    ] = &seen[..]
    else {
        panic!("one command is in it, cut short");
    };
    assert_eq!(args.len(), 42);
    assert_eq!(args.iter().filter(|arg| arg.is_none()).count(), 9);
    assert!(bytes.len() <= HELD_BYTES_MAX);
}

#[test]
fn more_arguments_than_are_told_are_passed_over() {
    let count = ARGS_MAX + 3;
    let mut stream = format!("*{count}\r\n$3\r\nDEL\r\n").into_bytes();
    (1..count).for_each(|_| stream.extend_from_slice(b"$1\r\nk\r\n"));
    stream.extend_from_slice(&encoded(&[b"PING"]));
    let (seen, _) = see(&[&stream]);
    let [
        Seen::Command {
            args,
            end,
            is_cut_short: true,
            is_cut_off: true,
            ..
        },
        ping,
    ] = &seen[..]
    else {
        panic!("two commands are in it");
    };
    assert_eq!(args.len(), ARGS_MAX);
    assert!(*ping == whole(*end, &[b"PING"]));
}

#[test]
fn a_chunk_that_was_not_used_up_is_not_lost() {
    let ping = encoded(&[b"PING"]);
    let mut parser = Parser::new(0);
    parser.push(ping.clone().into());
    parser.push(ping.clone().into());
    assert_eq!(parser.next().unwrap().unwrap().end, ping.len() as u64);
    assert_eq!(parser.next().unwrap().unwrap().end, 2 * ping.len() as u64);
    assert!(parser.next().unwrap().is_none());
}

fn stream_of(commands: &[Vec<Vec<u8>>], damage: &[(usize, u8)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let args: Vec<_> = command.iter().map(|arg| &arg[..]).collect();
        stream.extend_from_slice(&encoded(&args));
        stream.resize(stream.len() + index % 3, b'\n');
    }
    let len = stream.len();
    for &(at, byte) in damage {
        stream[at % len] = byte;
    }
    stream
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        commands in vec(vec(vec(any::<u8>(), 0..40), 1..6), 1..20),
        damage in vec((any::<usize>(), any::<u8>()), 0..3),
        cuts in vec(1_usize..60, 1..40),
    ) {
        let stream = stream_of(&commands, &damage);
        let mut chunks = Vec::new();
        let mut rest = &stream[..];
        for &len in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, later) = rest.split_at(len.min(rest.len()));
            chunks.push(chunk);
            rest = later;
        }
        let (seen, offset) = see(&[&stream]);
        prop_assert_eq!(see(&chunks), (seen.clone(), offset));
        if damage.is_empty() {
            prop_assert_eq!(seen.len(), commands.len());
        }
    }

    #[test]
    fn nothing_makes_it_panic(stream in vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'9', any::<u8>()], 0..200)) {
        let single: Vec<_> = stream.chunks(1).collect();
        prop_assert_eq!(see(&single).0, see(&[&stream]).0);
    }
}
