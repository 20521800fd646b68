//! Puts what was built in its place: content checked, expiry set, renamed in one step.
//!
//! All of it over one link, which watches the staging key from before the check to the last step. So what was
//! checked is what takes its place; and a transaction that a server still reads from a link that broke does
//! nothing any more once another one has moved the staging key. Whether a transaction whose reply was lost was
//! executed is told by a key that it leaves as a proof.

use std::collections::BTreeMap;

use bytes::BytesMut;
use keyhaul_client::{ClientError, KeyExpiry, ValueKind};
use keyhaul_resp::{Value, encode};
use xxhash_rust::xxh3::Xxh3;

use crate::bigkey::builder::Builder;
use crate::bigkey::{Broken, CHUNK_BYTES, staging};
use crate::options::OnConflict;

/// What became of a staging key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is the key now.
    Done,
    /// The key is there, and is not to be replaced.
    Conflict,
    /// Its time was over before it was in its place.
    Expired,
}

/// What there must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Elements.
    pub length: u64,
    /// So many of them were never seen: they had expired, and were counted all the same.
    pub unseen: u64,
    /// The digest of a string.
    pub digest: Option<u128>,
}

/// When fields expire: so many in each second.
#[derive(Debug, Default)]
pub(crate) struct Expiries(BTreeMap<i64, u64>);

impl Expiries {
    /// Seconds that are counted; further ones lie beyond the end of any copy.
    const SECONDS_MAX: usize = 200_000;

    /// Notes a field that expires at this time, Unix ms.
    pub(crate) fn add(&mut self, at_ms: i64) {
        *self.0.entry(at_ms / 1000).or_default() += 1;
        if self.0.len() > Self::SECONDS_MAX {
            self.0.pop_last();
        }
    }

    /// How many may have expired by now, Unix ms.
    pub(crate) fn due(&self, now_ms: i64) -> u64 {
        self.0.range(..=now_ms / 1000).map(|(_, count)| count).sum()
    }
}

/// How the last step ended.
enum Step {
    Placed(Placed),
    /// The staging key is not what it must be.
    Lost,
}

impl Builder {
    /// Puts the staging key in its place; all of it must be applied.
    ///
    /// # Errors
    /// [`Broken`]; [`Broken::Lost`] where it is not what it must be.
    pub(crate) async fn place(
        &mut self,
        expiry: KeyExpiry,
        expected: Expected,
        on_conflict: OnConflict,
    ) -> Result<Placed, Broken> {
        let placed = loop {
            match self.last_step(expiry, expected, on_conflict).await {
                Ok(Step::Placed(placed)) => break placed,
                Ok(Step::Lost) => return Err(Broken::Lost),
                Err(e) => self.judge(e).await?,
            }
            if self.was_placed().await? {
                break Placed::Done;
            }
        };
        // A dead link may have brought an older name back; and a conflict leaves this one. If that fails now, what
        // became of the key is known all the same, and what is left expires.
        if let Err(broken) = self.remove().await {
            tracing::info!("a staging key is left to expire: {broken:?}");
        }
        Ok(placed)
    }

    /// Whether the last step was done: it leaves a proof, and only a conflict leaves the staging key too.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn was_placed(&mut self) -> Result<bool, Broken> {
        let (proof, staging) = (self.place.purpose.proof(), self.staging());
        Ok(self.call(&[b"EXISTS", &proof]).await?.as_int() == Some(1)
            && self.call(&[b"EXISTS", &staging]).await?.as_int() == Some(0))
    }

    async fn last_step(
        &mut self,
        expiry: KeyExpiry,
        expected: Expected,
        on_conflict: OnConflict,
    ) -> Result<Step, ClientError> {
        let staging = self.staging();
        let kind = self.kind;
        let raw = self.link().await?.raw();
        raw.call(&[b"WATCH", &staging]).await?;
        let length = self.link().await?.reads().length(kind, &staging).await?;
        let mut missing_max = expected.unseen;
        if kind == ValueKind::Hash {
            let now_ms = self.target_now_ms().await?;
            missing_max += self.expiries.due(now_ms);
        }
        let missing = expected.length.saturating_sub(length);
        if length > expected.length || missing > missing_max {
            return Ok(Step::Lost);
        }
        if length == 0 && expected.length > 0 {
            // All of its fields have expired.
            return Ok(Step::Placed(Placed::Expired));
        }
        if let Some(digest) = expected.digest
            && self.had_broken_link()
            && self.string_digest(expected.length).await? != digest
        {
            return Ok(Step::Lost);
        }
        self.rename(expiry, on_conflict).await
    }

    /// The digest of the staging key, a string: its length does not tell what a target lost.
    async fn string_digest(&mut self, length: u64) -> Result<u128, ClientError> {
        let staging = self.staging();
        let page_bytes = CHUNK_BYTES as u64;
        let (mut digest, mut first) = (Xxh3::new(), 0);
        while first < length {
            let (begin, end) = (first.to_string(), (first + page_bytes - 1).to_string());
            let args: [&[u8]; 4] = [b"GETRANGE", &staging, begin.as_bytes(), end.as_bytes()];
            let page = self.link().await?.raw().call(&args).await?;
            digest.update(page.as_bytes().map_or(b"", |bytes| bytes));
            first += page_bytes;
        }
        Ok(digest.digest128())
    }

    async fn rename(
        &mut self,
        expiry: KeyExpiry,
        on_conflict: OnConflict,
    ) -> Result<Step, ClientError> {
        let (staging, proof) = (self.staging(), self.place.purpose.proof());
        let target_key = self.place.purpose.target_key.clone();
        let raw = self.link().await?.raw();
        let mut commands = BytesMut::new();
        let mut count = 0;
        let mut command = |args: &[&[u8]]| {
            encode::command(&mut commands, args);
            count += 1;
        };
        match expiry {
            // A time of 0 or before would be refused; it is over in any case.
            KeyExpiry::At(at) => {
                let at = at.max(1).to_string();
                command(&[b"PEXPIREAT", &staging, at.as_bytes()]);
            }
            KeyExpiry::Never | KeyExpiry::Gone => command(&[b"PERSIST", &staging]),
        }
        match on_conflict {
            OnConflict::Replace => {
                // RENAME would free the old value at once, and the server would stand still for a large one.
                command(&[b"UNLINK", &target_key]);
                command(&[b"SET", &proof, b"1", b"PX", staging::LIFE_MS]);
                command(&[b"RENAME", &staging, &target_key]);
            }
            OnConflict::Skip | OnConflict::Fail => {
                command(&[b"SET", &proof, b"1", b"PX", staging::LIFE_MS]);
                command(&[b"RENAMENX", &staging, &target_key]);
            }
        }
        encode::command(raw.output(), &[b"MULTI"]);
        raw.output().extend_from_slice(&commands);
        encode::command(raw.output(), &[b"EXEC"]);
        raw.flush().await?;
        let (mut refused, mut last) = (None, Value::Null);
        for _ in 0..count + 2 {
            match raw.value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                value => last = value,
            }
        }
        if let Some(text) = refused {
            return Err(raw.server_error(text));
        }
        let Some(results) = last.as_list() else {
            // Somebody touched it between the check and this.
            return Ok(Step::Lost);
        };
        let has_expired =
            matches!(expiry, KeyExpiry::At(_)) && results.first() == Some(&Value::Int(1));
        match results.last() {
            Some(Value::Int(0)) => Ok(Step::Placed(Placed::Conflict)),
            Some(Value::Int(_) | Value::Simple(_)) => Ok(Step::Placed(Placed::Done)),
            // A time that is over removes the key at once.
            Some(Value::Error(_)) if has_expired => Ok(Step::Placed(Placed::Expired)),
            Some(Value::Error(text)) => Err(raw.server_error(text.clone())),
            _ => Err(raw.unexpected("EXEC")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_may_have_expired() {
        let mut expiries = Expiries::default();
        for at_ms in [1_000, 1_999, 2_000, 90_000_000] {
            expiries.add(at_ms);
        }
        assert_eq!(expiries.due(999), 0);
        assert_eq!(expiries.due(1_000), 2);
        assert_eq!(expiries.due(5_000), 3);
        for second in 0..Expiries::SECONDS_MAX as i64 + 10 {
            expiries.add(second * 1000);
        }
        assert_eq!(expiries.0.len(), Expiries::SECONDS_MAX);
        assert_eq!(expiries.due(0), 1, "the first ones are kept");
    }
}
