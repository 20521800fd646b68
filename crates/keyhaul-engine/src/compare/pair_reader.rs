//! Reads the keys of both sides at the same time.

use std::sync::Arc;

use bytes::Bytes;

use crate::compare::comparer::Comparer;
use crate::compare::judge::Finding;
use crate::compare::values::{How, Seen, Side, SideReader};
use crate::patience::GaveUp;

/// Reads both sides; one for each task.
pub(crate) struct PairReader {
    pub comparer: Arc<Comparer>,
    pub source: SideReader,
    pub target: SideReader,
    /// The last batch held values in other bytes: digests of values are computed at once.
    expects_other_bytes: bool,
}

impl PairReader {
    pub(crate) fn new(comparer: Arc<Comparer>) -> Self {
        let reader = |side: &Side| {
            SideReader::new(side.clone(), comparer.retry_for, comparer.throttle.clone())
        };
        Self {
            source: reader(&comparer.source),
            target: reader(&comparer.target),
            expects_other_bytes: comparer.expects_other_bytes,
            comparer,
        }
    }

    /// One finding for each key of a db of the source.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn look(&mut self, db: u32, keys: &[Bytes]) -> Result<Vec<Finding>, GaveUp> {
        let seen = self.read(db, keys, self.expects_other_bytes, false).await?;
        let judged = seen.into_iter().map(|(s, t)| self.comparer.judge(&s, &t));
        let mut findings: Vec<Finding> = judged.collect();
        let open = |finding: &Finding| *finding == Finding::OtherBytes;
        let doubtful = findings
            .iter()
            .zip(keys)
            .filter(|(finding, _)| open(finding));
        let doubtful: Vec<Bytes> = doubtful.map(|(_, key)| key.clone()).collect();
        self.expects_other_bytes |= doubtful.len() > keys.len() / 8;
        if doubtful.is_empty() {
            return Ok(findings);
        }
        let seen = self.read(db, &doubtful, true, false).await?;
        let mut judged = seen.into_iter().map(|(s, t)| self.comparer.judge(&s, &t));
        for finding in findings.iter_mut().filter(|finding| open(finding)) {
            if let Some(closer) = judged.next() {
                *finding = closer;
            }
        }
        Ok(findings)
    }

    /// A large key that has no elements to be read.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn look_whole(&mut self, db: u32, key: &Bytes) -> Result<Finding, GaveUp> {
        let seen = self
            .read_as(db, std::slice::from_ref(key), true, false, true)
            .await?;
        let judged = seen.first().map(|(s, t)| self.comparer.judge(s, t));
        Ok(judged.unwrap_or(Finding::Unsettled))
    }

    /// Both sides of these keys, read at the same time.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn read(
        &mut self,
        db: u32,
        keys: &[Bytes],
        canonical: bool,
        keeps: bool,
    ) -> Result<Vec<(Seen, Seen)>, GaveUp> {
        self.read_as(db, keys, canonical, keeps, false).await
    }

    async fn read_as(
        &mut self,
        db: u32,
        keys: &[Bytes],
        canonical: bool,
        keeps: bool,
        whole: bool,
    ) -> Result<Vec<(Seen, Seen)>, GaveUp> {
        let comparer = &self.comparer;
        let how = How {
            depth: comparer.depth,
            rules: comparer.rules,
            canonical,
            keeps,
            whole,
            existence: false,
        };
        let target_db = comparer.db_map.target_db(db);
        let target_keys = comparer.target_names(keys);
        let (source, target) = tokio::join!(
            self.source.read(db, keys, how, &comparer.ledger),
            self.target
                .read(target_db, &target_keys, how, &comparer.ledger),
        );
        Ok(source?.into_iter().zip(target?).collect())
    }
}
