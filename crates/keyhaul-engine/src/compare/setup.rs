//! What a comparison is made with: both ends, ready to be looked at, and the rules.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::compare::comparer::{Comparer, Tell};
use crate::compare::file_index::{FileIndex, IndexRules};
use crate::compare::job::CompareJob;
use crate::compare::options::Depth;
use crate::compare::payload_digest::DigestRules;
use crate::compare::values::Side;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::CheckedFile;
use crate::prepare::ComparedEnd;
use crate::source::records::now_ms;
use crate::throttle::Throttle;

impl CompareJob {
    /// Of all keys, or of those that were repaired.
    ///
    /// # Errors
    /// [`GaveUp`] when a file cannot be read.
    pub(super) async fn comparer(
        &self,
        tell: Tell,
        is_repaired: bool,
        ledger: &Arc<Ledger>,
    ) -> Result<Comparer, GaveUp> {
        let prepared = &self.prepared;
        let options = &prepared.options;
        let rules = DigestRules {
            seed: RandomState::new().hash_one(0),
            detail: prepared.detail,
        };
        let source = side(&prepared.source, rules, options.depth, ledger).await?;
        let target = side(&prepared.target, rules, options.depth, ledger).await?;
        let expects_other_bytes = match (&source, &target) {
            (
                Side::Servers { rdb_version, .. },
                Side::Servers {
                    rdb_version: other, ..
                },
            ) => rdb_version != other,
            _ => true,
        };
        Ok(Comparer {
            source,
            target,
            filter: self.filter.clone(),
            dbs: prepared.chosen_dbs.clone(),
            db_map: options.copy.db_map.clone(),
            renames: options.copy.renames.clone(),
            depth: options.depth,
            rules,
            expects_other_bytes,
            tolerance_ms: prepared.tolerance_ms,
            rechecks: options.rechecks.max(1),
            shows_diffs: options.shows_diffs,
            tells_same: options.tells_same,
            keeps_differing: options.repair.is_some() && !is_repaired,
            any_value: false,
            retry_for: options.copy.retry_for,
            throttle: Arc::new(Throttle::new(options.copy.rate_limit, ledger.stop.clone())),
            ledger: ledger.clone(),
            tell,
            notes: self.notes.clone().filter(|_| !is_repaired),
            results: Default::default(),
        })
    }
}

/// An end, ready to be looked at.
///
/// # Errors
/// [`GaveUp`] when a file cannot be read.
async fn side(
    end: &ComparedEnd,
    rules: DigestRules,
    depth: Depth,
    ledger: &Arc<Ledger>,
) -> Result<Side, GaveUp> {
    Ok(match end {
        ComparedEnd::Servers {
            site,
            rdb_version,
            chunk_threshold,
        } => Side::Servers {
            site: site.clone(),
            rdb_version: *rdb_version,
            chunk_threshold: *chunk_threshold,
        },
        ComparedEnd::Files(files) => files_side(files, rules, depth, ledger).await?,
    })
}

/// Files, ready to be looked at.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn files_side(
    files: &[CheckedFile],
    rules: DigestRules,
    depth: Depth,
    ledger: &Arc<Ledger>,
) -> Result<Side, GaveUp> {
    let rules = IndexRules {
        seed: rules.seed,
        detail: rules.detail,
        with_values: depth == Depth::Full,
        now_ms: now_ms(),
    };
    Ok(Side::Files(Arc::new(
        FileIndex::build(files, rules, ledger).await?,
    )))
}
