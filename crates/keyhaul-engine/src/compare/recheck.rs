//! Looks at keys that differ again. A difference counts only if neither side was written while both were looked
//! at, and for a while after: who writes to both in step writes the second one meanwhile.

use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Action, ClientError};

use crate::compare::inside;
use crate::compare::judge::Finding;
use crate::compare::over::batches;
use crate::compare::pair_reader::PairReader;
use crate::compare::values::{Seen, SideReader};
use crate::ledger::Ledger;
use crate::patience::GaveUp;

/// Waits before each look; the last one counts for all further ones, ms.
const WAITS_MS: [u64; 6] = [0, 100, 400, 1600, 5000, 10_000];
/// How long nothing must be written, ms; the same.
const HOLDS_MS: [u64; 4] = [20, 40, 80, 150];
/// Keys that are watched together: one that is written makes the others doubtful too.
const GROUPS: [usize; 5] = [256, 64, 16, 4, 1];
/// Differences that are told of one value.
pub(crate) const INSIDE_MAX: usize = 5;

fn of<T: Copy>(steps: &[T], round: u32) -> Option<T> {
    let index = usize::try_from(round).unwrap_or(usize::MAX);
    steps.get(index.min(steps.len() - 1)).copied()
}

/// The wait before a look, that for which nothing must be written, and how many keys go together.
pub(crate) fn step(round: u32) -> (Duration, Duration, usize) {
    let ms = |steps: &[u64]| Duration::from_millis(of(steps, round).unwrap_or(0));
    (
        ms(&WAITS_MS),
        ms(&HOLDS_MS),
        of(&GROUPS, round).unwrap_or(1),
    )
}

impl PairReader {
    /// Looks at these keys until it is known what they are, or nothing comes of it.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn recheck(&mut self, suspects: Vec<(u32, Bytes)>) -> Result<(), GaveUp> {
        let comparer = self.comparer.clone();
        let mut open = suspects;
        for round in 0..comparer.rechecks {
            if open.is_empty() {
                return Ok(());
            }
            let (wait, hold, together) = step(round);
            pause(wait, &comparer.ledger).await?;
            let mut left = Vec::new();
            for (db, keys) in batches(&open, together) {
                let findings = self.look_closely(db, &keys, hold).await?;
                for (key, (finding, is_certain)) in keys.into_iter().zip(findings) {
                    let is_settled = match &finding {
                        Finding::Same | Finding::OutOfScope => true,
                        Finding::Unsettled | Finding::OtherBytes => false,
                        Finding::Large => {
                            comparer.hand_over(db, key);
                            continue;
                        }
                        // A refusal is no other for being asked again.
                        Finding::Error(_) => is_certain || round + 1 == comparer.rechecks,
                        _ => is_certain,
                    };
                    if is_settled {
                        let inside = self.inside(db, &key, &finding).await?;
                        comparer.settle(db, &key, finding, inside);
                    } else {
                        left.push((db, key));
                    }
                }
            }
            open = left;
        }
        for (db, key) in open {
            comparer.settle(db, &key, Finding::Unsettled, Vec::new());
        }
        Ok(())
    }

    /// Findings, and whether each is certain: a second look found the same, and nothing was written meanwhile. Both
    /// are needed: WATCH does not tell what becomes of the groups of a stream, and a value may be another one in
    /// between.
    async fn look_closely(
        &mut self,
        db: u32,
        keys: &[Bytes],
        hold: Duration,
    ) -> Result<Vec<(Finding, bool)>, GaveUp> {
        let comparer = self.comparer.clone();
        let target_db = comparer.db_map.target_db(db);
        let target_keys = comparer.target_names(keys);
        let source = watch(&mut self.source, db, keys, &comparer.ledger).await?;
        let target = watch(&mut self.target, target_db, &target_keys, &comparer.ledger).await?;
        let findings = self.look(db, keys).await?;
        let is_open = |finding: &Finding| !matches!(finding, Finding::Same | Finding::OutOfScope);
        let mut again = findings.clone();
        if findings.iter().any(is_open) {
            pause(hold, &comparer.ledger).await?;
            again = self.look(db, keys).await?;
        }
        let mut is_untouched = true;
        for (side, watched) in [(&mut self.source, source), (&mut self.target, target)] {
            // Where it cannot be told, that both looks found the same must do.
            let told = are_untouched(side, watched, &comparer.ledger).await?;
            is_untouched &= told.unwrap_or(true);
        }
        let judged = findings.into_iter().zip(again).map(|(finding, again)| {
            let is_certain = is_untouched && finding == again;
            (finding, is_certain)
        });
        Ok(judged.collect())
    }

    /// What differs inside, where that is wanted.
    async fn inside(
        &mut self,
        db: u32,
        key: &Bytes,
        finding: &Finding,
    ) -> Result<Vec<String>, GaveUp> {
        if !self.comparer.shows_diffs || !matches!(finding, Finding::Value(..)) {
            return Ok(Vec::new());
        }
        let seen = self.read(db, std::slice::from_ref(key), true, true).await?;
        Ok(match seen.into_iter().next() {
            Some((Seen::Key(source), Seen::Key(target))) => {
                match (source.payload, target.payload) {
                    (Some(source), Some(target)) => {
                        inside::differences(&source, &target, INSIDE_MAX)
                    }
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        })
    }
}

/// Whether keys are watched.
pub(crate) enum Watched {
    Since(u64),
    /// Not permitted.
    Forbidden,
    /// Not this time.
    Failed,
}

/// Watches keys of one side.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn watch(
    side: &mut SideReader,
    db: u32,
    keys: &[Bytes],
    ledger: &Ledger,
) -> Result<Watched, GaveUp> {
    match side.watch(db, keys).await {
        Ok(links) => Ok(Watched::Since(links)),
        Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => {
            ledger.remark(format!(
                "writes during the comparison are told from differences by looking twice only, as WATCH is not permitted ({error})"
            ));
            Ok(Watched::Forbidden)
        }
        Err(e) => {
            side.recover(&e, ledger).await?;
            Ok(Watched::Failed)
        }
    }
}

/// Whether nothing was written since; `None`: that cannot be told.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn are_untouched(
    side: &mut SideReader,
    watched: Watched,
    ledger: &Ledger,
) -> Result<Option<bool>, GaveUp> {
    match watched {
        Watched::Forbidden => Ok(None),
        Watched::Failed => Ok(Some(false)),
        Watched::Since(links) => match side.are_untouched(links).await {
            Ok(are) => Ok(Some(are)),
            Err(e) => {
                side.recover(&e, ledger).await?;
                Ok(Some(false))
            }
        },
    }
}

/// Waits, unless the job is to stop.
///
/// # Errors
/// [`GaveUp`] then.
pub(crate) async fn pause(wait: Duration, ledger: &Ledger) -> Result<(), GaveUp> {
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        () = ledger.stop.cancelled() => Err(GaveUp),
    }
}
