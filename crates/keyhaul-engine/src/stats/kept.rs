//! What a pass that is done leaves until what was made of it is out.

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;

/// From here the same pass would be at its end at once.
#[derive(Debug)]
pub struct Kept {
    pub(super) checkpoint: Arc<Checkpoint>,
    /// What was too much for the checkpoint; it may never have been made.
    pub(super) rows: PathBuf,
}

impl Kept {
    /// Nobody goes on from it any more. Returns why it could not be removed.
    pub(super) fn remove(&self) -> Option<String> {
        let _ = std::fs::remove_file(&self.rows);
        let removed = self.checkpoint.finish();
        removed.err().map(|e| keyhaul_client::chain(&e))
    }
}
