//! Where an RDB ends among the bytes of a replication link. Sees bytes only; no I/O.
//!
//! A source sends one of two headers in front of the RDB (full resync, Redis >= 2.8.18):
//!
//! ```text
//! $<length>\r\n <length bytes>                      from a file of the source
//! $EOF:<mark>\r\n <bytes> <mark>                    straight from its memory (diskless)
//! ```
//!
//! The mark is 40 random bytes, made anew for each transfer. What follows the RDB is the command stream.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

/// Length of the mark behind an RDB of unknown length, bytes.
const MARK_BYTES: usize = 40;

/// What of the RDB is still to come.
#[derive(Debug)]
pub(super) enum Extent {
    /// This many bytes.
    Length(u64),
    /// All up to the mark.
    Mark(Box<Finder<'static>>),
    /// Nothing.
    Complete,
}

impl Extent {
    /// Reads the header line, without its line end; `None` if it is none.
    pub(super) fn from_header(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"$")?;
        if let Some(mark) = rest.strip_prefix(b"EOF:") {
            let finder = Finder::new(mark).into_owned();
            return (mark.len() == MARK_BYTES).then(|| Self::Mark(Box::new(finder)));
        }
        // `parse` alone would take a sign.
        if !rest.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let length = std::str::from_utf8(rest).ok()?.parse().ok()?;
        Some(Self::Length(length))
    }

    /// Takes what certainly belongs to the RDB off the input, without a copy. `None`: there is
    /// nothing to take before more bytes have come, or nothing at all any more.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Option<Bytes> {
        let part = match self {
            Self::Complete => return None,
            Self::Length(left) => {
                let part_bytes = usize::try_from(*left).map_or(input.len(), |n| n.min(input.len()));
                *left = left.saturating_sub(part_bytes as u64);
                if *left == 0 {
                    *self = Self::Complete;
                }
                input.split_to(part_bytes)
            }
            // A source sends nothing behind the mark until it was told to, so that a look at the last
            // bytes would do for those we know. To look at all of them costs little (SIMD) and is
            // also right when something follows.
            Self::Mark(finder) => match finder.find(input) {
                Some(at) => {
                    let part = input.split_to(at);
                    input.advance(MARK_BYTES);
                    *self = Self::Complete;
                    part
                }
                // The last bytes may be the begin of the mark; they are few, and go with the next part.
                None => input.split_to(input.len().saturating_sub(MARK_BYTES - 1)),
            },
        };
        (!part.is_empty()).then(|| part.freeze())
    }

    /// All of the RDB was taken.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &[u8] = b"18f1326f7c35c2e8322964f22877c8b091937ad8";

    /// Feeds the pieces and gives what came out as RDB, and what was left behind its end if that came.
    fn feed<'a>(
        header: &[u8],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut extent = Extent::from_header(header).expect("a header");
        let (mut input, mut rdb) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(part) = extent.take(&mut input) {
                assert!(!part.is_empty());
                rdb.extend_from_slice(&part);
            }
        }
        (rdb, extent.is_complete().then(|| input.to_vec()))
    }

    fn mark_header() -> Vec<u8> {
        [b"$EOF:", MARK].concat()
    }

    /// Every way to cut the stream once, and cut into pieces of every size.
    fn check(header: &[u8], stream: &[u8], rdb: &[u8], behind: &[u8]) {
        let expected = (rdb.to_vec(), Some(behind.to_vec()));
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            let got = feed(header, [head, tail].into_iter());
            assert_eq!(got, expected, "split at byte {at}");
        }
        for size in 1..=stream.len() {
            let got = feed(header, stream.chunks(size));
            assert_eq!(got, expected, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn the_mark_is_found_wherever_reads_are_cut() {
        let almost: Vec<u8> = (1..MARK.len()).flat_map(|n| &MARK[..n]).copied().collect();
        let ends: Vec<u8> = (1..MARK.len()).flat_map(|n| &MARK[n..]).copied().collect();
        let rdbs: [&[u8]; 8] = [
            b"",
            b"R",
            b"REDIS0011\xff01234567",
            &MARK[..39],
            &MARK[1..],
            &[&MARK[..39], &MARK[..39], b"\xff"].concat(),
            &almost,
            &ends,
        ];
        for rdb in rdbs {
            for behind in [&b""[..], b"\n", b"*1\r\n$4\r\nPING\r\n", MARK, &MARK[..20]] {
                check(&mark_header(), &[rdb, MARK, behind].concat(), rdb, behind);
            }
        }
    }

    #[test]
    fn a_length_is_kept_to_wherever_reads_are_cut() {
        let stream = b"REDIS0011 and so on*1\r\n";
        for length in 0..=stream.len() {
            let (rdb, behind) = stream.split_at(length);
            check(format!("${length}").as_bytes(), stream, rdb, behind);
        }
    }

    #[test]
    fn an_rdb_without_its_end_is_not_complete() {
        let stream = [b"REDIS0011", MARK].concat();
        for length in 0..stream.len() {
            let (rdb, behind) = feed(&mark_header(), [&stream[..length]].into_iter());
            assert_eq!(behind, None, "after {length} bytes");
            assert!(stream.starts_with(&rdb), "after {length} bytes");
        }
        let (rdb, behind) = feed(b"$18446744073709551615", [&stream[..]].into_iter());
        assert_eq!((rdb, behind), (stream, None));
    }

    #[test]
    fn what_is_no_header() {
        let short = [b"$EOF:", &MARK[1..]].concat();
        let long = [b"$EOF:", MARK, b"8"].concat();
        let bad: [&[u8]; 10] = [
            b"",
            b"$",
            b"$-1",
            b"$+1",
            b"$1 ",
            b"$18446744073709551616",
            b"+CONTINUE",
            b"$EOF:",
            &short,
            &long,
        ];
        for line in bad {
            assert!(
                Extent::from_header(line).is_none(),
                "{}",
                line.escape_ascii()
            );
        }
    }
}
