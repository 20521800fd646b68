//! The words for differences, and texts that are compared without being held whole.

use keyhaul_rdb::StreamId;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::stats::key_text;

/// Longest text that is shown whole, and what is shown of a longer one, bytes.
const SHOWN_MAX: usize = 60;
/// What is shown from the first difference of two long texts on, bytes.
const WINDOW_BYTES: usize = 24;

/// Collects lines, and counts those that are too many.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Vec<String>,
    most: usize,
    more: u64,
    /// There may be more that nobody looked for.
    is_cut: bool,
}

impl Lines {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            lines: Vec::new(),
            most,
            more: 0,
            is_cut: false,
        }
    }

    /// Adds a line, which is made only if there is room.
    pub(crate) fn push(&mut self, line: impl FnOnce() -> String) {
        match self.is_full() {
            true => self.more += 1,
            false => self.lines.push(line()),
        }
    }

    /// Adds those of another.
    pub(crate) fn append(&mut self, other: Self) {
        self.more += other.more;
        self.is_cut |= other.is_cut;
        for line in other.lines {
            self.push(|| line);
        }
    }

    /// Counts differences that are not told.
    pub(crate) fn add_more(&mut self, more: u64) {
        self.more += more;
    }

    /// Nobody looked further.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Lines that there is room for.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.lines.len())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.lines.len() >= self.most
    }

    pub(crate) fn finish(self) -> Vec<String> {
        let mut lines = self.lines;
        match (self.more, self.is_cut) {
            (0, false) => {}
            (0, true) => lines.push("... and maybe more".to_owned()),
            (more, false) => lines.push(format!("... and {more} more")),
            (more, true) => lines.push(format!("... and {more} more at least")),
        }
        lines
    }
}

/// A text: its beginning, and what tells the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    held: Vec<u8>,
    bytes: u64,
    digest: u128,
}

impl Text {
    /// Holds all of it.
    pub(crate) fn whole(text: &[u8]) -> Self {
        Self {
            held: text.to_vec(),
            bytes: text.len() as u64,
            digest: xxh3_128(text),
        }
    }

    /// Its beginning.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// All of it, if all of it is held.
    pub(crate) fn all(&self) -> Option<&[u8]> {
        (self.held.len() as u64 == self.bytes).then_some(&self.held)
    }

    /// As it is shown.
    pub(crate) fn shown(&self) -> String {
        shown_of(&self.held, self.bytes)
    }
}

/// Makes a [`Text`] while its parts arrive.
pub(crate) struct TextBuilder {
    held: Vec<u8>,
    held_max: usize,
    bytes: u64,
    digest: Xxh3,
}

impl TextBuilder {
    /// Holds at most so many bytes of it.
    pub(crate) fn new(held_max: usize) -> Self {
        Self {
            held: Vec::new(),
            held_max,
            bytes: 0,
            digest: Xxh3::new(),
        }
    }

    pub(crate) fn push(&mut self, part: &[u8]) {
        let room = self.held_max.saturating_sub(self.held.len());
        let taken = part.get(..room.min(part.len())).unwrap_or_default();
        self.held.extend_from_slice(taken);
        self.bytes += part.len() as u64;
        self.digest.update(part);
    }

    pub(crate) fn finish(self) -> Text {
        Text {
            held: self.held,
            bytes: self.bytes,
            digest: self.digest.digest128(),
        }
    }
}

/// A text, or its beginning and how long it is.
pub(crate) fn shown(text: &[u8]) -> String {
    shown_of(text, text.len() as u64)
}

fn shown_of(begin: &[u8], bytes: u64) -> String {
    if bytes <= SHOWN_MAX as u64 {
        return format!("\"{}\"", key_text(begin));
    }
    let begin = cut(begin, SHOWN_MAX);
    format!("\"{}...\" ({bytes} bytes)", key_text(begin))
}

/// The first bytes, so that no character is cut in two.
fn cut(text: &[u8], bytes: usize) -> &[u8] {
    let mut end = bytes.min(text.len());
    for _ in 0..3 {
        match text.get(end) {
            // Not the first byte of a character.
            Some(0x80..=0xbf) => end = end.saturating_sub(1),
            _ => break,
        }
    }
    text.get(..end).unwrap_or_default()
}

/// How two texts differ.
pub(crate) fn unlike(source: &Text, target: &Text) -> String {
    let is_short = source.bytes.max(target.bytes) <= SHOWN_MAX as u64;
    if is_short {
        return both(&source.shown(), &target.shown());
    }
    let lengths = match source.bytes == target.bytes {
        true => format!("{} bytes on both", source.bytes),
        false => format!(
            "{} bytes on the source, {} on the target",
            source.bytes, target.bytes
        ),
    };
    let (ours, theirs) = (source.held(), target.held());
    let at = first_difference(ours, theirs);
    let (window, other) = (window(ours, at), window(theirs, at));
    let held = ours.len().min(theirs.len());
    let is_known = at < held || source.all().is_some() && target.all().is_some();
    match is_known {
        true => format!(
            "{lengths}, differs from byte {at}: {}",
            both(&window, &other)
        ),
        false => format!("{lengths}, differs after the first {at}"),
    }
}

/// The index of the first byte that is not the same in both.
pub(crate) fn first_difference(source: &[u8], target: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let same: usize = source
        .chunks(BLOCK)
        .zip(target.chunks(BLOCK))
        .take_while(|(ours, theirs)| ours == theirs)
        .map(|(ours, _)| ours.len())
        .sum();
    let (ours, theirs) = (source.get(same..), target.get(same..));
    let pairs = ours.unwrap_or_default().iter();
    let pairs = pairs.zip(theirs.unwrap_or_default());
    same + pairs.take_while(|(ours, theirs)| ours == theirs).count()
}

/// A few bytes from this index on.
pub(crate) fn window(text: &[u8], at: usize) -> String {
    let from = text.get(at..).unwrap_or_default();
    match from.len() <= WINDOW_BYTES {
        true => format!("\"{}\"", key_text(from)),
        false => {
            let bytes = from.get(..WINDOW_BYTES).unwrap_or_default();
            format!("\"{}...\"", key_text(bytes))
        }
    }
}

/// The first difference of two strings, which is `at` in what is given of them.
pub(crate) fn at_byte(offset: u64, source: &[u8], target: &[u8], at: usize) -> String {
    let found = both(&window(source, at), &window(target, at));
    format!("byte {offset}: {found}")
}

/// `a on the source, b on the target`.
pub(crate) fn both(source: &str, target: &str) -> String {
    format!("{source} on the source, {target} on the target")
}

/// The same for two that count.
pub(crate) fn lengths(what: &str, source: u64, target: u64) -> String {
    format!("{what}: {}", both(&source.to_string(), &target.to_string()))
}

/// One of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

/// `member "x" only on the source`.
pub(crate) fn only(what: &str, name: &str, side: Side) -> String {
    match side {
        Side::Source => format!("{what} {name} only on the source"),
        Side::Target => format!("{what} {name} only on the target"),
    }
}

/// An item of a list.
pub(crate) fn item(index: u64, source: &Text, target: &Text) -> String {
    format!("index {index}: {}", unlike(source, target))
}

/// A score as a text that means the same number.
pub(crate) fn score_text(score: f64) -> String {
    let text = format!("{:?}", score + 0.0);
    match text.strip_suffix(".0") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Whether two scores are the same; -0 is 0, see [`keyhaul_rdb::Canonical`].
pub(crate) fn same_score(one: f64, other: f64) -> bool {
    (one + 0.0).to_bits() == (other + 0.0).to_bits()
}

/// A member whose scores differ.
pub(crate) fn scores(member: &Text, source: f64, target: f64) -> String {
    let scores = both(&score_text(source), &score_text(target));
    format!("member {}: score {scores}", member.shown())
}

/// A field whose values differ.
pub(crate) fn field_value(field: &str, source: &Text, target: &Text) -> String {
    format!("field {field}: {}", unlike(source, target))
}

/// A field that expires at another time; absolute Unix ms.
pub(crate) fn field_expiry(field: &str, source: Option<u64>, target: Option<u64>) -> String {
    let shown = |at: Option<u64>| at.map_or("never".to_owned(), |at| at.to_string());
    let both = both(&shown(source), &shown(target));
    format!("field {field}: expires {both} (Unix ms)")
}

/// Two entries of a stream of the same id.
pub(crate) fn entries(
    id: StreamId,
    source: &[(Text, Text)],
    target: &[(Text, Text)],
) -> Option<String> {
    for ((name, value), (other_name, other_value)) in source.iter().zip(target) {
        if name != other_name {
            return Some(format!("entry {id}: field {}", unlike(name, other_name)));
        }
        if value != other_value {
            let name = name.shown();
            return Some(format!(
                "entry {id}: field {name}: {}",
                unlike(value, other_value)
            ));
        }
    }
    match source.len() == target.len() {
        true => None,
        false => Some(format!(
            "entry {id}: {} fields on the source, {} on the target",
            source.len(),
            target.len()
        )),
    }
}
