//! Where each shard of a job is, on the disk: what a later run of the same command goes on from.
//!
//! One small file a shard. It is written before anything is handed to the target, many times a second, so it must cost
//! one small write and no sync, and a process that is killed in the middle of one must not spoil it: two copies are
//! written in turns, and the newer sound one counts.
//!
//! ```text
//! at 0 and at 256:  "keyhaul-pos1" | number u64 | state u8 | db u32 | applied u64 | sent u64 | applied_at_ms i64 |
//!                   replid 40 bytes | XXH3-64 of all that u64         integers little-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8] = b"keyhaul-pos1";
const COPY_BYTES: usize = MAGIC.len() + 8 + 1 + 4 + 8 + 8 + 8 + 40;
/// Where the second copy lies.
const SECOND_AT: u64 = 256;

/// Where a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Whether the snapshot is on the target; else nothing can be gone on from.
    pub is_following: bool,
    /// The history, 40 hexadecimal digits.
    pub replid: String,
    /// The stream is applied up to here.
    pub applied: u64,
    /// The db that is selected there.
    pub db: u32,
    /// What lies beyond was never handed to the target.
    pub sent: u64,
    /// All that the source did before is applied, its clock, Unix ms; 0: unknown.
    pub applied_at_ms: i64,
}

/// The file of a shard.
#[derive(Debug)]
pub(crate) struct PositionFile {
    file: File,
    number: u64,
    last: Option<Position>,
}

impl PositionFile {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let copies = [read_copy(&file, 0), read_copy(&file, SECOND_AT)];
        let newest = copies.into_iter().flatten().max_by_key(|copy| copy.0);
        let (number, last) = newest.map_or((0, None), |(number, last)| (number, Some(last)));
        Ok(Self { file, number, last })
    }

    /// What was noted last, also by an earlier run.
    pub(crate) fn last(&self) -> Option<&Position> {
        self.last.as_ref()
    }

    /// Notes it. When this returns, it survives the process.
    ///
    /// # Errors
    /// Those of the system; what was noted before is as it was.
    pub(crate) fn note(&mut self, position: Position) -> io::Result<()> {
        if self.last.as_ref() == Some(&position) {
            return Ok(());
        }
        let number = self.number + 1;
        let copy = encode(number, &position);
        let at = if number.is_multiple_of(2) {
            0
        } else {
            SECOND_AT
        };
        self.file.write_all_at(&copy, at)?;
        (self.number, self.last) = (number, Some(position));
        Ok(())
    }
}

fn encode(number: u64, position: &Position) -> Vec<u8> {
    let mut copy = Vec::with_capacity(COPY_BYTES + 8);
    copy.extend_from_slice(MAGIC);
    copy.extend_from_slice(&number.to_le_bytes());
    copy.push(u8::from(position.is_following));
    copy.extend_from_slice(&position.db.to_le_bytes());
    copy.extend_from_slice(&position.applied.to_le_bytes());
    copy.extend_from_slice(&position.sent.to_le_bytes());
    copy.extend_from_slice(&position.applied_at_ms.to_le_bytes());
    let mut replid = position.replid.clone().into_bytes();
    replid.resize(40, b'0');
    copy.extend_from_slice(&replid);
    copy.extend_from_slice(&xxh3_64(&copy).to_le_bytes());
    copy
}

fn read_copy(file: &File, at: u64) -> Option<(u64, Position)> {
    let mut copy = [0; COPY_BYTES + 8];
    file.read_exact_at(&mut copy, at).ok()?;
    let (body, digest) = copy.split_at_checked(COPY_BYTES)?;
    let rest = body.strip_prefix(MAGIC)?;
    if digest != xxh3_64(body).to_le_bytes() {
        return None;
    }
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (state, rest) = rest.split_first()?;
    let (db, rest) = rest.split_first_chunk::<4>()?;
    let (applied, rest) = rest.split_first_chunk::<8>()?;
    let (sent, rest) = rest.split_first_chunk::<8>()?;
    let (applied_at_ms, replid) = rest.split_first_chunk::<8>()?;
    let position = Position {
        is_following: *state == 1,
        replid: String::from_utf8(replid.to_vec()).ok()?,
        applied: u64::from_le_bytes(*applied),
        db: u32::from_le_bytes(*db),
        sent: u64::from_le_bytes(*sent),
        applied_at_ms: i64::from_le_bytes(*applied_at_ms),
    };
    Some((u64::from_le_bytes(*number), position))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(applied: u64) -> Position {
        Position {
            is_following: true,
            replid: "0123456789abcdef0123456789abcdef01234567".into(),
            applied,
            db: 3,
            sent: applied + 100,
            applied_at_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn what_was_noted_last_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.position");
        let mut file = PositionFile::open(&path).unwrap();
        assert_eq!(file.last(), None);
        for applied in 1..=7 {
            file.note(position(applied)).unwrap();
            let again = PositionFile::open(&path).unwrap();
            assert_eq!(again.last(), Some(&position(applied)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.position");
        let mut file = PositionFile::open(&path).unwrap();
        file.note(position(1)).unwrap();
        file.note(position(2)).unwrap();
        // The second one lies at 0: 2 is even.
        for torn in 0..COPY_BYTES as u64 + 8 {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let mut byte = [0];
            let reader = File::open(&path).unwrap();
            reader.read_exact_at(&mut byte, torn).unwrap();
            file.write_all_at(&[byte[0] ^ 1], torn).unwrap();
            let read = PositionFile::open(&path).unwrap();
            assert_eq!(read.last(), Some(&position(1)), "byte {torn}");
            file.write_all_at(&byte, torn).unwrap();
        }
    }
}
