//! The connection over which the keys of one primary are read: to itself, or to one of its replicas.

use std::sync::Arc;
use std::time::Duration;

use keyhaul_client::{Address, ClientError, ReadConnection};

use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::replicas::{info_value, open_replica};
use crate::site::Site;

/// A connection that is opened again when it breaks.
pub(super) struct NodeLink {
    pub site: Arc<Site>,
    pub node_id: String,
    pub options: LinkOptions,
    connection: Option<ReadConnection>,
    /// Commands that count as use of a key would change what this server evicts.
    use_matters: bool,
    /// The replica that was read last: its cursors go on.
    replica: Option<Address>,
    patience: Patience,
}

/// How it is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkOptions {
    /// To a replica, where one can be read.
    pub prefers_replica: bool,
    /// Commands are sent that would count as use of a key.
    pub uses_keys: bool,
    pub retry_for: Duration,
}

impl NodeLink {
    pub(super) fn new(site: Arc<Site>, node_id: String, options: LinkOptions) -> Self {
        Self {
            site,
            node_id,
            options,
            connection: None,
            use_matters: false,
            replica: None,
            patience: Patience::new(options.retry_for),
        }
    }

    /// The connection, opened if need be, and whether it was.
    ///
    /// # Errors
    /// Any of opening it.
    pub(super) async fn get(
        &mut self,
        ledger: &Ledger,
    ) -> Result<(&mut ReadConnection, bool), ClientError> {
        let is_fresh = self.connection.is_none();
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open(ledger).await?,
        };
        Ok((self.connection.insert(connection), is_fresh))
    }

    async fn open(&mut self, ledger: &Ledger) -> Result<ReadConnection, ClientError> {
        let mut found = None;
        if self.options.prefers_replica {
            found = self.open_replica(ledger).await?;
        }
        let mut connection = match found {
            Some(connection) => connection,
            None => {
                let address = self.site.address_of_node(&self.node_id)?;
                self.site.open(&address).await?
            }
        };
        if self.options.uses_keys {
            self.use_matters = use_matters(&mut connection, ledger).await?;
        }
        Ok(connection)
    }

    /// Whether commands that count as use of a key may be sent over the connection that is open.
    pub(super) fn may_use_keys(&self) -> bool {
        self.options.uses_keys && !self.use_matters
    }

    /// `None`: no replica can be read.
    async fn open_replica(
        &mut self,
        ledger: &Ledger,
    ) -> Result<Option<ReadConnection>, ClientError> {
        let primary = self.site.address_of_node(&self.node_id)?;
        let found = open_replica(&self.site, &primary, self.replica.as_ref(), ledger).await?;
        self.replica = found
            .as_ref()
            .map(|connection| connection.address().clone());
        Ok(found)
    }

    /// Something worked.
    pub(super) fn success(&mut self, ledger: &Ledger) {
        self.patience.success(ledger);
    }

    /// Drops the connection: replies may be outstanding.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// Drops the connection and waits.
    ///
    /// # Errors
    /// As [`Site::recover`].
    pub(super) async fn failed(
        &mut self,
        error: &ClientError,
        ledger: &Ledger,
    ) -> Result<(), GaveUp> {
        self.close();
        self.site.recover(error, &mut self.patience, ledger).await
    }

    /// Whether the node is still a primary of the source.
    pub(super) fn node_is_primary(&self) -> bool {
        self.site.routing.topology().node(&self.node_id).is_some()
    }

    /// For messages: the address of the node.
    pub(super) fn name(&self) -> String {
        let topology = self.site.routing.topology();
        topology
            .node(&self.node_id)
            .map_or_else(String::new, |node| node.address.to_string())
    }
}

/// Makes the server keep its records of use as they are; where it cannot, finds out whether it evicts by them.
async fn use_matters(
    connection: &mut ReadConnection,
    ledger: &Ledger,
) -> Result<bool, ClientError> {
    if connection.leave_untouched().await? {
        return Ok(false);
    }
    let address = connection.address().clone();
    let info = match connection.info(Some("memory")).await {
        Ok(info) => info,
        Err(ClientError::Server { error, .. }) if error.is_forbidden() => String::new(),
        Err(e) => return Err(e),
    };
    let policy = evicts_by_use(&info);
    ledger.remark(match policy {
        Some(policy) => format!(
            "{address} evicts by {policy} and takes no CLIENT NO-TOUCH (Redis 7.2, right +client|no-touch): reading lengths would change what it evicts, so that elements of its keys are not known"
        ),
        None => format!(
            "reading lengths touches each key's LRU or LFU record on {address}, as it takes no CLIENT NO-TOUCH (Redis 7.2, right +client|no-touch)"
        ),
    });
    Ok(policy.is_some())
}

/// The policy by which INFO says that keys are evicted, where that goes by their use.
fn evicts_by_use(info: &str) -> Option<&str> {
    let has_limit = info_value(info, "maxmemory").is_some_and(|bytes| bytes != "0");
    info_value(info, "maxmemory_policy")
        .filter(|policy| has_limit && (policy.ends_with("lru") || policy.ends_with("lfu")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_go_by_use() {
        for (limit, policy, evicts) in [
            ("100", "allkeys-lru", true),
            ("100", "volatile-lfu", true),
            ("0", "allkeys-lru", false),
            ("100", "noeviction", false),
            ("100", "volatile-ttl", false),
        ] {
            let info = format!("maxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n");
            assert_eq!(evicts_by_use(&info), evicts.then_some(policy), "{info}");
        }
        assert_eq!(evicts_by_use(""), None);
    }
}
