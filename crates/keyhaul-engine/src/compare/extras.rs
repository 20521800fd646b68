//! Keys that only the target has: each of its keys is looked up on the source, under every name it can have
//! there.

use std::sync::Arc;

use bytes::Bytes;

use crate::compare::comparer::Comparer;
use crate::compare::options::Depth;
use crate::compare::over::batches;
use crate::compare::pair_reader::PairReader;
use crate::compare::recheck::{are_untouched, pause, step, watch};
use crate::compare::values::{How, Seen, SideReader};
use crate::patience::GaveUp;

impl PairReader {
    /// Of these keys of a db of the target, those that the source does not have.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn without_source(
        &mut self,
        target_db: u32,
        keys: &[Bytes],
    ) -> Result<Vec<Bytes>, GaveUp> {
        let comparer = self.comparer.clone();
        // The keys that are not found yet, and the names that each may still have.
        let mut open: Vec<(Bytes, Vec<(u32, Bytes)>)> = Vec::new();
        for key in keys {
            if let Some(names) = comparer.source_names(target_db, key) {
                open.push((key.clone(), names));
            }
        }
        let mut without = Vec::new();
        while !open.is_empty() {
            // One name of each at a time, db by db; nearly all are found by their first one.
            let mut asked: Vec<(u32, Bytes)> = Vec::new();
            for (key, names) in std::mem::take(&mut open) {
                match names.first().cloned() {
                    Some(name) => {
                        asked.push(name);
                        open.push((key, names));
                    }
                    None => without.push(key),
                }
            }
            let are_there = exist(&mut self.source, &asked, &comparer).await?;
            let mut there = are_there.into_iter();
            open.retain_mut(|(_, names)| {
                names.remove(0);
                !there.next().unwrap_or(false)
            });
        }
        Ok(without)
    }

    /// Looks at keys again that only the target seems to have, until it is known.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn recheck_extras(
        &mut self,
        suspects: Vec<(u32, Bytes)>,
    ) -> Result<(), GaveUp> {
        let comparer = self.comparer.clone();
        let mut open = suspects;
        for round in 0..comparer.rechecks {
            if open.is_empty() {
                return Ok(());
            }
            let (wait, hold, together) = step(round);
            pause(wait, &comparer.ledger).await?;
            let mut left = Vec::new();
            for (target_db, keys) in batches(&open, together) {
                let watched = watch(&mut self.target, target_db, &keys, &comparer.ledger);
                let watched = watched.await?;
                let without = self.without_source(target_db, &keys).await?;
                let there = self.are_in_scope(target_db, &without).await?;
                let extra: Vec<Bytes> = (without.into_iter().zip(there))
                    .filter(|(_, there)| *there)
                    .map(|(key, _)| key)
                    .collect();
                if !extra.is_empty() {
                    pause(hold, &comparer.ledger).await?;
                }
                let still = self.without_source(target_db, &extra).await?;
                let untouched = are_untouched(&mut self.target, watched, &comparer.ledger);
                // Where that cannot be told, having looked twice must do.
                let is_certain = untouched.await?.unwrap_or(true);
                for key in still {
                    match is_certain {
                        true => comparer.settle_extra(target_db, &key),
                        false => left.push((target_db, key)),
                    }
                }
            }
            open = left;
        }
        for (db, key) in open {
            comparer.settle_unsettled_extra(db, &key);
        }
        Ok(())
    }

    /// Whether these keys are on the target, and of a type that is compared.
    async fn are_in_scope(&mut self, target_db: u32, keys: &[Bytes]) -> Result<Vec<bool>, GaveUp> {
        let comparer = self.comparer.clone();
        let how = How {
            existence: false,
            ..quick(&comparer)
        };
        let seen = self
            .target
            .read(target_db, keys, how, &comparer.ledger)
            .await?;
        let is_in = |seen: &Seen| match seen {
            Seen::Missing => false,
            Seen::Key(key) => comparer.takes_type(key),
            Seen::Large | Seen::Busy | Seen::Refused(_) => true,
        };
        Ok(seen.iter().map(is_in).collect())
    }
}

/// Whether the source has these keys.
async fn exist(
    source: &mut SideReader,
    keys: &[(u32, Bytes)],
    comparer: &Arc<Comparer>,
) -> Result<Vec<bool>, GaveUp> {
    let mut are_there = Vec::with_capacity(keys.len());
    for (db, names) in batches(keys, usize::MAX) {
        let seen = source
            .read(db, &names, quick(comparer), &comparer.ledger)
            .await?;
        // A key that may not be looked at is told when the source is gone through.
        are_there.extend(seen.iter().map(|seen| !matches!(seen, Seen::Missing)));
    }
    Ok(are_there)
}

fn quick(comparer: &Comparer) -> How {
    How {
        depth: Depth::Quick,
        rules: comparer.rules,
        canonical: false,
        keeps: false,
        whole: false,
        existence: true,
    }
}
