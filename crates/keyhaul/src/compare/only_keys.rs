//! `--only-keys`: the keys that a diff file names, read back.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use keyhaul_engine::compare::options::{Mark, NamedKey};

use crate::usage::UsageError;

/// Longest line, bytes: the longest key name of a server (512 MB), each byte as `\xHH`.
const LINE_BYTES_MAX: u64 = 4 * 512 * 1024 * 1024 + 64;

/// The keys of a diff file that were not the same; also those of lines that are only a name, or db and name.
pub(crate) fn read(path: &Path) -> Result<Vec<NamedKey>, UsageError> {
    let wrong = |reason: String| {
        let path = path.display();
        UsageError::new(format!("--only-keys: cannot read {path}: {reason}"))
    };
    let file = File::open(path).map_err(|e| wrong(e.to_string()))?;
    read_lines(BufReader::new(file)).map_err(wrong)
}

fn read_lines(mut lines: impl BufRead) -> Result<Vec<NamedKey>, String> {
    let mut keys = Vec::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let length = io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if length.map_err(|e| e.to_string())? == 0 {
            break;
        }
        match key_of_line(&line) {
            Ok(Some(key)) => keys.push(key),
            Ok(None) => {}
            Err(reason) => return Err(format!("line {number}: {reason}")),
        }
    }
    Ok(keys)
}

/// `None`: the line names nothing, or a key that was the same.
fn key_of_line(line: &[u8]) -> Result<Option<NamedKey>, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // Text that went through Windows; a name that ends so has it as \x0D.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is no UTF-8")?;
    let parts: Vec<&str> = line.splitn(4, '\t').collect();
    let (mark, db, name) = match *parts.as_slice() {
        [name] => (Mark::Different, 0, name),
        [db, name] => (Mark::Different, db_of(db)?, name),
        [mark, db, name] => (mark_of(mark)?, db_of(db)?, name),
        _ => return Err("it has more than mark, db and key".into()),
    };
    let key = key_of_text(name)?.into();
    Ok((mark != Mark::Same).then_some(NamedKey { mark, db, key }))
}

fn mark_of(text: &str) -> Result<Mark, &'static str> {
    let mut chars = text.chars();
    let mark = chars.next().filter(|_| chars.next().is_none());
    mark.and_then(Mark::of_char)
        .ok_or("the mark before the first tab is none of = - + * !")
}

fn db_of(text: &str) -> Result<u32, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let db = text.parse().ok().filter(|db| *db <= i32::MAX as u32);
    db.filter(|_| is_number)
        .ok_or("the db before the last tab is no number")
}

/// The bytes of a name that was written by [`keyhaul_engine::stats::key_text`].
fn key_of_text(text: &str) -> Result<Vec<u8>, &'static str> {
    const BAD_ESCAPE: &str = "a backslash is followed by neither xHH nor a backslash";
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        push_plain(&mut key, plain)?;
        rest = if let Some(behind) = escape.strip_prefix('\\') {
            key.push(b'\\');
            behind
        } else {
            let digits = escape
                .strip_prefix('x')
                .and_then(|hex| hex.split_at_checked(2));
            let (digits, behind) = digits.ok_or(BAD_ESCAPE)?;
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(BAD_ESCAPE);
            }
            key.push(u8::from_str_radix(digits, 16).map_err(|_| BAD_ESCAPE)?);
            behind
        };
    }
    push_plain(&mut key, rest)?;
    Ok(key)
}

fn push_plain(key: &mut Vec<u8>, text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) {
        return Err("the name holds a control character that is not written as \\xHH");
    }
    key.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keyhaul_engine::stats::key_text;

    use super::*;

    fn named(mark: Mark, db: u32, key: &'static [u8]) -> NamedKey {
        NamedKey {
            mark,
            db,
            key: Bytes::from_static(key),
        }
    }

    #[test]
    fn lines() {
        let text =
            "*\t0\ta\n=\t0\tsame\n\n-\t3\tb c\r\n+\t15\t\\x00\\xff\\\\\n!\t0\t\nplain\n7\tüx";
        let expected = [
            named(Mark::Different, 0, b"a"),
            named(Mark::Missing, 3, b"b c"),
            named(Mark::Extra, 15, b"\x00\xff\\"),
            named(Mark::Unknown, 0, b""),
            named(Mark::Different, 0, b"plain"),
            named(Mark::Different, 7, "üx".as_bytes()),
        ];
        assert_eq!(read_lines(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn bad_lines_are_told_by_number() {
        for (line, reason) in [
            (&b"x\t0\ta"[..], "the mark"),
            (b"**\t0\ta", "the mark"),
            (b"\t0\ta", "the mark"),
            (b"*\t-1\ta", "the db"),
            (b"*\t+1\ta", "the db"),
            (b"*\t\ta", "the db"),
            (b"4294967296\ta", "the db"),
            (b"*\t0\ta\tb", "more than"),
            (b"a\\", "a backslash"),
            (b"a\\n", "a backslash"),
            (b"a\\x4", "a backslash"),
            (b"a\\x+4", "a backslash"),
            ("a\\x4ü".as_bytes(), "a backslash"),
            (b"a\x01", "a control character"),
            (b"a\xff", "no UTF-8"),
            (b"=\t0\ta\\q", "a backslash"),
        ] {
            let mut text = b"ok\n\n".to_vec();
            text.extend_from_slice(line);
            let error = read_lines(text.as_slice()).unwrap_err();
            assert!(error.starts_with("line 3: "), "{error}");
            assert!(error.contains(reason), "{line:?}: {error}");
        }
    }

    /// splitmix64: any bytes, the same in each run.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    #[test]
    fn names_come_back_as_they_were() {
        // Half of the bytes are such as make trouble.
        const TROUBLE: &[u8] = b"\\x\t\n\r\0 \x7f\xc2\x85\xe2\x82\xac\xf0\x9f0Aa";
        let mut state = 5;
        for _ in 0..20_000 {
            let length = random(&mut state) % 24;
            let key: Vec<u8> = (0..length)
                .map(|_| match random(&mut state) {
                    n if n & 1 == 0 => (n >> 8) as u8,
                    n => TROUBLE[(n >> 8) as usize % TROUBLE.len()],
                })
                .collect();
            let text = key_text(&key);
            assert_eq!(key_of_text(&text).unwrap(), key, "{text}");
            let line = format!("+\t9\t{text}\n");
            let read = key_of_line(line.as_bytes()).unwrap().unwrap();
            assert_eq!(
                (read.mark, read.db, &read.key[..]),
                (Mark::Extra, 9, &key[..])
            );
        }
    }
}
