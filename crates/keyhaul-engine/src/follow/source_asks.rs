//! Asks the source which keys a command has that is not known here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{ClientError, ReadConnection, ServerError};

use crate::follow::command::Args;
use crate::follow::reread::SourceView;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;

/// A connection beside the link, opened when it is needed.
pub(crate) struct SourceAsks {
    site: Arc<Site>,
    view: Arc<SourceView>,
    connection: Option<ReadConnection>,
    patience: Patience,
}

impl SourceAsks {
    pub(crate) fn new(site: Arc<Site>, view: Arc<SourceView>, retry_for: Duration) -> Self {
        Self {
            site,
            view,
            connection: None,
            patience: Patience::new(retry_for),
        }
    }

    /// The keys of a command; the inner error: the source refuses to tell, as one without keys does.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted.
    pub(crate) async fn keys_of(
        &mut self,
        args: &Args<'_>,
        ledger: &Ledger,
    ) -> Result<Result<Vec<Bytes>, ServerError>, GaveUp> {
        loop {
            match self.try_keys_of(args).await {
                Ok(found) => {
                    self.patience.success(ledger);
                    return Ok(found);
                }
                Err(e) => {
                    self.connection = None;
                    self.site.recover(&e, &mut self.patience, ledger).await?;
                }
            }
        }
    }

    async fn try_keys_of(
        &mut self,
        args: &Args<'_>,
    ) -> Result<Result<Vec<Bytes>, ServerError>, ClientError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let node = self.view.node().ok_or_else(|| ClientError::NoPrimary {
                    endpoint: self.site.routing.connector().endpoint().to_string(),
                    reason: "the link to it is broken".to_owned(),
                })?;
                self.connection.insert(self.site.open(&node).await?)
            }
        };
        let args: Vec<&[u8]> = args.iter().collect();
        match connection.command_keys(&args).await {
            Ok(keys) => Ok(Ok(keys)),
            Err(ClientError::Server { error, .. }) => Ok(Err(error)),
            Err(e) => Err(e),
        }
    }
}
