//! CSV as RFC 4180 has it, but for line ends: those are line feeds.

use std::io::{self, Write};

use keyhaul_engine::stats::{MemKey, ShardRow, key_text};

/// The first line of `memkeys`.
pub(crate) const MEM_KEYS_HEADER: &str = "key,size_bytes\n";
/// The first line of `slots`.
pub(crate) const SLOTS_HEADER: &str = "shard,slot_start,slot_end,size_bytes\n";

/// Writes rows of `memkeys`: one after the other, as names may be long.
pub(crate) fn write_mem_keys(out: &mut impl Write, rows: &[MemKey]) -> io::Result<()> {
    let mut text = Vec::new();
    for row in rows {
        text.clear();
        push_mem_key(&mut text, row);
        out.write_all(&text)?;
    }
    out.flush()
}

/// Appends a row of `memkeys`.
fn push_mem_key(text: &mut Vec<u8>, row: &MemKey) {
    match std::str::from_utf8(&row.key) {
        Ok(key) => push_field(text, key),
        Err(_) => push_field(text, &key_text(&row.key)),
    }
    text.extend_from_slice(format!(",{}\n", row.size_bytes).as_bytes());
}

/// Appends a row of `slots`.
pub(crate) fn push_shard(text: &mut Vec<u8>, row: &ShardRow) {
    let ShardRow {
        shard,
        slot_start,
        slot_end,
        size_bytes,
    } = row;
    let line = format!("{shard},{slot_start},{slot_end},{size_bytes}\n");
    text.extend_from_slice(line.as_bytes());
}

/// Appends a row of any table.
pub(crate) fn push_row<'a>(text: &mut Vec<u8>, fields: impl IntoIterator<Item = &'a str>) {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        push_field(text, field);
    }
    text.push(b'\n');
}

/// In quotes where it holds what would end it; a quote is doubled.
fn push_field(text: &mut Vec<u8>, field: &str) {
    if !field.contains([',', '"', '\n', '\r']) {
        text.extend_from_slice(field.as_bytes());
        return;
    }
    text.push(b'"');
    text.extend_from_slice(field.replace('"', "\"\"").as_bytes());
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_row() {
        let rows: [(&'static [u8], &str); 10] = [
            (b"user:1", "user:1,7\n"),
            (b"", ",7\n"),
            (b"a,b", "\"a,b\",7\n"),
            (b"say \"hi\"", "\"say \"\"hi\"\"\",7\n"),
            (b"two\nlines", "\"two\nlines\",7\n"),
            (b"cr\r", "\"cr\r\",7\n"),
            ("é ü".as_bytes(), "é ü,7\n"),
            // As it is, whatever it looks like.
            (b"a\\xFF\t\0", "a\\xFF\t\0,7\n"),
            (b"a\\\xff\n", "a\\\\\\xFF\\x0A,7\n"),
            (b"\xff,\"", "\"\\xFF,\"\"\",7\n"),
        ];
        for (key, expected) in rows {
            let mut text = Vec::new();
            let row = MemKey {
                db: 0,
                key: key.into(),
                size_bytes: 7,
            };
            push_mem_key(&mut text, &row);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn rows_of_any_table() {
        for (fields, line) in [
            (&["a", "b"][..], "a,b\n"),
            (&["", ""], ",\n"),
            (&["a,b", "c"], "\"a,b\",c\n"),
        ] {
            let mut text = Vec::new();
            push_row(&mut text, fields.iter().copied());
            assert_eq!(String::from_utf8(text).unwrap(), line);
        }
    }

    #[test]
    fn shards_in_a_row() {
        let mut text = Vec::new();
        let row = ShardRow {
            shard: 105,
            slot_start: 12_285,
            slot_end: 12_401,
            size_bytes: u64::MAX,
        };
        push_shard(&mut text, &row);
        assert_eq!(text, b"105,12285,12401,18446744073709551615\n");
    }
}
