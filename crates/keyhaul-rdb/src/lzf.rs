//! LZF, in which strings of more than 20 bytes may be compressed (all RDB versions): whole strings, and strings
//! that come in portions.
//!
//! ```text
//! 000nnnnn, bytes                         n + 1 bytes as they stand
//! nnnddddd dddddddd                       n + 2 bytes, n from 1 to 6, again from d + 1 bytes before
//! 111ddddd nnnnnnnn dddddddd              n + 9 bytes again from d + 1 bytes before
//! ```
//!
//! What is repeated may reach into what it makes.

use crate::error::Flaw;

/// How far back a reference reaches, bytes.
const WINDOW_BYTES: usize = 1 << 13;
/// The most that one compressed byte becomes: 264 bytes, repeated by an instruction of three.
const EXPANSION_MAX: u64 = 88;

/// Appends exactly `expected_bytes` to `out`, or less when it fails.
///
/// # Errors
///
/// `Flaw::Lzf`: the bytes end within an instruction, refer to what is before the start, or become more or
/// less than expected. Nothing is allocated for a length that so few bytes cannot become.
pub(crate) fn decompress(
    compressed: &[u8],
    expected_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    check_expansion(compressed.len() as u64, expected_bytes as u64)?;
    // Short copies are made by the chunk, and then cut.
    out.reserve(expected_bytes.saturating_add(CHUNK_BYTES));
    let mut text = Text {
        start: out.len(),
        window: &[],
        room: expected_bytes as u64,
        out,
    };
    let rest = text.run(compressed)?;
    match (rest.is_empty(), text.room) {
        (true, 0) => Ok(()),
        (true, _) => Err(TOO_SHORT),
        (false, _) => Err(CUT),
    }
}

/// Unpacks a string while its compressed bytes arrive; holds no more than the window that references reach
/// into.
#[derive(Debug)]
pub(crate) struct Lzf {
    compressed_left: u64,
    text_left: u64,
    is_plausible: Result<(), Flaw>,
    /// The start of an instruction of which not all has come.
    begun: Vec<u8>,
    /// The last bytes of the text, up to twice the window.
    window: Vec<u8>,
}

impl Lzf {
    /// For a string of so many compressed bytes, which becomes so many bytes.
    pub(crate) fn new(compressed_bytes: u64, expected_bytes: u64) -> Self {
        Self {
            compressed_left: compressed_bytes,
            text_left: expected_bytes,
            is_plausible: check_expansion(compressed_bytes, expected_bytes),
            begun: Vec::new(),
            window: Vec::new(),
        }
    }

    /// Takes the next bytes and appends what comes of them: at most 88 times as many, plus 264.
    ///
    /// # Errors
    ///
    /// `Flaw::Lzf` as `decompress`, and for more bytes than there should be. Afterwards it is of no use.
    pub(crate) fn push(&mut self, mut portion: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.is_plausible.clone()?;
        self.compressed_left = self
            .compressed_left
            .checked_sub(portion.len() as u64)
            .ok_or(Flaw::Lzf("there are bytes behind its end"))?;
        let start = out.len();
        let mut text = Text {
            start,
            window: &self.window,
            room: self.text_left,
            out,
        };
        if let Some(first) = self.begun.first() {
            let missing = instruction_bytes(*first).saturating_sub(self.begun.len());
            let Some((missing, rest)) = portion.split_at_checked(missing) else {
                self.begun.extend_from_slice(portion);
                return Ok(());
            };
            self.begun.extend_from_slice(missing);
            text.run(&self.begun)?;
            self.begun.clear();
            portion = rest;
        }
        let rest = text.run(portion)?;
        self.begun.extend_from_slice(rest);
        self.text_left = text.room;
        self.keep(out.get(start..).unwrap_or_default());
        Ok(())
    }

    /// Whether all bytes came, and became the string.
    ///
    /// # Errors
    ///
    /// `Flaw::Truncated` when bytes are missing, `Flaw::Lzf` when the string has another length.
    pub(crate) fn finish(&self) -> Result<(), Flaw> {
        self.is_plausible.clone()?;
        if self.compressed_left > 0 {
            return Err(Flaw::Truncated);
        }
        match (self.begun.is_empty(), self.text_left) {
            (true, 0) => Ok(()),
            (true, _) => Err(TOO_SHORT),
            (false, _) => Err(CUT),
        }
    }

    /// Keeps the end of the text for references to come.
    fn keep(&mut self, text: &[u8]) {
        let (_, text) = text.split_at(text.len().saturating_sub(WINDOW_BYTES));
        if self.window.len() + text.len() > 2 * WINDOW_BYTES {
            let surplus = (self.window.len() + text.len()).saturating_sub(WINDOW_BYTES);
            self.window.drain(..surplus.min(self.window.len()));
        }
        self.window.extend_from_slice(text);
    }
}

const CUT: Flaw = Flaw::Lzf("it ends within an instruction");
const TOO_SHORT: Flaw = Flaw::Lzf("it becomes less than it should");
const TOO_LONG: Flaw = Flaw::Lzf("it becomes more than it should");

fn check_expansion(compressed_bytes: u64, expected_bytes: u64) -> Result<(), Flaw> {
    match expected_bytes > compressed_bytes.saturating_mul(EXPANSION_MAX) {
        true => Err(Flaw::Lzf("so few bytes cannot become what they should")),
        false => Ok(()),
    }
}

/// How long the instruction is that begins so.
fn instruction_bytes(first: u8) -> usize {
    match first {
        0..=0x1f => usize::from(first) + 2,
        0x20..=0xdf => 2,
        0xe0.. => 3,
    }
}

/// Short copies are made by so many bytes at once, which is one or two machine instructions.
const CHUNK_BYTES: usize = 16;

/// Text that grows.
struct Text<'a> {
    /// Where it begins in `out`.
    start: usize,
    /// What was before it.
    window: &'a [u8],
    /// How much it may grow, bytes.
    room: u64,
    out: &'a mut Vec<u8>,
}

impl Text<'_> {
    /// Follows all instructions; gives back the start of one that is not all there.
    fn run<'b>(&mut self, mut input: &'b [u8]) -> Result<&'b [u8], Flaw> {
        loop {
            input = match *input {
                [count @ 0..=0x1f, ref rest @ ..] => {
                    let count = usize::from(count) + 1;
                    let Some((bytes, behind)) = rest.split_at_checked(count) else {
                        return Ok(input);
                    };
                    self.take(count)?;
                    match rest.first_chunk::<CHUNK_BYTES>() {
                        Some(chunk) if count <= CHUNK_BYTES => self.append_chunk(chunk, count),
                        _ => self.out.extend_from_slice(bytes),
                    }
                    behind
                }
                [first @ 0xe0..=0xff, count, low, ref rest @ ..] => {
                    self.repeat(distance(first, low), usize::from(count) + 9)?;
                    rest
                }
                [first @ 0x20..=0xdf, low, ref rest @ ..] => {
                    self.repeat(distance(first, low), usize::from(first >> 5) + 2)?;
                    rest
                }
                _ => return Ok(input),
            }
        }
    }

    /// Appends `count` bytes again that are `distance` before the end.
    fn repeat(&mut self, distance: usize, mut count: usize) -> Result<(), Flaw> {
        self.take(count)?;
        let grown = self.out.len() - self.start;
        if distance > grown {
            let before = distance - grown;
            let from = self.window.len().checked_sub(before);
            let from = from.ok_or(Flaw::Lzf("it refers to what is before its start"))?;
            let bytes = self.window.get(from..).unwrap_or_default();
            let bytes = bytes.get(..count).unwrap_or(bytes);
            self.out.extend_from_slice(bytes);
            count -= bytes.len();
            if count == 0 {
                return Ok(());
            }
        }
        let from = self.out.len() - distance;
        let chunk = self
            .out
            .get(from..)
            .and_then(|rest| rest.first_chunk::<CHUNK_BYTES>());
        match chunk {
            Some(chunk) if count <= CHUNK_BYTES => {
                let chunk = *chunk;
                self.append_chunk(&chunk, count);
            }
            _ => self.repeat_long(from, count),
        }
        Ok(())
    }

    /// What is repeated doubles with every turn, where it reaches into what it makes.
    fn repeat_long(&mut self, from: usize, mut count: usize) {
        while count > 0 {
            let bytes = count.min(self.out.len() - from);
            self.out.extend_from_within(from..from + bytes);
            count -= bytes;
        }
    }

    /// Appends the first `count` bytes; with a length that is known beforehand this is no call.
    fn append_chunk(&mut self, chunk: &[u8; CHUNK_BYTES], count: usize) {
        let bytes = self.out.len() + count;
        self.out.extend_from_slice(chunk);
        self.out.truncate(bytes);
    }

    fn take(&mut self, count: usize) -> Result<(), Flaw> {
        self.room = self.room.checked_sub(count as u64).ok_or(TOO_LONG)?;
        Ok(())
    }
}

/// How far back a reference reaches, bytes.
fn distance(first: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([first & 0x1f, low])) + 1
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
        digits
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    }

    /// DUMP of Redis 6.0.16 and 7.0.15 after SET, which compress alike.
    fn of_a_server() -> Vec<(Vec<u8>, Vec<u8>)> {
        [
            ("016161e01100016161", b"a".repeat(30)),
            ("02616261e04201016162", b"ab".repeat(40)),
            ("0361626361e02d02016263", b"abc".repeat(20)),
            (
                "103031323334353637383961626364656630e0640f016566",
                b"0123456789abcdef".repeat(8),
            ),
            ("016161e0ff00e0ff00e0ff00e0c300016161", b"a".repeat(1000)),
            (
                "0748656c6c6f2c2068e0020602212048e0020de0001b05776f726c642ee00b1be07530012e20",
                b"Hello, hello, hello! Hello, hello, hello, world. ".repeat(4),
            ),
        ]
        .map(|(compressed, text)| (hex(compressed), text))
        .to_vec()
    }

    fn whole(compressed: &[u8], expected_bytes: usize) -> Result<Vec<u8>, Flaw> {
        let mut out = b"before".to_vec();
        let result = decompress(compressed, expected_bytes, &mut out);
        assert!(out.len() - 6 <= expected_bytes, "{compressed:02x?}");
        assert_eq!(&out[..6], b"before");
        result.map(|()| out.split_off(6))
    }

    fn portions(portions: &[&[u8]], expected_bytes: usize) -> Result<Vec<u8>, Flaw> {
        let compressed_bytes: usize = portions.iter().map(|portion| portion.len()).sum();
        let mut lzf = Lzf::new(compressed_bytes as u64, expected_bytes as u64);
        let mut text = Vec::new();
        // As if what came before were gone.
        let mut out = Vec::new();
        for portion in portions {
            lzf.push(portion, &mut out)?;
            text.append(&mut out);
            assert!(text.len() <= expected_bytes);
            assert!(lzf.window.capacity() <= 4 * WINDOW_BYTES && lzf.begun.len() <= 32);
        }
        lzf.finish()?;
        Ok(text)
    }

    /// Compressed text of a few 10 KB with references of all lengths and distances, and the text as a
    /// plain loop unpacks it.
    fn made_up(random: &mut StdRng) -> (Vec<u8>, Vec<u8>) {
        let (mut compressed, mut text) = (Vec::new(), Vec::new());
        for _ in 0..random.random_range(1..400) {
            if text.is_empty() || random.random_range(0..3) == 0 {
                let count = random.random_range(1..=32_u8);
                let bytes: Vec<u8> = (0..count).map(|_| random.random()).collect();
                compressed.push(count - 1);
                compressed.extend_from_slice(&bytes);
                text.extend_from_slice(&bytes);
                continue;
            }
            let near = if random.random() { 40 } else { WINDOW_BYTES };
            let distance = random.random_range(1..=near.min(text.len()));
            let [high, low] = u16::try_from(distance - 1).unwrap().to_be_bytes();
            let count = if random.random() {
                let count = random.random_range(1..=6_u8);
                compressed.extend_from_slice(&[count << 5 | high, low]);
                usize::from(count) + 2
            } else {
                let count: u8 = random.random();
                compressed.extend_from_slice(&[0xe0 | high, count, low]);
                usize::from(count) + 9
            };
            for _ in 0..count {
                text.push(text[text.len() - distance]);
            }
        }
        (compressed, text)
    }

    #[test]
    fn strings_of_a_server() {
        for (compressed, text) in of_a_server() {
            assert_eq!(whole(&compressed, text.len()), Ok(text.clone()));
            for at in 0..=compressed.len() {
                let (one, other) = compressed.split_at(at);
                assert_eq!(
                    portions(&[one, other], text.len()),
                    Ok(text.clone()),
                    "at {at}"
                );
            }
            let bytes: Vec<_> = compressed.chunks(1).collect();
            assert_eq!(portions(&bytes, text.len()), Ok(text));
        }
        assert_eq!(whole(b"", 0), Ok(vec![]));
        assert_eq!(portions(&[], 0), Ok(vec![]));
    }

    #[test]
    fn every_distance_and_length() {
        let mut random = StdRng::seed_from_u64(11);
        for _ in 0..300 {
            let (compressed, text) = made_up(&mut random);
            assert_eq!(whole(&compressed, text.len()), Ok(text.clone()));
            for size in [1, 2, 3, 7, 33, 1000, random.random_range(1..5000)] {
                let chunks: Vec<_> = compressed.chunks(size).collect();
                assert_eq!(portions(&chunks, text.len()), Ok(text.clone()), "by {size}");
            }
        }
    }

    #[test]
    fn the_window_reaches_over_portions() {
        // So many bytes, of which no two places are alike, and then the first ones from just within reach.
        let text: Vec<u8> = (0..8192_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let mut compressed = Vec::new();
        for bytes in text.chunks(32) {
            compressed.push(31);
            compressed.extend_from_slice(bytes);
        }
        compressed.extend_from_slice(b"\xff\xff\xff");
        let expected = [&text[..], &text[..264]].concat();
        assert_eq!(whole(&compressed, expected.len()), Ok(expected.clone()));
        for size in [1, 100, 8192] {
            let chunks: Vec<_> = compressed.chunks(size).collect();
            assert_eq!(portions(&chunks, expected.len()), Ok(expected.clone()));
        }
    }

    #[test]
    fn what_is_refused() {
        for (compressed, expected_bytes, why) in [
            (&b"\x00a"[..], 0, TOO_LONG),
            (b"\x00a", 2, TOO_SHORT),
            (b"\x01a", 2, CUT),
            (b"\x00a\x20", 4, CUT),
            (b"\x00a\xe0\x00", 10, CUT),
            (b"\x00a\x20\x00", 3, TOO_LONG),
            (b"\x00a\x20\x00", 5, TOO_SHORT),
            (
                b"\x20\x00",
                3,
                Flaw::Lzf("it refers to what is before its start"),
            ),
            (
                b"\x00a\x20\x01",
                4,
                Flaw::Lzf("it refers to what is before its start"),
            ),
            (
                b"\x00a\xff\xff\xff",
                265,
                Flaw::Lzf("it refers to what is before its start"),
            ),
            (
                b"\x00a",
                177,
                Flaw::Lzf("so few bytes cannot become what they should"),
            ),
            (
                b"",
                1,
                Flaw::Lzf("so few bytes cannot become what they should"),
            ),
            (
                b"\x00a",
                usize::MAX,
                Flaw::Lzf("so few bytes cannot become what they should"),
            ),
        ] {
            assert_eq!(
                whole(compressed, expected_bytes),
                Err(why.clone()),
                "{compressed:02x?}"
            );
            assert_eq!(portions(&[compressed], expected_bytes), Err(why.clone()));
            let bytes: Vec<_> = compressed.chunks(1).collect();
            assert_eq!(portions(&bytes, expected_bytes), Err(why));
        }
    }

    #[test]
    fn lying_lengths() {
        for (compressed, text) in of_a_server() {
            for expected_bytes in (0..text.len() * 2).filter(|bytes| *bytes != text.len()) {
                assert!(whole(&compressed, expected_bytes).is_err());
                assert!(portions(&[&compressed], expected_bytes).is_err());
            }
            for n in 0..compressed.len() {
                assert!(whole(&compressed[..n], text.len()).is_err(), "cut to {n}");
                assert!(
                    portions(&[&compressed[..n]], text.len()).is_err(),
                    "cut to {n}"
                );
            }
            let (bytes, expected_bytes) = (compressed.len() as u64, text.len() as u64);
            let mut short = Lzf::new(bytes + 1, expected_bytes);
            assert_eq!(short.push(&compressed, &mut Vec::new()), Ok(()));
            assert_eq!(short.finish(), Err(Flaw::Truncated));
            let mut long = Lzf::new(bytes - 1, expected_bytes);
            let behind = Flaw::Lzf("there are bytes behind its end");
            assert_eq!(long.push(&compressed, &mut Vec::new()), Err(behind));
        }
        // What cannot be is refused before anything is reserved for it.
        let mut out = Vec::new();
        assert!(decompress(&[0; 1000], 1 << 40, &mut out).is_err());
        assert_eq!(out.capacity(), 0);
        assert!(Lzf::new(1000, 1 << 40).push(&[0; 1000], &mut out).is_err());
        assert!(Lzf::new(1000, 1 << 40).finish().is_err());
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn damaged_and_made_up() {
        let both = |bytes: &[u8], expected_bytes| {
            let text = whole(bytes, expected_bytes);
            let (one, other) = bytes.split_at(bytes.len() / 2);
            assert_eq!(
                portions(&[one, other], expected_bytes),
                text,
                "{bytes:02x?}"
            );
        };
        for (compressed, text) in of_a_server() {
            for at in 0..compressed.len() {
                let mut bytes = compressed.clone();
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    both(&bytes, text.len());
                }
            }
        }
        let mut random = StdRng::seed_from_u64(12);
        for _ in 0..50_000 {
            let count = random.random_range(0..60);
            let bytes: Vec<u8> = (0..count).map(|_| random.random()).collect();
            both(&bytes, random.random_range(0..2000));
        }
    }
}
