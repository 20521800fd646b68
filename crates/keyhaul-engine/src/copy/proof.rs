//! What is looked at after a copy.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use keyhaul_client::ExpiryCommand;

use crate::compare::options::{Depth, RECHECKS};
use crate::compare::{self, Comparer, DigestRules, QuickCheck, Side};
use crate::copy::{Copied, Job};
use crate::ledger::Ledger;
use crate::options::{OnConflict, Scope, Verify};
use crate::patience::GaveUp;
use crate::prepare::{self, SourceEnd, TargetEnd};
use crate::receipt::VerifyCounts;
use crate::site::Site;
use crate::source::sieve::Sieve;
use crate::throttle::Throttle;

impl Job {
    /// Holds the target against the source; a file that was written is read back.
    pub(super) async fn verify(
        &self,
        copied: &Copied,
        ledger: &Arc<Ledger>,
    ) -> Result<VerifyCounts, GaveUp> {
        let target = match (&self.prepared.target, copied.file) {
            (TargetEnd::Servers { site, .. }, _) => site,
            (TargetEnd::File(path), Some(finished)) => {
                return compare::read_back(path, finished, ledger).await;
            }
            (TargetEnd::File(_), None) => return Err(GaveUp),
        };
        if self.prepared.options.verify == Verify::Full {
            return self.verify_values(target, ledger).await;
        }
        match &self.prepared.source {
            SourceEnd::Servers { site, .. } => {
                let check = Arc::new(self.check(Some(site.clone()), target, ledger));
                if self.prepared.options.scope != Scope::Every {
                    return compare::verify_keys(check, self.take_worked_on()).await;
                }
                // Nothing is left out but by the filters: a key that was not moved shows as missing.
                let sieve = Sieve::by_name(self.filter.clone(), ledger.clone());
                compare::verify(check, self.pass(site, ledger, sieve)).await
            }
            SourceEnd::Files(files) => {
                let check = Arc::new(self.check(None, target, ledger));
                compare::verify_files(check, files, self.prepared.chosen_dbs.as_deref()).await
            }
        }
    }

    /// The same with each byte of the values.
    async fn verify_values(
        &self,
        target: &Arc<Site>,
        ledger: &Arc<Ledger>,
    ) -> Result<VerifyCounts, GaveUp> {
        let prepared = &self.prepared;
        let target_version = prepare::source_version(&prepared.plan.target);
        let source_version = match &prepared.source {
            SourceEnd::Servers { .. } => prepared.source_version,
            // Files hold streams of the older form, too.
            SourceEnd::Files(_) => 0,
        };
        let rules = DigestRules {
            seed: RandomState::new().hash_one(0),
            detail: prepare::stream_detail(source_version.min(target_version)),
        };
        let from_files = matches!(prepared.source, SourceEnd::Files(_));
        // What is known of a file's values is not known of single elements.
        let chunk_threshold = Some(prepared.options.chunk_threshold).filter(|_| !from_files);
        let servers = |site: &Arc<Site>, rdb_version| Side::Servers {
            site: site.clone(),
            rdb_version,
            chunk_threshold,
        };
        let source = match &prepared.source {
            SourceEnd::Servers { site, .. } => servers(site, source_version),
            SourceEnd::Files(files) => {
                compare::files_side(files, rules, Depth::Full, ledger).await?
            }
        };
        let target = servers(target, target_version);
        let relative = |side: &Side| match side {
            Side::Servers { site, .. } => site.expiry == ExpiryCommand::Relative,
            Side::Files(_) => false,
        };
        let options = &prepared.options;
        let comparer = Arc::new(Comparer {
            tolerance_ms: match relative(&source) || relative(&target) {
                true => prepare::RELATIVE_TOLERANCE_MS,
                false => 0,
            },
            source,
            target,
            filter: self.filter.clone(),
            dbs: prepared.chosen_dbs.clone(),
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
            depth: Depth::Full,
            rules,
            expects_other_bytes: source_version != target_version,
            rechecks: RECHECKS,
            shows_diffs: false,
            tells_same: false,
            keeps_differing: false,
            any_value: options.on_conflict == OnConflict::Skip,
            retry_for: options.retry_for,
            throttle: Arc::new(Throttle::new(options.rate_limit, ledger.stop.clone())),
            ledger: ledger.clone(),
            tell: Arc::new(|_| {}),
            notes: None,
            results: Default::default(),
        });
        let dbs: Vec<u32> = prepared.plan.dbs.iter().map(|db| db.source_db).collect();
        match &prepared.source {
            SourceEnd::Files(files) => compare::forth_over_files(&comparer, files, &dbs).await?,
            SourceEnd::Servers { .. } if options.scope != Scope::Every => {
                compare::forth_over_named(&comparer, self.take_worked_on()).await?;
            }
            SourceEnd::Servers { site, .. } => {
                let sieve = Sieve::by_name(self.filter.clone(), ledger.clone());
                compare::forth_over(&comparer, self.pass(site, ledger, sieve)).await?;
            }
        }
        let found = comparer.take_results();
        let counts = found.counts;
        Ok(VerifyCounts {
            checked: counts.checked,
            same: counts.same,
            missing: counts.missing,
            type_differs: counts.type_differs,
            value_differs: counts.value_differs,
            expiry_differs: counts.expiry_differs,
            listed_as_not_moved: found.listed,
            errors: counts.errors + counts.unsettled,
            examples: found.examples,
        })
    }

    /// The keys of a job that is not about all of them.
    fn take_worked_on(&self) -> Vec<(u32, Bytes)> {
        let keys = self.worked_on.lock();
        std::mem::take(&mut *keys.unwrap_or_else(PoisonError::into_inner))
    }

    fn check(
        &self,
        source: Option<Arc<Site>>,
        target: &Arc<Site>,
        ledger: &Arc<Ledger>,
    ) -> QuickCheck {
        let options = &self.prepared.options;
        QuickCheck {
            source,
            target: target.clone(),
            filter: self.filter.clone(),
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
            on_conflict: options.on_conflict,
            retry_for: options.retry_for,
            ledger: ledger.clone(),
            results: Default::default(),
        }
    }
}
