//! What a lane does about replies that are no success: sorts them, repeats what failed in order,
//! and looks at keys that are there already.

use keyhaul_client::{Action, Address, Asking, ClientError, KeyRead};
use keyhaul_rdb::same_value;

use crate::entry::{Entry, Held, Payload};
use crate::options::OnConflict;
use crate::progress::Progress;
use crate::target::lane::Lane;
use crate::target::restore;

/// The reason in the list for a big key that is there already: values of its size are not compared.
pub(crate) const CONFLICT_EXISTS: &str = "the target holds a key of this name";

/// The reason in the list for `--on-conflict fail`.
pub(super) const CONFLICT: &str =
    "the target holds a key of this name with another value or expiry";

impl Lane {
    /// Sorts an error reply to one entry.
    pub(super) fn refused(&mut self, entry: Entry, error: ClientError) {
        let ClientError::Server { error: answer, .. } = &error else {
            return self.failed.push((entry, error));
        };
        if answer.code() == b"BUSYKEY" {
            return match self.rules.on_conflict {
                OnConflict::Skip => Progress::add(&self.ledger.progress.keys_skipped, 1),
                // SCAN returned it twice.
                _ if self.has_written(&entry) => {}
                _ => self.conflicts.push(entry),
            };
        }
        if answer.action() != Action::GiveUp {
            return self.failed.push((entry, error));
        }
        if let Payload::Whole(payload) = &entry.payload {
            self.rules.refusals.learn(payload, answer);
        }
        let reason = format!("the target refused it: {answer}");
        self.list(&entry, reason);
    }

    pub(super) fn fail_all(&mut self, entries: Vec<Entry>, error: ClientError) {
        let mut entries = entries.into_iter();
        let address = match &error {
            ClientError::Closed { address } | ClientError::Server { address, .. } => {
                address.clone()
            }
            _ => Address::Unix("the target".into()),
        };
        if let Some(first) = entries.next() {
            self.failed.push((first, error));
        }
        for entry in entries {
            self.failed.push((
                entry,
                ClientError::Closed {
                    address: address.clone(),
                },
            ));
        }
    }

    /// Repeats what failed until nothing is left or the job is halted.
    pub(super) async fn repair(&mut self) {
        if self.failed.is_empty() && self.conflicts.is_empty() {
            return;
        }
        while !self.in_flight.is_empty() {
            self.settle_oldest().await;
        }
        while !self.failed.is_empty() || !self.conflicts.is_empty() {
            for entry in std::mem::take(&mut self.conflicts) {
                self.settle_conflict(entry).await;
            }
            let failed = std::mem::take(&mut self.failed);
            let Some((_, first)) = failed.first() else {
                continue;
            };
            let target = self.rules.target.clone();
            for (_, error) in &failed {
                if let Action::Moved { slot, announced } = error.action() {
                    target.routing.moved(slot, &announced);
                }
            }
            if target
                .recover(first, &mut self.patience, &self.ledger)
                .await
                .is_err()
            {
                let reason = format!("not written: {}", keyhaul_client::chain(first));
                failed
                    .iter()
                    .for_each(|(entry, _)| self.list(entry, reason.clone()));
                continue;
            }
            self.repeat(failed).await;
            if self.failed.is_empty() {
                self.patience.success(&self.ledger);
            }
        }
        for held in std::mem::take(&mut self.kept) {
            Held::release(Some(held));
        }
    }

    /// Sends failed entries once more and takes in the replies.
    async fn repeat(&mut self, failed: Vec<(Entry, ClientError)>) {
        let mut ordinary = Vec::new();
        for (entry, error) in failed {
            match error.action() {
                Action::Ask { announced } => self.restore_asking(entry, &announced).await,
                _ => ordinary.push(entry),
            }
        }
        self.write(ordinary, None).await;
        while !self.in_flight.is_empty() {
            self.settle_oldest().await;
        }
    }

    /// Writes one key to the node that is about to take its slot over.
    async fn restore_asking(&mut self, entry: Entry, announced: &str) {
        let existing = self.existing();
        let address = self.rules.target.routing.named(announced);
        let Some(address) = address else {
            return self.write(vec![entry], None).await;
        };
        let result = async {
            let connection = self.connection(&address).await?;
            connection.raw().call(&[b"ASKING"]).await?;
            if let Payload::Gone = &entry.payload {
                restore::unlink(connection.raw().output(), &entry.target_key);
            }
            if let Payload::Whole(payload) = &entry.payload {
                let (key, at) = (&entry.target_key, entry.expire_at_ms);
                let usage = entry.usage;
                let tail = restore::Tail { existing, usage };
                restore::command(connection.raw().output(), key, at, payload, tail);
            }
            connection.raw().flush().await?;
            connection.raw().reply().await
        }
        .await;
        match result {
            Ok(_) if matches!(entry.payload, Payload::Gone) => {}
            Ok(_) => {
                self.remember(&entry);
                self.count(1, entry.payload_bytes());
            }
            Err(e @ ClientError::Server { .. }) => self.refused(entry, e),
            Err(e) => {
                self.links.give_up(&address);
                self.failed.push((entry, e));
            }
        }
    }

    /// A key that is there already, with `--on-conflict fail`: no conflict if it is the same. It
    /// may be our own write whose reply was lost, or SCAN returned the key twice.
    async fn settle_conflict(&mut self, entry: Entry) {
        let Payload::Whole(ours) = &entry.payload else {
            return;
        };
        let read = async {
            let address = self.rules.target.address_of_key(&entry.target_key)?;
            let connection = self.connection(&address).await?;
            connection.reads().select(entry.target_db).await?;
            let key = std::slice::from_ref(&entry.target_key);
            connection.reads().ask_keys(key, Asking::No).await?;
            let read = connection.reads().next_key(Asking::No).await?;
            Ok((address, read))
        }
        .await;
        match read {
            Ok((
                _,
                KeyRead::Whole {
                    payload,
                    expire_at_ms,
                },
            )) if same_value(&payload, ours) && expire_at_ms == entry.expire_at_ms => {
                Progress::add(&self.ledger.progress.keys_skipped, 1);
            }
            Ok((address, KeyRead::Large { .. })) => {
                self.links.give_up(&address); // the rest of it is of no interest
                self.list(&entry, CONFLICT.to_owned());
            }
            Ok((_, KeyRead::Whole { .. } | KeyRead::Unsettled)) => {
                self.list(&entry, CONFLICT.to_owned());
            }
            Ok((address, KeyRead::Refused(error))) if error.action() != Action::GiveUp => {
                self.failed
                    .push((entry, ClientError::Server { address, error }));
            }
            Ok((_, KeyRead::Refused(error))) => {
                self.list(
                    &entry,
                    format!("{CONFLICT} (it cannot be compared: {error})"),
                );
            }
            // Gone meanwhile: nothing is in the way any more.
            Ok((address, KeyRead::Gone)) => {
                self.failed.push((entry, ClientError::Closed { address }));
            }
            Err(e) => {
                self.links.give_up_all();
                self.failed.push((entry, e));
            }
        }
    }
}
