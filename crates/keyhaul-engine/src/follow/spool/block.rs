//! How a piece of the stream lies on the disk. Sees bytes only; no I/O.
//!
//! A segment file is a head and then blocks, one behind the other:
//!
//! ```text
//! head   "KHSPOOL1" | replid, 40 bytes | offset of the first byte, u64 | XXH3 of all before, u64
//! block  "KHB1" | raw bytes, u32 | stored bytes, u32 | offset of the first byte, u64
//!        | XXH3 of the header before and of what is stored, u64 | what is stored
//! ```
//!
//! Numbers are little endian. What is stored is an LZ4 block, or the bytes as they came where that is not smaller: then both
//! lengths are the same.

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of the stream in a block, at most.
pub(super) const RAW_BYTES_MAX: usize = 256 * 1024;

pub(super) const HEAD_BYTES: usize = 64;
pub(super) const HEADER_BYTES: usize = 28;
pub(super) const REPLID_BYTES: usize = 40;

const HEAD_MAGIC: &[u8; 8] = b"KHSPOOL1";
const BLOCK_MAGIC: &[u8; 4] = b"KHB1";

/// What stands at the begin of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The history that the bytes are of.
    pub replid: String,
    /// Offset of the first byte.
    pub first: u64,
}

/// What stands before the bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Offset of the first byte.
    pub first: u64,
    pub raw_bytes: usize,
    pub stored_bytes: usize,
    sum: u64,
}

impl Head {
    /// `None`: the replid is none.
    pub(super) fn to_bytes(&self) -> Option<[u8; HEAD_BYTES]> {
        let replid: &[u8; REPLID_BYTES] = self.replid.as_bytes().try_into().ok()?;
        let mut bytes = [0; HEAD_BYTES];
        let (magic, rest) = bytes.split_at_mut(8);
        magic.copy_from_slice(HEAD_MAGIC);
        let (id, rest) = rest.split_at_mut(REPLID_BYTES);
        id.copy_from_slice(replid);
        rest[..8].copy_from_slice(&self.first.to_le_bytes());
        let sum = xxh3_64(&bytes[..HEAD_BYTES - 8]);
        bytes[HEAD_BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
        Some(bytes)
    }

    /// `None`: it is no head, or a damaged one.
    pub(super) fn of_bytes(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (before, sum) = bytes.split_at(HEAD_BYTES - 8);
        let rest = before.strip_prefix(HEAD_MAGIC)?;
        if xxh3_64(before) != u64_of(sum)? {
            return None;
        }
        let (replid, first) = rest.split_at_checked(REPLID_BYTES)?;
        Some(Self {
            replid: std::str::from_utf8(replid).ok()?.to_owned(),
            first: u64_of(first)?,
        })
    }
}

impl Header {
    /// `None`: it is no header. Whether the block is sound is known when it was unpacked.
    pub(super) fn of_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let rest = bytes.strip_prefix(BLOCK_MAGIC)?;
        let (raw, rest) = rest.split_at_checked(4)?;
        let (stored, rest) = rest.split_at_checked(4)?;
        let (first, sum) = rest.split_at_checked(8)?;
        let header = Self {
            raw_bytes: usize::try_from(u32_of(raw)?).ok()?,
            stored_bytes: usize::try_from(u32_of(stored)?).ok()?,
            first: u64_of(first)?,
            sum: u64_of(sum)?,
        };
        let is_sane = (1..=RAW_BYTES_MAX).contains(&header.raw_bytes)
            && (1..=header.raw_bytes).contains(&header.stored_bytes)
            && header.end().is_some();
        is_sane.then_some(header)
    }

    /// Offset of the byte behind the last one.
    pub(super) fn end(&self) -> Option<u64> {
        self.first.checked_add(self.raw_bytes as u64)
    }

    /// Bytes of the block in the file.
    pub(super) fn block_bytes(&self) -> u64 {
        (HEADER_BYTES + self.stored_bytes) as u64
    }

    /// Whether this is what was stored.
    pub(super) fn is_sound(&self, header: &[u8; HEADER_BYTES], stored: &[u8]) -> bool {
        stored.len() == self.stored_bytes && sum_of(header, stored) == self.sum
    }

    /// The bytes of the stream; `None`: the block is damaged.
    pub(super) fn unpack(&self, header: &[u8; HEADER_BYTES], stored: Vec<u8>) -> Option<Bytes> {
        if !self.is_sound(header, &stored) {
            return None;
        }
        if self.stored_bytes == self.raw_bytes {
            return Some(stored.into());
        }
        let mut raw = vec![0; self.raw_bytes];
        let bytes = lz4_flex::block::decompress_into(&stored, &mut raw).ok()?;
        (bytes == self.raw_bytes).then(|| raw.into())
    }
}

/// A whole block, to be written: of at most [`RAW_BYTES_MAX`] and at least one byte.
pub(super) fn pack(first: u64, raw: &[u8]) -> Vec<u8> {
    let room = lz4_flex::block::get_maximum_output_size(raw.len());
    let mut block = vec![0; HEADER_BYTES + room];
    let packed = lz4_flex::block::compress_into(raw, &mut block[HEADER_BYTES..]);
    let stored_bytes = match packed {
        Ok(bytes) if bytes < raw.len() => bytes,
        _ => {
            block[HEADER_BYTES..HEADER_BYTES + raw.len()].copy_from_slice(raw);
            raw.len()
        }
    };
    block.truncate(HEADER_BYTES + stored_bytes);
    let length = |bytes: usize| u32::try_from(bytes).expect("at most RAW_BYTES_MAX");
    let (header, stored) = block.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(BLOCK_MAGIC);
    header[4..8].copy_from_slice(&length(raw.len()).to_le_bytes());
    header[8..12].copy_from_slice(&length(stored_bytes).to_le_bytes());
    header[12..20].copy_from_slice(&first.to_le_bytes());
    let sum = sum_of(header, stored);
    header[20..].copy_from_slice(&sum.to_le_bytes());
    block
}

fn sum_of(header: &[u8], stored: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(header.get(..HEADER_BYTES - 8).unwrap_or_default());
    sum.update(stored);
    sum.digest()
}

fn u64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(block: &[u8]) -> Option<(u64, Bytes)> {
        let (header_bytes, stored) = block.split_first_chunk::<HEADER_BYTES>()?;
        let header = Header::of_bytes(header_bytes)?;
        let raw = header.unpack(header_bytes, stored.to_vec())?;
        Some((header.first, raw))
    }

    #[test]
    fn blocks_come_back_as_they_were() {
        let noise: Vec<u8> = (0..RAW_BYTES_MAX as u64)
            .map(|n| (xxh3_64(&n.to_le_bytes()) & 0xff) as u8)
            .collect();
        for raw in [&b"x"[..], &[b'a'; RAW_BYTES_MAX], &noise, &noise[..100]] {
            let block = pack(77, raw);
            assert!(block.len() <= HEADER_BYTES + raw.len());
            assert!(unpack(&block) == Some((77, Bytes::copy_from_slice(raw))));
        }
        assert!(pack(1, &[b'a'; RAW_BYTES_MAX]).len() < 2000, "it is packed");
    }

    #[test]
    fn no_changed_byte_goes_unseen() {
        let block = pack(
            5,
            b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        );
        for at in 0..block.len() {
            let mut damaged = block.clone();
            damaged[at] ^= 0x41;
            assert_eq!(unpack(&damaged), None, "byte {at}");
            assert_eq!(unpack(&block[..at]), None, "cut at {at}");
        }
        let head = Head {
            replid: "0123456789abcdef0123456789abcdef01234567".into(),
            first: 9,
        };
        let bytes = head.to_bytes().unwrap();
        assert_eq!(Head::of_bytes(&bytes), Some(head));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Head::of_bytes(&damaged), None, "byte {at}");
        }
    }
}
