//! The position file of a shard, written by the tasks that follow it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::follow::position::{Position, PositionFile};
use crate::ledger::Ledger;
use crate::patience::GaveUp;

/// Where a shard is, and where that is written down, if anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Note(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    position: Position,
    file: Option<PositionFile>,
}

impl Note {
    pub(crate) fn new(file: Option<PositionFile>) -> Self {
        let nothing = Position {
            is_following: false,
            replid: String::new(),
            applied: 0,
            db: 0,
            sent: 0,
            applied_at_ms: 0,
        };
        let last = file.as_ref().and_then(|file| file.last().cloned());
        let position = last.unwrap_or(nothing);
        Self(Arc::new(Mutex::new(Inner { position, file })))
    }

    /// What was noted last.
    pub(crate) fn position(&self) -> Position {
        self.lock().position.clone()
    }

    /// What lies up to there is about to be handed to the target.
    ///
    /// # Errors
    /// [`GaveUp`] when it cannot be written; the job is halted.
    pub(crate) fn sent(&self, offset: u64, ledger: &Ledger) -> Result<(), GaveUp> {
        self.change(ledger, |position| position.sent = position.sent.max(offset))
    }

    /// Notes a change of where the shard is.
    ///
    /// # Errors
    /// [`GaveUp`] when it cannot be written; the job is halted.
    pub(crate) fn change(
        &self,
        ledger: &Ledger,
        change: impl FnOnce(&mut Position),
    ) -> Result<(), GaveUp> {
        let mut inner = self.lock();
        change(&mut inner.position);
        let position = inner.position.clone();
        let Some(file) = &mut inner.file else {
            return Ok(());
        };
        file.note(position).map_err(|e| {
            ledger.halt(format!(
                "cannot write where the job is to the state folder ({e}): free space there, or name another folder by --state-dir"
            ));
            GaveUp
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
