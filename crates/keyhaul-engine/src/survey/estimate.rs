//! How much there is to move and how long that takes, and what that rests on.

use std::time::Duration;

use crate::amount::{bytes_text, count_text};
use crate::options::Verify;
use crate::plan::SideKind;
use crate::prepare::{Prepared, SourceEnd, data_bytes, takes_all};
use crate::survey::kinds::Kinds;

/// What a pair of nodes moves in a second: about half of what was measured between two local servers of
/// one core each (docs/guide/plan.md), as the machines of others are not known.
const KEYS_PER_SECOND: u64 = 100_000;
const BYTES_PER_SECOND: u64 = 100 * 1024 * 1024;
/// A verification asks for two short answers a key.
const LOOKS_PER_SECOND: u64 = 200_000;

const CUT: &str = "; the sample was cut short";

/// An estimate.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Keys that go over, if that can be told.
    pub keys: Option<u64>,
    /// Bytes of their payloads, if that can be told.
    pub bytes: Option<u64>,
    /// Copy and verification together.
    pub duration: Duration,
    /// What it rests on, a plain line.
    pub basis: String,
}

/// Where a number of bytes comes from.
enum BytesBasis {
    File,
    Report,
    Read,
    SampleOfMemory { percent: u64, read: u64 },
    SampleOfKeys { mean: u64, read: u64 },
    Memory,
}

/// An estimate of a job, or `None` where neither keys nor bytes can be told.
pub(super) fn estimate(prepared: &Prepared, kinds: Option<&Kinds>) -> Option<Estimate> {
    let plan = &prepared.plan;
    let known: Option<u64> = plan.dbs.iter().map(|db| db.keys).sum();
    let share = kinds.filter(|kinds| kinds.looked_at > 0);
    let keys = match share {
        Some(kinds) => known.map(|keys| scale(keys, kinds.taken, kinds.looked_at)),
        None => known.filter(|_| takes_all(prepared) || plan.dbs.is_empty()),
    };
    let bytes = bytes(prepared, kinds, keys);
    if keys.is_none() && bytes.is_none() {
        return None;
    }
    let pairs = pairs_of_nodes(prepared);
    let seconds = |amount: Option<u64>, rate: u64| amount.unwrap_or(0) as f64 / rate as f64;
    let byte_count = bytes.as_ref().map(|(bytes, _)| *bytes);
    let rate_limit = prepared.options.rate_limit.unwrap_or(u64::MAX);
    let copy = seconds(keys, KEYS_PER_SECOND * pairs)
        .max(seconds(byte_count, BYTES_PER_SECOND * pairs))
        .max(seconds(byte_count, rate_limit));
    let verification = match prepared.options.verify {
        Verify::None => 0.0,
        Verify::Quick => seconds(keys, LOOKS_PER_SECOND * pairs),
        Verify::Full => copy,
    };
    Some(Estimate {
        keys,
        bytes: byte_count,
        duration: seconds_long(copy + verification),
        basis: {
            let is_cut = kinds.is_some_and(|kinds| kinds.is_cut);
            let cut = if is_cut { CUT } else { "" };
            basis(prepared, bytes.map(|(_, basis)| basis), pairs) + cut
        },
    })
}

fn bytes(
    prepared: &Prepared,
    kinds: Option<&Kinds>,
    keys: Option<u64>,
) -> Option<(u64, BytesBasis)> {
    if let SourceEnd::Files(files) = &prepared.source {
        let bytes = files.iter().map(|file| file.bytes).sum();
        return takes_all(prepared).then_some((bytes, BytesBasis::File));
    }
    if let Some(bytes) = kinds.and_then(|kinds| kinds.payload_bytes) {
        return Some((bytes, BytesBasis::Report));
    }
    let has_read_all = |kinds: &&Kinds| kinds.is_all() && kinds.read.keys == kinds.taken;
    if let Some(kinds) = kinds.filter(has_read_all) {
        return Some((kinds.read.payload_bytes, BytesBasis::Read));
    }
    let memory = data_bytes(&prepared.plan).filter(|_| takes_all(prepared));
    let Some(read) = kinds.map(|kinds| kinds.read).filter(|read| read.keys > 0) else {
        return memory.map(|memory| (memory, BytesBasis::Memory));
    };
    if let Some(memory) = memory {
        let bytes = scale(memory, read.payload_bytes, read.memory_bytes.max(1));
        let percent = scale(100, read.payload_bytes, read.memory_bytes.max(1));
        let read = read.keys;
        return Some((bytes, BytesBasis::SampleOfMemory { percent, read }));
    }
    let mean = read.payload_bytes / read.keys;
    let bytes = scale(keys?, read.payload_bytes, read.keys);
    Some((
        bytes,
        BytesBasis::SampleOfKeys {
            mean,
            read: read.keys,
        },
    ))
}

/// So many seconds; more than a duration can hold is its longest.
pub(super) fn seconds_long(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// `amount * part / whole`
fn scale(amount: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Nodes work at the same time; the side with fewer decides.
fn pairs_of_nodes(prepared: &Prepared) -> u64 {
    let sides = [&prepared.plan.source, &prepared.plan.target];
    let nodes = sides.into_iter().filter_map(|side| match side.kind {
        SideKind::Servers(_) => Some(side.primaries.len() as u64),
        SideKind::Files(_) | SideKind::NewFile { .. } => None,
    });
    nodes.min().unwrap_or(1).max(1)
}

fn basis(prepared: &Prepared, bytes: Option<BytesBasis>, pairs: u64) -> String {
    let bytes = match bytes {
        Some(BytesBasis::File) => "the length of the file".to_owned(),
        Some(BytesBasis::Report) => "the report of --stats".to_owned(),
        Some(BytesBasis::Read) => "all values, which were read".to_owned(),
        Some(BytesBasis::SampleOfMemory { percent, read }) => format!(
            "the memory of the data, of which payloads take {percent} % in {} sampled keys",
            count_text(read)
        ),
        Some(BytesBasis::SampleOfKeys { mean, read }) => format!(
            "payloads of {} each in {} sampled keys",
            bytes_text(mean),
            count_text(read)
        ),
        Some(BytesBasis::Memory) => "the memory of the data, for no value was read".to_owned(),
        None => "no size that is known".to_owned(),
    };
    let limit = match prepared.options.rate_limit {
        Some(limit) => format!(", at most {}/s in all", bytes_text(limit)),
        None => String::new(),
    };
    let pairs = match pairs {
        1 => String::new(),
        pairs => format!(" for each of {pairs} pairs of nodes"),
    };
    format!(
        "{bytes}; {} keys/s and {}/s{pairs} assumed{limit}",
        count_text(KEYS_PER_SECOND),
        bytes_text(BYTES_PER_SECOND)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_overflow() {
        for (seconds, expected) in [
            (0.5, Duration::from_millis(500)),
            (2.0 * u64::MAX as f64, Duration::MAX),
            (f64::INFINITY, Duration::MAX),
        ] {
            assert_eq!(seconds_long(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn shares_do_not_overflow() {
        for (amount, part, whole, expected) in [
            (1000, 1, 4, 250),
            (u64::MAX, 1, 1, u64::MAX),
            (u64::MAX, 3, 1, u64::MAX),
            (7, 0, 0, 0),
        ] {
            assert_eq!(
                scale(amount, part, whole),
                expected,
                "{amount} {part} {whole}"
            );
        }
    }
}
