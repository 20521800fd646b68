//! Which processes the servers of both ends are. What was found out about one says nothing about the next: it may have
//! lost what the first one had.

use crate::compare::values::Side;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use std::time::Duration;

/// The run ids of the primaries of either end, sorted; none of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Processes([Vec<String>; 2]);

impl Processes {
    /// As they are now. Where primaries have moved meanwhile, they are looked for.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn now(
        ends: [&Side; 2],
        retry_for: Duration,
        ledger: &Ledger,
    ) -> Result<Self, GaveUp> {
        let mut processes = Self::default();
        for (end, ids) in ends.into_iter().zip(&mut processes.0) {
            if let Side::Servers { site, .. } = end {
                site.refresh(retry_for, ledger).await?;
                let found = site.processes(retry_for, ledger).await?;
                *ids = found.into_iter().map(|(_, run_id)| run_id).collect();
                ids.sort();
            }
        }
        Ok(processes)
    }

    /// Whether those of the source are among these.
    pub(super) fn source_is_of(&self, before: &Self) -> bool {
        let ([now, _], [before, _]) = (&self.0, &before.0);
        now.iter().all(|id| before.contains(id))
    }

    /// Whether all of them are among these. A node that left gave its keys away before.
    pub(super) fn are_of(&self, before: &Self) -> bool {
        let ends = self.0.iter().zip(&before.0);
        ends.into_iter()
            .all(|(now, before)| now.iter().all(|id| before.contains(id)))
    }

    /// As a text, for the journal.
    pub(super) fn text(&self) -> String {
        let [source, target] = &self.0;
        format!("{}/{}", source.join(" "), target.join(" "))
    }

    /// `None`: it is none.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let (source, target) = text.split_once('/')?;
        let ids = |text: &str| text.split(' ').map(str::to_owned).collect();
        Some(Self([ids(source), ids(target)]))
    }
}
