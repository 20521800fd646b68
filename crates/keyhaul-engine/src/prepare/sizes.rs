//! What becomes of keys by size, and whether sizes have to be asked for at all.

use keyhaul_client::ServerFacts;

use crate::options::{CopyOptions, Scope};
use crate::plan::PlanError;
use crate::prepare::{Probed, ReadBy, rights};

/// A key of this many times the longest argument cannot come as one payload; its DUMP would stop the source
/// for seconds for nothing. Memory is a few times the payload for small elements.
const MEMORY_PER_PAYLOAD_MAX: u64 = 4;

/// Limits on MEMORY USAGE, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SizeRules {
    /// Keys up to here are not what the job is about.
    pub above: Option<u64>,
    /// Keys above are left out and listed.
    pub mem_limit: Option<u64>,
    /// Keys above go over in chunks.
    pub chunk_threshold: u64,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeVerdict {
    /// It goes over as one payload.
    Whole,
    /// The job is not about it.
    Ignore,
    /// It is worked on by itself.
    Big,
    /// It is listed.
    Refuse,
}

impl SizeRules {
    /// What becomes of a key of this size.
    pub(crate) fn judge(&self, memory_bytes: u64) -> SizeVerdict {
        if self.above.is_some_and(|above| memory_bytes <= above) {
            return SizeVerdict::Ignore;
        }
        if self.mem_limit.is_some_and(|limit| memory_bytes > limit) {
            return SizeVerdict::Refuse;
        }
        // A job about big keys works on each of them by itself.
        match self.above.is_some() || memory_bytes > self.chunk_threshold {
            true => SizeVerdict::Big,
            false => SizeVerdict::Whole,
        }
    }

    /// The size above which keys are listed.
    pub(crate) fn limit(&self) -> u64 {
        self.mem_limit.unwrap_or(self.chunk_threshold)
    }
}

/// The rules that SCAN's keys are held against, or `None` where every node's whole memory is below all
/// limits. `chunk_max`: the longest payload that the target takes; `None`: it is a file.
///
/// # Errors
/// [`PlanError`] where sizes cannot be had and the user's limits need them.
pub(super) async fn rules(
    source: &mut Probed,
    options: &CopyOptions,
    bulk_len_max: u64,
    chunks: Chunks,
    read_by: &ReadBy,
) -> Result<Option<SizeRules>, PlanError> {
    if *read_by == ReadBy::Psync {
        return Ok(None); // lengths are known from the snapshot
    }
    let rules = SizeRules {
        above: match options.scope {
            Scope::Above(above) => Some(above),
            Scope::Every | Scope::Named(_) => None,
        },
        mem_limit: options.mem_limit,
        chunk_threshold: match chunks {
            Chunks::Possible => options.chunk_threshold.min(bulk_len_max),
            Chunks::Impossible => bulk_len_max.saturating_mul(MEMORY_PER_PAYLOAD_MAX),
        },
    };
    let lowest = rules
        .mem_limit
        .unwrap_or(u64::MAX)
        .min(rules.chunk_threshold);
    let fits = |facts: &ServerFacts| facts.used_memory.is_some_and(|used| used <= lowest);
    if rules.above.is_none() && source.plan.primaries.iter().all(|node| fits(&node.facts)) {
        return Ok(None);
    }
    let Err(error) = rights::memory_usage(source).await? else {
        return Ok(Some(rules));
    };
    if options.mem_limit.is_some() || rules.above.is_some() {
        return Err(PlanError::Refused(format!(
            "--mem-limit needs MEMORY USAGE on the source, which answers: {error}; grant +memory|usage"
        )));
    }
    for node in &mut source.plan.primaries {
        node.facts.lacks(
            "MEMORY USAGE",
            &error,
            "keys too large to pass in one piece are found only when read, for which the source stands still",
        );
    }
    Ok(None)
}

/// Whether values can go over in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Into a server.
    Possible,
    /// Into a file, which takes values whole.
    Impossible,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_size() {
        let rules = |above, mem_limit| SizeRules {
            above,
            mem_limit,
            chunk_threshold: 100,
        };
        let rows = [
            (rules(None, None), 100, SizeVerdict::Whole),
            (rules(None, None), 101, SizeVerdict::Big),
            (rules(None, Some(50)), 50, SizeVerdict::Whole),
            (rules(None, Some(50)), 51, SizeVerdict::Refuse),
            (rules(None, Some(500)), 101, SizeVerdict::Big),
            (rules(Some(10), None), 10, SizeVerdict::Ignore),
            (rules(Some(10), None), 11, SizeVerdict::Big),
        ];
        for (rules, size, expected) in rows {
            assert_eq!(rules.judge(size), expected, "{rules:?} {size}");
        }
    }
}
