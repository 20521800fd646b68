//! Commands as bytes: arrays of bulk strings, the one form that every server version takes.
//!
//! Everything is appended; the caller decides when a buffer is full and sends it.

use bytes::BytesMut;

/// What `$<len>\r\n...\r\n` adds to an argument at most: the mark, 20 digits, two line ends.
const BULK_FRAME_BYTES: usize = 1 + 20 + 2 + 2;

/// Appends the head of an array: `count` elements follow, a command and its arguments.
pub fn array_header(out: &mut BytesMut, count: usize) {
    header(out, b'*', count as u64);
}

/// Appends the head of a bulk string of `len` bytes. The caller appends, or sends, the bytes and `\r\n`.
pub fn bulk_header(out: &mut BytesMut, len: u64) {
    header(out, b'$', len);
}

/// Appends a bulk string.
pub fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + BULK_FRAME_BYTES);
    bulk_header(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number as servers take it: its decimal text in a bulk string.
pub fn bulk_int(out: &mut BytesMut, n: i64) {
    bulk(out, itoa::Buffer::new().format(n).as_bytes());
}

/// Appends a whole command: its name and its arguments.
pub fn command(out: &mut BytesMut, args: &[&[u8]]) {
    array_header(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

fn header(out: &mut BytesMut, mark: u8, number: u64) {
    out.extend_from_slice(&[mark]);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(append: impl FnOnce(&mut BytesMut), expected: &[u8]) {
        // What is in the buffer already must stay.
        let mut out = BytesMut::from(&b"before"[..]);
        append(&mut out);
        let expected = [b"before", expected].concat();
        assert_eq!(
            out,
            expected,
            "got {out:?}, expected {}",
            expected.escape_ascii()
        );
    }

    #[test]
    fn bytes_are_as_servers_take_them() {
        check(|out| array_header(out, 0), b"*0\r\n");
        check(|out| array_header(out, 1234), b"*1234\r\n");
        check(
            |out| bulk_header(out, u64::MAX),
            b"$18446744073709551615\r\n",
        );
        check(|out| bulk(out, b""), b"$0\r\n\r\n");
        check(|out| bulk(out, b"a\r\n\0\xff"), b"$5\r\na\r\n\0\xff\r\n");
        check(|out| bulk_int(out, 0), b"$1\r\n0\r\n");
        check(|out| bulk_int(out, -1), b"$2\r\n-1\r\n");
        check(
            |out| bulk_int(out, i64::MIN),
            b"$20\r\n-9223372036854775808\r\n",
        );
        check(|out| command(out, &[]), b"*0\r\n");
        check(
            |out| command(out, &[b"GET", b"key"]),
            b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
        );
    }
}
