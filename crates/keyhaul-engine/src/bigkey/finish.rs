//! Puts what was built in its place: length checked, expiry set, renamed in one step.

use keyhaul_client::{ClientError, KeyExpiry};
use keyhaul_resp::{Value, encode};

use crate::bigkey::Broken;
use crate::bigkey::builder::Builder;
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

/// How many elements there must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub length: u64,
    /// So many may be missing: they expire one by one.
    pub expiring: u64,
}

impl Builder {
    /// Puts the staging key in its place; all of it must be applied.
    ///
    /// # Errors
    /// [`Broken`]; [`Broken::Lost`] where elements are missing or too many.
    pub(crate) async fn place(
        &mut self,
        expiry: KeyExpiry,
        expected: Expected,
        on_conflict: OnConflict,
    ) -> Result<Placed, Broken> {
        let staging = self.staging();
        let found = self.length(&staging).await?;
        let missing = expected.length.saturating_sub(found);
        if found > expected.length || missing > expected.expiring {
            return Err(Broken::Lost);
        }
        let placed = self.rename_until_known(expiry, found, on_conflict).await?;
        // A dead link may have brought an older name back; and a conflict leaves this one. If that fails now, what
        // became of the key is known all the same, and what is left expires.
        if let Err(broken) = self.remove().await {
            let line = "a staging key could not be removed; it expires within a day";
            tracing::info!("{line}: {broken:?}");
        }
        Ok(placed)
    }

    async fn rename_until_known(
        &mut self,
        expiry: KeyExpiry,
        length: u64,
        on_conflict: OnConflict,
    ) -> Result<Placed, Broken> {
        loop {
            match self.rename(expiry, on_conflict).await {
                Ok(placed) => return Ok(placed),
                Err(e) => self.judge(e).await?,
            }
            // Whether it was done is not known. No other name leads to the staging key.
            let staging = self.staging();
            if self.call(&[b"EXISTS", &staging]).await?.as_int() != Some(0) {
                continue;
            }
            let target_key = self.place.target_key.clone();
            let found = self.call(&[b"TYPE", &target_key]).await?;
            let is_of_kind = match &found {
                Value::Simple(name) => name.as_ref() == self.kind.type_name().as_bytes(),
                _ => false,
            };
            return match is_of_kind && self.length(&target_key).await? == length {
                true => Ok(Placed::Done),
                false => Err(Broken::Lost),
            };
        }
    }

    async fn rename(
        &mut self,
        expiry: KeyExpiry,
        on_conflict: OnConflict,
    ) -> Result<Placed, ClientError> {
        let (staging, target_key) = (self.staging(), self.place.target_key.clone());
        let raw = self.link().await?.raw();
        let output = raw.output();
        encode::command(output, &[b"MULTI"]);
        match expiry {
            // A time of 0 or before would be refused; it is over in any case.
            KeyExpiry::At(at) => {
                let at = at.max(1).to_string();
                encode::command(output, &[b"PEXPIREAT", &staging, at.as_bytes()]);
            }
            KeyExpiry::Never | KeyExpiry::Gone => {
                encode::command(output, &[b"PERSIST", &staging]);
            }
        }
        let mut replies = 4;
        match on_conflict {
            OnConflict::Replace => {
                // RENAME would free the old value at once, and the server would stand still for a large one.
                encode::command(output, &[b"UNLINK", &target_key]);
                encode::command(output, &[b"RENAME", &staging, &target_key]);
                replies += 1;
            }
            OnConflict::Skip | OnConflict::Fail => {
                encode::command(output, &[b"RENAMENX", &staging, &target_key]);
            }
        }
        encode::command(output, &[b"EXEC"]);
        raw.flush().await?;
        let (mut refused, mut last) = (None, Value::Null);
        for _ in 0..replies {
            match raw.value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                value => last = value,
            }
        }
        if let Some(text) = refused {
            return Err(raw.server_error(text));
        }
        match last.as_list().and_then(|results| results.last()) {
            Some(Value::Int(0)) => Ok(Placed::Conflict),
            Some(Value::Int(_) | Value::Simple(_)) => Ok(Placed::Done),
            Some(Value::Error(text)) => {
                let error = raw.server_error(text.clone());
                match &error {
                    ClientError::Server { error: answer, .. }
                        if answer.mentions("no such key") && matches!(expiry, KeyExpiry::At(_)) =>
                    {
                        Ok(Placed::Expired)
                    }
                    _ => Err(error),
                }
            }
            _ => Err(raw.unexpected("EXEC")),
        }
    }
}
