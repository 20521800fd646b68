//! The one lane of a job whose target is an RDB file: a thread that writes records one after the other.

use std::sync::{Arc, Mutex, PoisonError};

use keyhaul_rdb::{FOOTER_BYTES, RecordHead};
use tokio::sync::mpsc;

use crate::entry::{Batch, Entry, Part, Parts, Payload, Verdict};
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::target::file::{FileError, RdbFile};

/// The file that is being written; taken away when it is finished.
pub(crate) type SharedFile = Arc<Mutex<Option<RdbFile>>>;

/// Writes until all outlets are dropped. An error of the disk halts the job.
pub(crate) fn run(file: &SharedFile, mut inlet: mpsc::Receiver<Batch>, ledger: &Ledger) {
    while let Some(batch) = inlet.blocking_recv() {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = file.as_mut() else {
            return;
        };
        for entry in batch.entries {
            if let Err(e) = write(file, entry, ledger) {
                ledger.halt(keyhaul_client::chain(&e));
            }
        }
    }
}

fn write(file: &mut RdbFile, mut entry: Entry, ledger: &Ledger) -> Result<(), FileError> {
    let nothing = Payload::Whole(bytes::Bytes::new());
    let payload = std::mem::replace(&mut entry.payload, nothing);
    if ledger.has_halted() {
        // There will be no file, and that says it of all keys.
        if let Payload::Parts(parts) = payload {
            // Its reader may be gone.
            let _ = parts.verdict.send(Verdict::Settled);
        }
        return Ok(());
    }
    let bytes = match payload {
        Payload::Value { form, value, .. } => {
            file.record(entry.target_db, head(&entry, form), &value)?;
            value.len() as u64
        }
        Payload::Parts(parts) => return write_parts(file, &entry, parts, ledger),
        // Nothing of the kind comes here: values for a file have no footer and are not taken apart.
        Payload::Whole(_) | Payload::Elements(_) | Payload::Gone => return Ok(()),
    };
    count(ledger, bytes);
    Ok(())
}

fn head(entry: &Entry, form: keyhaul_rdb::Form) -> RecordHead<'_> {
    RecordHead {
        key: &entry.target_key,
        form,
        expire_at_ms: entry.expire_at_ms,
        idle_s: entry.usage.idle_s,
        freq: entry.usage.freq,
    }
}

fn count(ledger: &Ledger, bytes: u64) {
    Progress::add(&ledger.progress.keys_copied, 1);
    Progress::add(&ledger.progress.bytes_copied, bytes);
}

/// A payload in parts: its type byte and its footer have no place in the file.
fn write_parts(
    file: &mut RdbFile,
    entry: &Entry,
    mut parts: Parts,
    ledger: &Ledger,
) -> Result<(), FileError> {
    let value_bytes = parts.payload_bytes.saturating_sub(1 + FOOTER_BYTES as u64);
    file.begin(entry.target_db, head(entry, parts.form))?;
    let (mut to_skip, mut left) = (1, value_bytes);
    let is_whole = loop {
        match parts.parts.blocking_recv() {
            Some(Part::Bytes(part)) => {
                let skipped = to_skip.min(part.len());
                to_skip -= skipped;
                let rest = part.slice(skipped..);
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                file.part(&rest.slice(..taken))?;
                left -= taken as u64;
            }
            Some(Part::Commit) => break left == 0,
            None => break false,
        }
    };
    let verdict = match is_whole {
        true => {
            file.commit()?;
            count(ledger, value_bytes);
            Verdict::Settled
        }
        false => {
            file.abort()?;
            Verdict::Again
        }
    };
    // The reader may be gone with a halted job.
    let _ = parts.verdict.send(verdict);
    Ok(())
}
