//! The connections of a lane: one to each node, and none that the server still reads when the next one is opened.

use std::collections::HashMap;

use keyhaul_client::{Address, ClientError, TargetConnection};

use crate::site::Site;
use crate::target::graves::{Called, Graves, RunTag, called};

/// Connections by node.
#[derive(Debug, Default)]
pub(crate) struct Links {
    open: HashMap<Address, Link>,
    graves: Graves,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub connection: TargetConnection,
    called: Option<Called>,
}

impl Links {
    /// The connection to a node, opened if need be.
    ///
    /// # Errors
    /// Any error of dialling and login.
    pub(crate) async fn get(
        &mut self,
        target: &Site,
        address: &Address,
        tag: Option<&RunTag>,
    ) -> Result<&mut TargetConnection, ClientError> {
        if !self.open.contains_key(address) {
            let connector = target.routing.connector();
            let mut connection = TargetConnection::open(connector, address, target.expiry).await?;
            let called = called(&mut connection, tag).await?;
            self.graves.close(address, &mut connection).await?;
            let link = Link { connection, called };
            self.open.insert(address.clone(), link);
        }
        let link = self.open.get_mut(address);
        Ok(&mut link.expect("it was just put there").connection)
    }

    /// Takes an open connection out: it is put back, or given up.
    pub(crate) fn take(&mut self, address: &Address) -> Option<Link> {
        self.open.remove(address)
    }

    /// Puts a connection back that is good.
    pub(crate) fn put_back(&mut self, address: Address, link: Link) {
        self.open.insert(address, link);
    }

    /// A connection is of no use any more.
    pub(crate) fn bury(&mut self, address: &Address, link: Link) {
        self.graves.put(address, link.called);
    }

    /// The connection to this node is of no use any more.
    pub(crate) fn give_up(&mut self, address: &Address) {
        if let Some(link) = self.open.remove(address) {
            self.bury(address, link);
        }
    }

    /// None of the connections is of use any more.
    pub(crate) fn give_up_all(&mut self) {
        for (address, link) in std::mem::take(&mut self.open) {
            self.bury(&address, link);
        }
    }
}
