//! Finds out early that a key is written while it is read, so that a copy is not carried to an end that is lost
//! already.
//!
//! A server tells of writes by CLIENT TRACKING, but of a key of this name in any db, and also when it forgets
//! what it tracks. So a second connection watches the key from the first such word on, and decides at the next.
//! Whether the copy is good is decided by the first connection's own WATCH in any case.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ReadConnection, ValueKind};

use crate::bigkey::Broken;
use crate::site::Site;

/// Looks out for writes to one key.
pub(crate) struct Sentry {
    pub site: Arc<Site>,
    pub db: u32,
    pub key: Bytes,
    pub kind: ValueKind,
    /// It watches the key; `None`: nothing was told yet.
    pub watching: Option<ReadConnection>,
}

impl Sentry {
    /// Whether the key was written, as far as one knows.
    ///
    /// # Errors
    /// [`Broken::Noticed`] if it was; [`Broken::Source`].
    pub(crate) async fn look(&mut self, reading: &mut ReadConnection) -> Result<(), Broken> {
        if !reading.take_notice() {
            return Ok(());
        }
        self.decide().await
    }

    async fn decide(&mut self) -> Result<(), Broken> {
        if let Some(watching) = &mut self.watching {
            let unchanged = watching.unchanged_length(self.kind, &self.key).await;
            if unchanged.map_err(Broken::Source)?.is_none() {
                return Err(Broken::Noticed);
            }
        } else {
            let opened = async {
                let address = self.site.address_of_key(&self.key)?;
                let mut opened = self.site.open(&address).await?;
                opened.select(self.db).await?;
                Ok(opened)
            };
            self.watching = Some(opened.await.map_err(Broken::Source)?);
        }
        if let Some(watching) = &mut self.watching {
            watching.watch(&self.key).await.map_err(Broken::Source)?;
        }
        Ok(())
    }
}
