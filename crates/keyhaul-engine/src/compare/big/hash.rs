//! Digests of elements. An element is a letter, and lengths before texts, so that no two elements are the same
//! bytes.

use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

/// Takes bytes in.
pub(super) trait Feed {
    fn put(&mut self, bytes: &[u8]);

    fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.put(&number.to_le_bytes());
        }
    }

    /// What stands before a text.
    fn text_head(&mut self, letter: u8, bytes: u64) {
        self.put(&[letter]);
        self.numbers(&[bytes]);
    }

    fn text(&mut self, letter: u8, text: &[u8]) {
        self.text_head(letter, text.len() as u64);
        self.put(text);
    }
}

impl Feed for Xxh3 {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// One element of a value whose elements have no order. A short one is hashed at once, which is several times faster
/// than in parts.
pub(super) struct One {
    seed: u64,
    short: Vec<u8>,
    long: Option<Box<Xxh3>>,
}

/// Longest element that is hashed at once, bytes.
const SHORT_MAX: usize = 1024;

impl One {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            short: Vec::with_capacity(SHORT_MAX),
            long: None,
        }
    }

    /// The digest; the next element begins.
    pub(super) fn finish(&mut self) -> u128 {
        let digest = match self.long.take() {
            Some(long) => long.digest128(),
            None => xxh3_128_with_seed(&self.short, self.seed),
        };
        self.short.clear();
        digest
    }
}

impl Feed for One {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(long) = &mut self.long {
            return long.update(bytes);
        }
        if self.short.len() + bytes.len() <= SHORT_MAX {
            return self.short.extend_from_slice(bytes);
        }
        let mut long = Box::new(Xxh3::with_seed(self.seed));
        long.update(&self.short);
        long.update(bytes);
        self.long = Some(long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_elements_are_as_short_ones() {
        for bytes in [0, 5, 240, SHORT_MAX, SHORT_MAX + 1, 5000] {
            let text = vec![7; bytes];
            let mut one = One::new(42);
            text.chunks(100).for_each(|part| one.put(part));
            assert_eq!(one.finish(), xxh3_128_with_seed(&text, 42), "{bytes}");
            one.put(b"next");
            assert_eq!(one.finish(), xxh3_128_with_seed(b"next", 42));
        }
    }
}
