//! Big values that lie in a file: taken apart there and built by element, as those of live servers are.
//!
//! ```text
//!   file ─► parts ─► cutter ─► chunks ─► builder ─► staging key ─► length, expiry, RENAME
//! ```
//!
//! - [`parts`] reads the value and tells its elements.
//! - [`cutter`] makes chunks of them, [`stream`] those of a stream.
//!
//! The value never changes and can be read again from its start at any time. So nothing has to be watched,
//! and where a link breaks in a way that leaves no other choice it is begun anew.

mod cutter;
mod parts;
mod stream;

use std::sync::Arc;

use keyhaul_client::{Backoff, KeyExpiry, ValueKind};
use keyhaul_rdb::{Element, Form, KeyType, StreamId};

use crate::bigkey::builder::{Builder, Place};
use crate::bigkey::{Abilities, Broken, ChunkLimits};
use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::progress::{BigKeyProgress, Progress};
use crate::site::Site;
use crate::source::stored::Stored;
use crate::throttle::Throttle;

pub(crate) use crate::bigkey::finish::Placed;
use cutter::{Cut, Cutter};
use parts::Parts;

/// How often a value is begun anew because what was built was lost.
const TRIES_MAX: u32 = 5;

/// How values of a job are built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredRules {
    pub job_id: u64,
    pub limits: ChunkLimits,
    pub abilities: Abilities,
    pub retry_for: std::time::Duration,
}

/// A value and where it goes.
pub(crate) struct StoredCopy<'a> {
    pub rules: StoredRules,
    pub target: Arc<Site>,
    pub ledger: Arc<Ledger>,
    pub throttle: &'a Throttle,
    pub progress: &'a BigKeyProgress,
    pub on_conflict: OnConflict,
    /// Longest argument that the target takes, bytes.
    pub bulk_len_max: u64,
    pub place: Place,
    pub expiry: KeyExpiry,
    pub stored: &'a Stored,
    pub form: Form,
}

/// The type whose elements a form holds; `None`: it has none that are known.
pub(crate) fn kind_of(form: Form) -> Option<ValueKind> {
    match form {
        Form::Module | Form::ModuleOld => None,
        form => ValueKind::of_type_name(KeyType::name(form.key_type()).as_bytes()),
    }
}

impl StoredCopy<'_> {
    /// Builds the value and puts it in its place. Nothing of it stays when that fails.
    ///
    /// # Errors
    /// [`Broken::Refused`] and [`Broken::Stopped`].
    pub(crate) async fn run(self) -> Result<Placed, Broken> {
        let Some(kind) = kind_of(self.form) else {
            return Err(Broken::Refused("its elements are not known".into()));
        };
        let elements = parts::elements_stated(self.stored, self.form).await;
        self.progress.describe(kind.type_name(), elements);
        let (site, ledger) = (self.target.clone(), self.ledger.clone());
        let retry_for = self.rules.retry_for;
        let mut builder = Builder::new(site, ledger, self.place.clone(), kind, retry_for);
        let placed = self.build(&mut builder, elements).await;
        if placed.is_err() {
            // What stays of a target that is gone expires.
            let _ = builder.remove().await;
        }
        placed
    }

    async fn build(&self, builder: &mut Builder, elements: u64) -> Result<Placed, Broken> {
        if builder.kind == ValueKind::String && elements > self.bulk_len_max {
            return Err(Broken::Refused(cutter::string_too_long(self.bulk_len_max)));
        }
        if self.on_conflict != OnConflict::Replace {
            let key = self.place.purpose.target_key.clone();
            if builder.call(&[b"EXISTS", &key]).await?.as_int() != Some(0) {
                return Ok(Placed::Conflict);
            }
        }
        let mut backoff = Backoff::default();
        for _ in 0..TRIES_MAX {
            match self.attempt(builder, elements).await {
                Err(Broken::Lost | Broken::Interrupted) => {}
                settled => return settled,
            }
            Progress::add(&self.ledger.progress.retries, 1);
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.ledger.stop.cancelled() => return Err(Broken::Stopped),
            }
        }
        Err(Broken::Refused(format!(
            "the target lost what was built of it {TRIES_MAX} times"
        )))
    }

    /// The ids that are pending in any group of a stream, in their order, each once.
    async fn pending_ids(&self) -> Result<Vec<StreamId>, Broken> {
        let mut parts = Parts::new(self.stored, self.form)?;
        let mut ids = Vec::new();
        while !parts.is_done() {
            parts.tell(&mut |element| {
                if let Element::Pending { id, .. } = element {
                    ids.push(id);
                }
            })?;
            self.pause()?;
            parts.fill().await?;
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn pause(&self) -> Result<(), Broken> {
        match self.ledger.stop.is_cancelled() {
            true => Err(Broken::Stopped),
            false => Ok(()),
        }
    }

    /// One try. `elements`: how many the value says it has.
    async fn attempt(&self, builder: &mut Builder, elements: u64) -> Result<Placed, Broken> {
        builder.begin().await?;
        let pending = match builder.kind {
            ValueKind::Stream => self.pending_ids().await?,
            _ => Vec::new(),
        };
        let mut parts = Parts::new(self.stored, self.form)?;
        let mut cutter = Cutter::new(self, builder.kind, pending);
        cutter.make_room(elements);
        let mut bytes = 0;
        while !parts.is_done() {
            parts.tell(&mut |element| cutter.take(element))?;
            if parts.is_done() {
                cutter.end();
            }
            cutter.refusal()?;
            while let Some(cut) = cutter.next_cut() {
                self.pause()?;
                match cut {
                    Cut::Drain => builder.drain().await?,
                    Cut::Chunk(chunk) => {
                        bytes += chunk.bytes() as u64;
                        self.throttle.pass(chunk.bytes() as u64).await;
                        builder.send(chunk).await?;
                    }
                }
                self.progress.set(builder.built.elements, bytes);
            }
            parts.fill().await?;
        }
        builder.drain().await?;
        cutter.check(builder).await?;
        let expected = cutter.expected();
        let may_be_empty = matches!(builder.kind, ValueKind::String | ValueKind::Stream);
        if expected.length == 0 && !may_be_empty {
            // All of its fields have expired.
            return Ok(Placed::Expired);
        }
        cutter.tell_expiries(builder);
        builder.place(self.expiry, expected, self.on_conflict).await
    }
}
