//! One end of a job, probed: the way to its primaries and how it tells expiry times.

use std::sync::Arc;
use std::time::Duration;

use keyhaul_client::{
    Action, Address, ClientError, ExpiryCommand, Mode, ReadConnection, Routing, Slot,
};

use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::plan::SideName;

/// One end of a job.
#[derive(Debug)]
pub(crate) struct Site {
    pub side: SideName,
    pub routing: Routing,
    pub expiry: ExpiryCommand,
}

impl Site {
    /// Where the primary that owns a key is; a standalone server owns every key.
    pub(crate) fn address_of_key(&self, key: &[u8]) -> Result<Address, ClientError> {
        let topology = self.routing.topology();
        if topology.mode == Mode::Standalone {
            return self.address_of_node("");
        }
        Ok(self.routing.owner(Slot::of_key(key))?.address)
    }

    /// Where a node is at present.
    pub(crate) fn address_of_node(&self, node_id: &str) -> Result<Address, ClientError> {
        let topology = self.routing.topology();
        topology
            .node(node_id)
            .map(|node| node.address.clone())
            .ok_or_else(|| ClientError::NoPrimary {
                endpoint: self.routing.connector().endpoint().to_string(),
                reason: format!("node {node_id} is no primary any more"),
            })
    }

    /// The primaries at present: node id and address.
    pub(crate) fn primaries(&self) -> Vec<(String, Address)> {
        let topology = self.routing.topology();
        topology
            .primaries
            .iter()
            .map(|node| (node.id.clone(), node.address.clone()))
            .collect()
    }

    /// The processes of the primaries: node id and run id, empty where a server does not tell. However long that
    /// takes.
    ///
    /// # Errors
    /// As [`Site::recover`].
    pub(crate) async fn processes(
        &self,
        retry_for: Duration,
        ledger: &Ledger,
    ) -> Result<Vec<(String, String)>, GaveUp> {
        let mut patience = Patience::new(retry_for);
        loop {
            let asked = async {
                let mut processes = Vec::new();
                for (id, address) in self.primaries() {
                    let mut connection = self.open(&address).await?;
                    let run_id = run_id_of(&mut connection).await?;
                    processes.push((id, run_id.unwrap_or_default()));
                }
                Ok(processes)
            };
            match asked.await {
                Ok(processes) => return Ok(processes),
                Err(e) => self.recover(&e, &mut patience, ledger).await?,
            }
        }
    }

    /// Finds out where the primaries are, however long that takes.
    ///
    /// # Errors
    /// As [`Site::recover`].
    pub(crate) async fn refresh(&self, retry_for: Duration, ledger: &Ledger) -> Result<(), GaveUp> {
        let mut patience = Patience::new(retry_for);
        while let Err(e) = self.routing.refresh_now().await {
            self.recover(&e, &mut patience, ledger).await?;
        }
        patience.success(ledger);
        Ok(())
    }

    /// Opens a connection that can only read.
    pub(crate) async fn open(&self, address: &Address) -> Result<ReadConnection, ClientError> {
        ReadConnection::open(self.routing.connector(), address, self.expiry).await
    }

    /// After an error: waits, and finds out where the primaries are, as the error demands.
    ///
    /// # Errors
    /// [`GaveUp`] when waiting is of no use or has lasted too long; the job is halted then.
    pub(crate) async fn recover(
        &self,
        error: &ClientError,
        patience: &mut Patience,
        ledger: &Ledger,
    ) -> Result<(), GaveUp> {
        let reason = format!("{}: {}", self.side, keyhaul_client::chain(error));
        match error.action() {
            Action::GiveUp => {
                ledger.halt(reason);
                return Err(GaveUp);
            }
            Action::Moved { slot, announced } => self.routing.moved(slot, &announced),
            _ => {}
        }
        patience.wait(ledger, &reason).await?;
        if matches!(
            error.action(),
            Action::Reconnect | Action::Refresh | Action::Moved { .. }
        ) && let Err(e) = self.routing.refresh().await
        {
            // The next try will fail as well and say so; patience counts on.
            tracing::info!("{}: {}", self.side, keyhaul_client::chain(&e));
        }
        Ok(())
    }
}

/// A reading connection to one source primary that is opened again when it breaks.
#[derive(Debug)]
pub(crate) struct SourceLink {
    pub site: Arc<Site>,
    pub node_id: String,
    connection: Option<ReadConnection>,
    patience: Patience,
}

impl SourceLink {
    pub(crate) fn new(site: Arc<Site>, node_id: String, retry_for: Duration) -> Self {
        Self {
            site,
            node_id,
            connection: None,
            patience: Patience::new(retry_for),
        }
    }

    /// The connection, opened if need be.
    pub(crate) async fn get(&mut self) -> Result<&mut ReadConnection, ClientError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.site
                    .open(&self.site.address_of_node(&self.node_id)?)
                    .await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// The connection if there is one.
    pub(crate) fn open_connection(&mut self) -> Option<&mut ReadConnection> {
        self.connection.as_mut()
    }

    /// Something worked.
    pub(crate) fn success(&mut self, ledger: &Ledger) {
        self.patience.success(ledger);
    }

    /// Drops the connection (replies may be outstanding) and waits.
    ///
    /// # Errors
    /// As [`Site::recover`].
    pub(crate) async fn failed(
        &mut self,
        error: &ClientError,
        ledger: &Ledger,
    ) -> Result<(), GaveUp> {
        self.connection = None;
        self.site.recover(error, &mut self.patience, ledger).await
    }

    /// Whether the node that this link reads is still a primary of the source.
    pub(crate) fn node_is_primary(&self) -> bool {
        self.site.routing.topology().node(&self.node_id).is_some()
    }
}

/// The run id of the server; `None` where INFO is forbidden.
///
/// # Errors
/// Any but that refusal.
pub(crate) async fn run_id_of(
    connection: &mut ReadConnection,
) -> Result<Option<String>, ClientError> {
    match connection.info(Some("server")).await {
        Ok(info) => Ok(info
            .lines()
            .find_map(|line| line.strip_prefix("run_id:"))
            .map(|id| id.trim().to_owned())),
        Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => Ok(None),
        Err(e) => Err(e),
    }
}
