//! The outside of a DUMP payload: type byte in front, footer behind.
//!
//! ```text
//! | type byte | value ... | RDB version, 2 bytes little endian | CRC64, 8 bytes little endian |
//! ```

/// Bytes behind the value.
pub const FOOTER_BYTES: usize = 10;

/// The RDB version in the footer; `None` when the payload is too short to have one.
pub fn payload_rdb_version(payload: &[u8]) -> Option<u16> {
    let footer = payload.last_chunk::<FOOTER_BYTES>()?;
    if payload.len() == FOOTER_BYTES {
        return None;
    }
    Some(u16::from_le_bytes([footer[0], footer[1]]))
}

/// What decides whether a server can load a payload: version, type byte, and for a module's type
/// the 9 bytes of its length-encoded module id. Equal kinds share their fate.
pub fn payload_kind(payload: &[u8]) -> Option<[u8; 12]> {
    const MODULE_2: u8 = 7;
    let [version_low, version_high] = payload_rdb_version(payload)?.to_le_bytes();
    let mut kind = [0; 12];
    kind[0] = version_low;
    kind[1] = version_high;
    kind[2] = *payload.first()?;
    if kind[2] == MODULE_2 {
        let id = payload.get(1..10)?;
        kind[3..].copy_from_slice(id);
    }
    Some(kind)
}

/// Whether two payloads hold the same bytes, whatever versions their footers name.
pub fn same_but_footer(one: &[u8], other: &[u8]) -> bool {
    let value = |payload: &[u8]| payload.len().checked_sub(FOOTER_BYTES);
    match (value(one), value(other)) {
        (Some(end), Some(other_end)) => one.get(..end) == other.get(..other_end),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footers() {
        // DUMP of SET k v on Redis 7.0.
        let payload = b"\x00\x01v\x0a\x00\x32\xfa\x1f\xb5\x4e\x2f\x8c\x11";
        assert_eq!(payload_rdb_version(payload), Some(10));
        assert_eq!(payload_kind(payload).unwrap()[..3], [10, 0, 0]);
        let mut newer = payload.to_vec();
        newer[3] = 12;
        assert!(same_but_footer(payload, &newer));
        newer[2] = b'w';
        assert!(!same_but_footer(payload, &newer));
        for n in 0..=FOOTER_BYTES {
            assert_eq!(payload_rdb_version(&payload[..n]), None);
            assert_eq!(payload_kind(&payload[..n]), None);
        }
    }
}
