//! Looks keys up wherever they are: groups them by the node that owns them, follows redirections,
//! waits for nodes that are away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Action, Address, ClientError, KeyLook, ReadConnection, ServerError};

use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;

/// Type and expiry of keys of one side.
#[derive(Debug)]
pub(crate) struct Lookup {
    site: Arc<Site>,
    connections: HashMap<Address, ReadConnection>,
    patience: Patience,
}

impl Lookup {
    pub(crate) fn new(site: Arc<Site>, retry_for: Duration) -> Self {
        Self {
            site,
            connections: HashMap::new(),
            patience: Patience::new(retry_for),
        }
    }

    /// One result for each key, in order. A refusal that is none of moving or waiting is a result.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn look(
        &mut self,
        db: u32,
        keys: &[Bytes],
        ledger: &Ledger,
    ) -> Result<Vec<Result<KeyLook, ServerError>>, GaveUp> {
        let mut results = vec![None; keys.len()];
        loop {
            let open: Vec<usize> = (0..keys.len())
                .filter(|index| results[*index].is_none())
                .collect();
            if open.is_empty() {
                self.patience.success(ledger);
                return Ok(results.into_iter().flatten().collect());
            }
            if let Err(e) = self.round(db, keys, &open, &mut results).await {
                self.connections.clear();
                self.site.recover(&e, &mut self.patience, ledger).await?;
            }
        }
    }

    /// Asks once for each of the open keys. An error is returned when some of them need a wait.
    async fn round(
        &mut self,
        db: u32,
        keys: &[Bytes],
        open: &[usize],
        results: &mut [Option<Result<KeyLook, ServerError>>],
    ) -> Result<(), ClientError> {
        let mut groups: HashMap<Address, Vec<usize>> = HashMap::new();
        for index in open {
            let address = self.site.address_of_key(&keys[*index])?;
            groups.entry(address).or_default().push(*index);
        }
        let mut passing = None;
        for (address, indexes) in groups {
            let names: Vec<Bytes> = indexes.iter().map(|index| keys[*index].clone()).collect();
            let connection = self.connection(&address).await?;
            connection.select(db).await?;
            for (index, look) in indexes.into_iter().zip(connection.look(&names).await?) {
                match look {
                    Err(error) => match error.action() {
                        Action::GiveUp => results[index] = Some(Err(error)),
                        Action::Moved { slot, announced } => {
                            self.site.routing.moved(slot, &announced);
                            passing = Some(error);
                        }
                        Action::Ask { announced } => {
                            match self.ask_elsewhere(&announced, &keys[index]).await? {
                                Err(error) if error.action() != Action::GiveUp => {
                                    passing = Some(error);
                                }
                                look => results[index] = Some(look),
                            }
                        }
                        _ => passing = Some(error),
                    },
                    look => results[index] = Some(look),
                }
            }
        }
        match passing {
            Some(error) => {
                let address = self.site.address_of_key(b"")?;
                Err(ClientError::Server { address, error })
            }
            None => Ok(()),
        }
    }

    async fn ask_elsewhere(
        &mut self,
        announced: &str,
        key: &Bytes,
    ) -> Result<Result<KeyLook, ServerError>, ClientError> {
        let address = match self.site.routing.named(announced) {
            Some(address) => address,
            None => self.site.address_of_key(key)?,
        };
        self.connection(&address).await?.look_asking(key).await
    }

    async fn connection(&mut self, address: &Address) -> Result<&mut ReadConnection, ClientError> {
        if !self.connections.contains_key(address) {
            let connection = self.site.open(address).await?;
            self.connections.insert(address.clone(), connection);
        }
        Ok(self
            .connections
            .get_mut(address)
            .expect("it was just put there"))
    }
}
