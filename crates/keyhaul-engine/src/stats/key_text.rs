//! Key names as text, for reports, logs and messages.

/// UTF-8 as it is; other bytes and control characters as `\xHH`, a backslash as `\\`.
pub fn key_text(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    c.encode_utf8(&mut utf8)
                        .bytes()
                        .for_each(|byte| push_hex(&mut text, byte));
                }
                c => text.push(c),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|byte| push_hex(&mut text, *byte));
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    text.push_str(&format!("\\x{byte:02X}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_text() {
        let rows: [(&[u8], &str); 6] = [
            (b"user:1", "user:1"),
            (b"", ""),
            ("é ü".as_bytes(), "é ü"),
            (b"a\\b", "a\\\\b"),
            (b"a\x00\n\xff", "a\\x00\\x0A\\xFF"),
            ("\u{85}".as_bytes(), "\\xC2\\x85"),
        ];
        for (key, text) in rows {
            assert_eq!(key_text(key), text);
        }
    }
}
