//! The elements of a giant one after the other: distinct, without pattern, by seed.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// Makes the next element into its own buffer.
pub(super) struct Elements {
    rng: SmallRng,
    count: u64,
}

impl Elements {
    pub(super) fn new(seed: u64) -> Elements {
        Elements {
            rng: SmallRng::seed_from_u64(seed),
            count: 0,
        }
    }

    /// A number that comes once only, in no order: an odd factor permutes the 64-bit numbers.
    pub(super) fn distinct(&mut self) -> u64 {
        self.count += 1;
        self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Random bytes; also their number is random.
    pub(super) fn noise(&mut self, lengths: std::ops::RangeInclusive<usize>) -> Vec<u8> {
        let mut bytes = vec![0; self.rng.random_range(lengths)];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Random bytes of such a length that come once only.
    pub(super) fn distinct_noise(&mut self, lengths: std::ops::RangeInclusive<usize>) -> Vec<u8> {
        let mut bytes = self.noise(lengths);
        let number = self.distinct().to_le_bytes();
        if let Some(first) = bytes.first_chunk_mut() {
            *first = number;
        }
        bytes
    }

    /// A whole number, one with two decimals, or one with up to 17 digits.
    pub(super) fn score(&mut self) -> String {
        match self.count % 3 {
            0 => self
                .rng
                .random_range(-1_000_000_000..1_000_000_000_i64)
                .to_string(),
            1 => format!("{:.2}", self.rng.random_range(0.0..1e9_f64)),
            _ => self.rng.random_range(-1e6..1e6_f64).to_string(),
        }
    }

    /// One of `choices` numbers from 0.
    pub(super) fn choose(&mut self, choices: u64) -> u64 {
        self.rng.random_range(0..choices)
    }
}
