//! Which RDB version a server writes.

/// The RDB version that a Redis or (`is_valkey`) Valkey of this version writes into files and
/// payloads, and the highest that it reads. From the servers' own files and release history.
pub fn rdb_version(is_valkey: bool, major: u16, minor: u16) -> u16 {
    if is_valkey {
        return if major >= 9 { 80 } else { 11 };
    }
    match (major, minor) {
        (0..=2, 0..=5) => 2,
        (0..=2, _) | (3, 0..=1) => 6,
        (3, _) => 7,
        (4, _) => 8,
        (5 | 6, _) => 9,
        (7, 0..=1) => 10,
        (7, 2..=3) => 11,
        (7, _) | (8, 0..=5) => 12,
        _ => 13,
    }
}
