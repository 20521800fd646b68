//! What makes something of the keys that a pass finds.

use std::io;
use std::path::PathBuf;

use keyhaul_client::SlotSet;
use serde_json::Value;

use crate::stats::KeyFacts;

/// Takes keys in. A key comes once, unless SCAN returns it twice (a server that resizes its table meanwhile).
pub trait Collector: Send {
    /// Takes one key in.
    fn take(&mut self, facts: &KeyFacts<'_>);

    /// A page of keys was taken in: what waits to be handed on goes now. May block.
    ///
    /// # Errors
    /// Whatever makes it useless to go on, in words for the user.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether it can take back what it took in; if not, keys that are read again count twice.
    fn can_take_back(&self) -> bool {
        false
    }

    /// These keys are about to be read again: what was taken in of them is to be taken back, where that can be done.
    fn take_back(&mut self, _again: &ReadAgain) {}

    /// A file of its own for what is too much for [`Collector::state`]; what lies there is of an earlier run. Told
    /// before all else, where how far the job comes is written down.
    fn keep_in(&mut self, _path: PathBuf) {}

    /// All that a later run needs to go on from here; `None`: it has to begin anew.
    fn state(&mut self) -> Option<Value> {
        None
    }

    /// Takes over from an earlier run. `false`: what it left is of no use, and nothing was taken over.
    ///
    /// # Errors
    /// As [`Collector::settle`].
    fn go_on_from(&mut self, _state: &Value) -> io::Result<bool> {
        Ok(false)
    }
}

/// Keys that are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAgain {
    /// Those of this db; `None`: of all.
    pub db: Option<u32>,
    /// Those of these slots.
    pub slots: SlotSet,
}
