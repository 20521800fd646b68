//! A large value that lies in a file, whole: sent from there, again if need be.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use keyhaul_rdb::{Crc64, FOOTER_BYTES, Flaw, Form, Reencoder, Refusal};
use tokio::sync::oneshot;

use crate::bigkey::stored::kind_of;
use crate::entry::{Elements, Payload, Usage, Verdict};
use crate::route::Outlet;
use crate::source::large::Passage;

/// Bytes that are read at a time.
const PART_BYTES: usize = 256 * 1024;
/// How often a value is sent again.
const TRIES_MAX: u32 = 20;

/// A value, as it lies in an RDB behind its key, in a range of a file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub file: File,
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// The key that the value belongs to.
#[derive(Debug, Clone)]
pub(crate) struct StoredKey {
    pub db: u32,
    pub key: Bytes,
    pub expire_at_ms: Option<i64>,
    pub usage: Usage,
    pub form: Form,
    pub version: u16,
}

/// A nameless temporary file that is being written. The first error is kept for the end.
#[derive(Debug)]
pub(crate) struct Spool {
    file: io::Result<File>,
    bytes: u64,
}

impl Spool {
    pub(crate) fn new() -> Self {
        Self {
            file: tempfile::tempfile(),
            bytes: 0,
        }
    }

    /// Appends bytes.
    pub(crate) async fn write(&mut self, part: Bytes) {
        let none = Err(io::Error::other("the file is in use"));
        let file = std::mem::replace(&mut self.file, none);
        self.bytes += part.len() as u64;
        let written = tokio::task::spawn_blocking(move || {
            let mut file = file?;
            file.write_all(&part)?;
            Ok(file)
        });
        self.file = written.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    }

    /// What was written.
    ///
    /// # Errors
    /// The reason why it could not be, readable.
    pub(crate) async fn finish(self) -> Result<Stored, String> {
        match self.file {
            Ok(file) => Ok(Stored {
                file,
                offset: 0,
                bytes: self.bytes,
            }),
            Err(e) => Err(no_room(&e)),
        }
    }
}

fn no_room(error: &io::Error) -> String {
    format!(
        "it is too large to be held and a temporary file for it cannot be written ({error}): free space in {} or name another folder by TMPDIR",
        std::env::temp_dir().display()
    )
}

impl Stored {
    /// Sends the value to the lane of its key: a large one to be taken apart, else encoded anew if the
    /// target needs that, and again as long as the lane asks for it. What cannot go is listed.
    pub(crate) async fn send(self, outlet: &Outlet, key: &StoredKey) -> Verdict {
        let reader = outlet.conversion.reader;
        let head = match self.read_at(0, 16).await {
            Ok(head) => head,
            Err(e) => return give_up(outlet, key, no_room(&e)),
        };
        let to = match reader.admit(key.form, key.version, &head) {
            Ok(to) => to,
            Err(refusal) => return give_up(outlet, key, refusal.to_string()),
        };
        if self.bytes > outlet.chunk_threshold() && kind_of(key.form).is_some() {
            return self.send_elements(outlet, key).await;
        }
        let stored = match to == key.form {
            true => self,
            false => match self.reencoded(outlet, key, to).await {
                Ok(stored) => stored,
                Err(reason) => return give_up(outlet, key, reason),
            },
        };
        for _ in 0..TRIES_MAX {
            match stored.send_once(outlet, key, to).await {
                Ok(Verdict::Settled) => return Verdict::Settled,
                Ok(Verdict::Again) if outlet.has_stopped() => break,
                Ok(Verdict::Again) => {}
                Err(e) => return give_up(outlet, key, no_room(&e)),
            }
        }
        give_up(
            outlet,
            key,
            "it could not be passed on, its transfer was cut again and again".into(),
        )
    }

    /// Hands the value to the lane of its key, which builds it element by element, and waits for that.
    async fn send_elements(self, outlet: &Outlet, key: &StoredKey) -> Verdict {
        let (verdict, answer) = oneshot::channel();
        let payload = Payload::Elements(Elements {
            stored: self,
            form: key.form,
            throttle: outlet.throttle().clone(),
            verdict,
        });
        let (name, at) = (key.key.clone(), key.expire_at_ms);
        // Nothing but RESTORE sets how much a key was used.
        let entry = outlet.entry(key.db, name, payload, at, Usage::default());
        outlet.send(vec![entry]).await;
        // A lane that is gone lists nothing any more, nor need it: the job failed.
        answer.await.unwrap_or(Verdict::Settled)
    }

    async fn send_once(&self, outlet: &Outlet, key: &StoredKey, form: Form) -> io::Result<Verdict> {
        let payload_bytes = self.bytes + 1 + FOOTER_BYTES as u64;
        let entry = |payload: Payload| {
            outlet.entry(
                key.db,
                key.key.clone(),
                payload,
                key.expire_at_ms,
                key.usage,
            )
        };
        let mut passage = Passage::open(outlet, entry, form, payload_bytes).await;
        let mut crc = Crc64::default();
        let type_byte = Bytes::copy_from_slice(&[form.type_byte()]);
        crc.update(&type_byte);
        let mut is_wanted = passage.part(type_byte).await;
        let mut sent = 0;
        while sent < self.bytes && is_wanted {
            let part = match self.read_at(sent, PART_BYTES).await {
                Ok(part) if part.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                part => part,
            };
            let part = match part {
                Ok(part) => part,
                Err(e) => {
                    passage.abort().await;
                    return Err(e);
                }
            };
            sent += part.len() as u64;
            crc.update(&part);
            is_wanted = passage.part(part).await;
        }
        let mut footer = outlet.conversion.reader.rdb_version.to_le_bytes().to_vec();
        crc.update(&footer);
        footer.extend_from_slice(&crc.value().to_le_bytes());
        passage.part(footer.into()).await;
        Ok(passage.commit().await)
    }

    /// Bytes from `at` on, up to so many.
    pub(crate) async fn read_at(&self, at: u64, bytes: usize) -> io::Result<Bytes> {
        let file = self.file.try_clone()?;
        let (offset, left) = (self.offset + at, self.bytes - at);
        let bytes = bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; bytes];
            file.read_exact_at(&mut part, offset)?;
            Ok(Bytes::from(part))
        });
        read.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    /// The value in another form, in a file of its own.
    async fn reencoded(self, outlet: &Outlet, key: &StoredKey, to: Form) -> Result<Self, String> {
        let reader = outlet.conversion.reader;
        let damaged =
            |flaw: Flaw| Refusal::from(keyhaul_rdb::ReencodeError::Flaw(flaw)).to_string();
        let mut reencoder = Reencoder::new(key.form, to, reader.field_expiry).map_err(damaged)?;
        let mut spool = Spool::new();
        let (mut at, mut input) = (0, Vec::new());
        while !reencoder.is_done() {
            let part = self
                .read_at(at, PART_BYTES)
                .await
                .map_err(|e| no_room(&e))?;
            let is_at_end = part.is_empty();
            at += part.len() as u64;
            input.extend_from_slice(&part);
            let mut out = Vec::new();
            let used = reencoder
                .push(&input, &mut out)
                .map_err(|e| Refusal::from(e).to_string())?;
            if used == 0 && is_at_end {
                return Err(damaged(Flaw::Truncated));
            }
            input.drain(..used);
            spool.write(out.into()).await;
        }
        spool.finish().await
    }
}

fn give_up(outlet: &Outlet, key: &StoredKey, reason: String) -> Verdict {
    outlet.list(key.db, &key.key, reason);
    Verdict::Settled
}
