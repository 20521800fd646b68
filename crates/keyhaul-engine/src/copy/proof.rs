//! What is looked at after a copy.

use std::sync::{Arc, PoisonError};

use crate::compare::{self, QuickCheck};
use crate::copy::{Copied, Job};
use crate::ledger::Ledger;
use crate::options::Scope;
use crate::patience::GaveUp;
use crate::prepare::{SourceEnd, TargetEnd};
use crate::receipt::VerifyCounts;
use crate::site::Site;
use crate::source::sieve::Sieve;

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
        match &self.prepared.source {
            SourceEnd::Servers { site, .. } => {
                let check = Arc::new(self.check(Some(site.clone()), target, ledger));
                if self.prepared.options.scope != Scope::Every {
                    let keys = self.worked_on.lock();
                    let keys = std::mem::take(&mut *keys.unwrap_or_else(PoisonError::into_inner));
                    return compare::verify_keys(check, keys).await;
                }
                // Nothing is left out but by the filters: a key that was not moved shows as missing.
                let sieve = Sieve {
                    filter: self.filter.clone(),
                    sizes: None,
                    collisions: None,
                    ledger: ledger.clone(),
                };
                compare::verify(check, self.pass(site, ledger, sieve)).await
            }
            SourceEnd::Files(files) => {
                let check = Arc::new(self.check(None, target, ledger));
                compare::verify_files(check, files, self.prepared.chosen_dbs.as_deref()).await
            }
        }
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
