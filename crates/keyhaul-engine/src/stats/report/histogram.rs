//! How numbers are spread: counts in rows for people, and in fine buckets for percentiles. Fixed memory.
//!
//! Fine buckets: a number below 32 has one of its own; above, each power of two is split into 16. A percentile
//! is told as the largest number of its bucket, but never more than the largest that was seen, and so is too large
//! by less than 1/16 and never too small. Rows are counted apart, and exact.

use serde::{Deserialize, Serialize};

use super::sum::Sum;

/// Numbers below this have a bucket of their own.
const EXACT: u64 = 32;
/// Buckets for each power of two above: the relative error of a percentile is less than one by this.
const PER_OCTAVE: u64 = 16;

/// What is counted, and so where the rows begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Scale {
    /// Bytes: powers of four from 64 B.
    Bytes,
    /// Elements: 1, 3, 10, 30, ...
    Count,
    /// Milliseconds: what people call a minute, an hour, a day.
    Time,
}

const BYTES_FROM: [u64; 20] = [
    0,
    1 << 6,
    1 << 8,
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
    1 << 32,
    1 << 34,
    1 << 36,
    1 << 38,
    1 << 40,
    1 << 42,
];

const COUNT_FROM: [u64; 20] = [
    0,
    1,
    3,
    10,
    30,
    100,
    300,
    1000,
    3000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
];

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const TIME_FROM: [u64; 12] = [
    0,
    1000,
    10_000,
    MINUTE_MS,
    10 * MINUTE_MS,
    HOUR_MS,
    6 * HOUR_MS,
    DAY_MS,
    7 * DAY_MS,
    30 * DAY_MS,
    90 * DAY_MS,
    365 * DAY_MS,
];

impl Scale {
    /// Where each row begins, ascending from 0.
    fn rows_from(self) -> &'static [u64] {
        match self {
            Self::Bytes => &BYTES_FROM,
            Self::Count => &COUNT_FROM,
            Self::Time => &TIME_FROM,
        }
    }
}

/// Numbers while they are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram {
    scale: Scale,
    keys: u64,
    /// Of the numbers.
    sum: u64,
    min: u64,
    max: u64,
    rows: Vec<Sum>,
    /// Keys a bucket; as long as the largest number needs, 976 at most.
    fine: Vec<u64>,
}

/// How numbers are spread.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// How many keys have such a number.
    pub keys: u64,
    /// All their numbers together.
    pub sum: u64,
    /// The smallest; 0 without keys, like the following.
    pub min: u64,
    /// Half of the keys have this number or a smaller one. This and the next three are too large by less than
    /// 1/16, and never too small.
    pub p50: u64,
    /// 90 of 100 keys.
    pub p90: u64,
    /// 99 of 100 keys.
    pub p99: u64,
    /// 999 of 1000 keys.
    pub p999: u64,
    /// The largest; exact.
    pub max: u64,
    /// From the first that holds a key to the last.
    pub rows: Vec<SpreadRow>,
}

/// The keys whose number is in a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadRow {
    /// The smallest number of the range.
    pub from: u64,
    /// The number behind it; `None`: it has no end.
    pub below: Option<u64>,
    /// The keys, and the bytes they take.
    #[serde(flatten)]
    pub sum: Sum,
}

impl Histogram {
    pub(super) fn new(scale: Scale) -> Self {
        Self {
            scale,
            keys: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
            rows: vec![Sum::default(); scale.rows_from().len()],
            fine: Vec::new(),
        }
    }

    /// Counts a key that takes `size_bytes`.
    pub(super) fn take(&mut self, number: u64, size_bytes: u64) {
        self.keys = self.keys.saturating_add(1);
        self.sum = self.sum.saturating_add(number);
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        let row = self
            .scale
            .rows_from()
            .partition_point(|from| *from <= number)
            - 1;
        if let Some(row) = self.rows.get_mut(row) {
            row.take(size_bytes);
        }
        let bucket = bucket_of(number);
        if self.fine.len() <= bucket {
            self.fine.resize(bucket + 1, 0);
        }
        self.fine[bucket] += 1;
    }

    /// Adds what another has counted on the same scale.
    pub(super) fn merge(&mut self, other: &Self) {
        assert_eq!(self.scale, other.scale, "one scale");
        self.keys = self.keys.saturating_add(other.keys);
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for (row, more) in self.rows.iter_mut().zip(&other.rows) {
            row.add(*more);
        }
        if self.fine.len() < other.fine.len() {
            self.fine.resize(other.fine.len(), 0);
        }
        for (count, more) in self.fine.iter_mut().zip(&other.fine) {
            *count += more;
        }
    }

    /// What was counted.
    pub(super) fn spread(&self) -> Spread {
        let from = self.scale.rows_from();
        let holds = |row: &Sum| row.keys > 0;
        let first = self.rows.iter().position(holds).unwrap_or(0);
        let end = self.rows.iter().rposition(holds).map_or(0, |last| last + 1);
        let rows = (first..end).zip(self.rows.iter().skip(first));
        Spread {
            keys: self.keys,
            sum: self.sum,
            min: if self.keys == 0 { 0 } else { self.min },
            p50: self.percentile(500),
            p90: self.percentile(900),
            p99: self.percentile(990),
            p999: self.percentile(999),
            max: self.max,
            rows: rows
                .map(|(row, sum)| SpreadRow {
                    from: from.get(row).copied().unwrap_or(0),
                    below: from.get(row + 1).copied(),
                    sum: *sum,
                })
                .collect(),
        }
    }

    /// A number that at least `per_mille` of the keys do not exceed.
    fn percentile(&self, per_mille: u64) -> u64 {
        let rank = (u128::from(self.keys) * u128::from(per_mille)).div_ceil(1000);
        let mut counted = 0_u128;
        for (bucket, keys) in self.fine.iter().enumerate() {
            counted += u128::from(*keys);
            if counted >= rank {
                return bucket_last(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(number: u64) -> usize {
    let bucket = if number < EXACT {
        number
    } else {
        // The first bit and the four behind it name the bucket.
        let shift = u64::from(number.ilog2()) - 4;
        EXACT + (shift - 1) * PER_OCTAVE + ((number >> shift) - PER_OCTAVE)
    };
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest number of a bucket.
fn bucket_last(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let shift = (bucket - EXACT) / PER_OCTAVE + 1;
    let first = (bucket - EXACT) % PER_OCTAVE + PER_OCTAVE;
    (first << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        let mut begin = 0_u64;
        for bucket in 0..976 {
            let last = bucket_last(bucket);
            assert_eq!(bucket_of(begin), bucket);
            assert_eq!(bucket_of(last), bucket);
            assert!(last - begin < begin.max(16) / 16 + 1, "{begin}..={last}");
            begin = last.wrapping_add(1);
        }
        assert_eq!(begin, 0, "the last bucket ends where 64 bits do");
    }

    #[test]
    fn percentiles_are_too_large_by_less_than_a_sixteenth() {
        let mut random = StdRng::seed_from_u64(1);
        for round in 0..50 {
            let mut numbers: Vec<u64> = (0..random.random_range(1..3000))
                .map(|_| random.random::<u64>() >> random.random_range(0..64))
                .collect();
            let mut histogram = Histogram::new(Scale::Bytes);
            numbers.iter().for_each(|n| histogram.take(*n, 1));
            numbers.sort_unstable();
            let spread = histogram.spread();
            for (per_mille, got) in [
                (500, spread.p50),
                (900, spread.p90),
                (990, spread.p99),
                (999, spread.p999),
            ] {
                let exact = numbers[(numbers.len() * per_mille).div_ceil(1000) - 1];
                let most = exact.saturating_add(exact / 16);
                assert!(
                    (exact..=most).contains(&got),
                    "round {round}: p{per_mille} is {exact}, told {got}"
                );
            }
            assert_eq!(spread.max, *numbers.last().unwrap());
            assert_eq!(spread.min, numbers[0]);
            let in_rows: u64 = spread.rows.iter().map(|row| row.sum.keys).sum();
            assert_eq!(in_rows, numbers.len() as u64);
            for row in &spread.rows {
                let of_range = |n: &&u64| **n >= row.from && row.below.is_none_or(|end| **n < end);
                let keys = numbers.iter().filter(of_range).count() as u64;
                assert_eq!((row.sum.keys, row.sum.bytes), (keys, keys), "{row:?}");
            }
        }
    }

    #[test]
    fn without_a_key() {
        for scale in [Scale::Bytes, Scale::Count, Scale::Time] {
            assert_eq!(Histogram::new(scale).spread(), Spread::default());
        }
    }
}
