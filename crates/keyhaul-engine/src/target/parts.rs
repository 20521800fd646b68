//! Values too large to be held: a payload passes through to the target while it arrives from the source, and
//! what lies in a file is built by element.
//!
//! RESTORE is one command: the target shows nothing of the key before the last byte. If the source
//! fails in the middle, the connection is dropped and the target forgets the half command.

use keyhaul_client::{Action, Address, ClientError, KeyExpiry};

use crate::bigkey::Broken;
use crate::bigkey::builder::Place;
use crate::bigkey::staging::Purpose;
use crate::bigkey::stored::{Placed, StoredCopy};
use crate::entry::{Elements, Entry, Part, Parts, Payload, Verdict};
use crate::options::OnConflict;
use crate::progress::Progress;
use crate::target::lane::Lane;
use crate::target::repair::{CONFLICT, CONFLICT_EXISTS};
use crate::target::restore;

/// How the transfer of one payload went.
enum Transfer {
    /// The target took it.
    Applied,
    /// The source gave up in the middle; nothing was written.
    Aborted,
}

impl Lane {
    /// Passes one key through and tells its reader what became of it. Nothing else is in flight.
    pub(super) async fn pass(&mut self, mut entry: Entry) {
        let nothing = Payload::Whole(bytes::Bytes::new());
        let Payload::Parts(mut parts) = std::mem::replace(&mut entry.payload, nothing) else {
            return;
        };
        let verdict = self.transfer_and_judge(&entry, &mut parts).await;
        // The reader may be gone with a halted job.
        let _ = parts.verdict.send(verdict);
    }

    /// Builds one value by element and tells its reader that it is settled. Nothing else is in flight.
    pub(super) async fn build(&mut self, mut entry: Entry) {
        let nothing = Payload::Whole(bytes::Bytes::new());
        let Payload::Elements(elements) = std::mem::replace(&mut entry.payload, nothing) else {
            return;
        };
        let built = self.build_from(&entry, &elements).await;
        match built {
            Ok(Placed::Done) => {
                self.remember(&entry);
                self.count(1, 0);
                Progress::add(&self.ledger.progress.keys_chunked, 1);
            }
            Ok(Placed::Conflict) => match self.rules.on_conflict {
                OnConflict::Skip => Progress::add(&self.ledger.progress.keys_skipped, 1),
                _ if self.has_written(&entry) => {}
                _ => self.list(&entry, CONFLICT_EXISTS.to_owned()),
            },
            Ok(Placed::Expired) => Progress::add(&self.ledger.progress.keys_gone, 1),
            Err(Broken::Refused(reason)) => self.list(&entry, reason),
            Err(_) => self.list(&entry, "the run stopped before it was whole".to_owned()),
        }
        // The reader may be gone with a halted job.
        let _ = elements.verdict.send(Verdict::Settled);
    }

    async fn build_from(&self, entry: &Entry, elements: &Elements) -> Result<Placed, Broken> {
        let (rules, ledger) = (&self.rules, &self.ledger);
        let name = entry.source_key();
        let progress = ledger.progress.begin_big_key(entry.source_db, name);
        let copy = StoredCopy {
            rules: rules.stored,
            target: rules.target.clone(),
            ledger: ledger.clone(),
            throttle: &elements.throttle,
            progress: &progress,
            on_conflict: rules.on_conflict,
            bulk_len_max: rules.bulk_len_max,
            place: Place {
                purpose: Purpose {
                    job: rules.stored.job_id,
                    source_db: entry.source_db,
                    source_key: name.clone(),
                    target_key: entry.target_key.clone(),
                },
                target_db: entry.target_db,
            },
            expiry: entry.expire_at_ms.map_or(KeyExpiry::Never, KeyExpiry::At),
            stored: &elements.stored,
            form: elements.form,
        };
        let built = copy.run().await;
        ledger.progress.end_big_key(&progress);
        built
    }

    async fn transfer_and_judge(&mut self, entry: &Entry, parts: &mut Parts) -> Verdict {
        if parts.payload_bytes > self.rules.bulk_len_max {
            parts.parts.close();
            self.list(entry, self.too_large(parts.payload_bytes));
            return Verdict::Settled;
        }
        let target = self.rules.target.clone();
        let error = match target.address_of_key(&entry.target_key) {
            Ok(address) => match self.transfer(&address, entry, parts).await {
                Ok(Transfer::Applied) => {
                    self.remember(entry);
                    self.count(1, parts.payload_bytes);
                    return Verdict::Settled;
                }
                Ok(Transfer::Aborted) => {
                    self.drop_connection(&address);
                    return Verdict::Again;
                }
                Err(e) => {
                    self.drop_connection(&address);
                    e
                }
            },
            Err(e) => e,
        };
        parts.parts.close();
        if let ClientError::Server { error: answer, .. } = &error {
            if answer.code() == b"BUSYKEY" {
                match self.rules.on_conflict {
                    OnConflict::Skip => Progress::add(&self.ledger.progress.keys_skipped, 1),
                    _ if self.has_written(entry) => {}
                    _ => self.list(entry, CONFLICT.to_owned()),
                }
                return Verdict::Settled;
            }
            if answer.action() == Action::GiveUp {
                self.list(entry, format!("the target refused it: {answer}"));
                return Verdict::Settled;
            }
        }
        match target
            .recover(&error, &mut self.patience, &self.ledger)
            .await
        {
            Ok(()) => Verdict::Again,
            Err(_) => {
                self.list(
                    entry,
                    format!("not written: {}", keyhaul_client::chain(&error)),
                );
                Verdict::Settled
            }
        }
    }

    async fn transfer(
        &mut self,
        address: &Address,
        entry: &Entry,
        parts: &mut Parts,
    ) -> Result<Transfer, ClientError> {
        let (existing, usage) = (self.existing(), entry.usage);
        let tail = restore::Tail { existing, usage };
        let connection = self.connection(address).await?;
        connection.reads().select(entry.target_db).await?;
        let raw = connection.raw();
        let (key, at) = (&entry.target_key, entry.expire_at_ms);
        restore::head(raw.output(), key, at, parts.payload_bytes, tail);
        loop {
            match parts.parts.recv().await {
                Some(Part::Bytes(part)) => raw.send(&part).await?,
                Some(Part::Commit) => break,
                None => return Ok(Transfer::Aborted),
            }
        }
        tail.encode(raw.output());
        raw.flush().await?;
        raw.reply().await?;
        self.patience.success(&self.ledger);
        Ok(Transfer::Applied)
    }
}
