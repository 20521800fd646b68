//! Reads single keys that were found on one node of the source and live on another by now.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{Action, Address, Asking, ClientError, KeyRead, ReadConnection, ServerError};
use std::time::Duration;

use crate::entry::{Entry, Payload, Usage, Verdict};
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::progress::Progress;
use crate::route::Outlet;
use crate::site::Site;
use crate::source::large::{LargeKey, pass_through};

/// Follows redirections for one key at a time. Rare, so simplicity counts here.
pub(crate) struct StrayReader {
    site: Arc<Site>,
    connections: HashMap<Address, ReadConnection>,
    patience: Patience,
    ledger: Arc<Ledger>,
}

/// Redirections and repetitions that are followed without a wait.
const HOPS_MAX: u32 = 5;

/// What to do after one try.
enum Next {
    Done(Option<Entry>),
    At(Address, Asking),
    Wait(ClientError),
}

impl StrayReader {
    pub(crate) fn new(site: Arc<Site>, retry_for: Duration, ledger: Arc<Ledger>) -> Self {
        let patience = Patience::new(retry_for);
        Self {
            site,
            connections: HashMap::new(),
            patience,
            ledger,
        }
    }

    /// The key as an entry, from the node that a redirection names; `None` if it is gone, was passed on
    /// already, or is listed.
    pub(crate) async fn read(
        &mut self,
        db: u32,
        key: &Bytes,
        redirection: ServerError,
        outlet: &mut Outlet,
    ) -> Option<Entry> {
        let first = self.follow(key, &redirection);
        self.read_from(db, key, first, outlet).await
    }

    /// The same from the node that owns it.
    pub(crate) async fn read_now(
        &mut self,
        db: u32,
        key: &Bytes,
        outlet: &mut Outlet,
    ) -> Option<Entry> {
        let address = self.site.address_of_key(key);
        let first = address.map(|address| Next::At(address, Asking::No));
        self.read_from(db, key, first, outlet).await
    }

    async fn read_from(
        &mut self,
        db: u32,
        key: &Bytes,
        first: Result<Next, ClientError>,
        outlet: &mut Outlet,
    ) -> Option<Entry> {
        let mut next = first;
        let mut hops = 0;
        loop {
            hops += 1;
            next = match next {
                Ok(Next::Done(entry)) => {
                    self.patience.success(&self.ledger);
                    return entry;
                }
                Ok(Next::At(address, _)) if hops % HOPS_MAX == 0 => {
                    // Two nodes point at one another, or the key is written all the time.
                    let error = ServerError::new(Bytes::from_static(b"TRYAGAIN it moves"));
                    Ok(Next::Wait(ClientError::Server { address, error }))
                }
                Ok(Next::At(address, asking)) => {
                    self.try_at(db, key, &address, asking, outlet).await
                }
                Ok(Next::Wait(e)) | Err(e) => {
                    self.connections.clear();
                    if let Err(GaveUp) = self
                        .site
                        .recover(&e, &mut self.patience, &self.ledger)
                        .await
                    {
                        let reason = "the run stopped before it could be read".to_owned();
                        self.ledger.not_moved(db, key, reason);
                        return None;
                    }
                    self.site
                        .address_of_key(key)
                        .map(|address| Next::At(address, Asking::No))
                }
            };
        }
    }

    fn follow(&self, key: &Bytes, error: &ServerError) -> Result<Next, ClientError> {
        let (announced, asking) = match error.action() {
            Action::Moved { slot, announced } => {
                self.site.routing.moved(slot, &announced);
                (announced, Asking::No)
            }
            Action::Ask { announced } => (announced, Asking::Yes),
            _ => {
                let address = self.site.address_of_key(key)?;
                return Ok(Next::Wait(ClientError::Server {
                    address,
                    error: error.clone(),
                }));
            }
        };
        let address = match self.site.routing.named(&announced) {
            Some(address) => address,
            None => self.site.address_of_key(key)?,
        };
        Ok(Next::At(address, asking))
    }

    async fn try_at(
        &mut self,
        db: u32,
        key: &Bytes,
        address: &Address,
        asking: Asking,
        outlet: &mut Outlet,
    ) -> Result<Next, ClientError> {
        if !self.connections.contains_key(address) {
            let connection = self.site.open(address).await?;
            self.connections.insert(address.clone(), connection);
        }
        let connection = self
            .connections
            .get_mut(address)
            .expect("it was just put there");
        connection.select(db).await?;
        connection
            .ask_keys(std::slice::from_ref(key), asking)
            .await?;
        let again = |address: &Address| Ok(Next::At(address.clone(), asking));
        match connection.next_key(asking).await? {
            KeyRead::Gone => {
                if !outlet.deletes() {
                    Progress::add(&self.ledger.progress.keys_gone, 1);
                }
                Ok(Next::Done(outlet.absent(db, key)))
            }
            KeyRead::Whole {
                payload,
                expire_at_ms,
            } => Ok(Next::Done(match outlet.takes_type(&payload) {
                true => {
                    let payload = Payload::Whole(payload);
                    let usage = Usage::default();
                    Some(outlet.entry(db, key.clone(), payload, expire_at_ms, usage))
                }
                false => outlet.absent(db, key),
            })),
            KeyRead::Large {
                payload_bytes,
                expire_at_ms,
            } => {
                let large = LargeKey {
                    db,
                    key,
                    payload_bytes,
                    expire_at_ms,
                };
                match pass_through(connection, outlet, large).await? {
                    Verdict::Settled => Ok(Next::Done(None)),
                    Verdict::Again if self.ledger.stop.is_cancelled() => {
                        self.ledger.leave_keys();
                        Ok(Next::Done(None))
                    }
                    Verdict::Again => again(address),
                }
            }
            KeyRead::Unsettled => again(address),
            KeyRead::Refused(error) if error.action() == Action::GiveUp => {
                let reason = format!("the source refused to give it: {error}");
                self.ledger.not_moved(db, key, reason);
                Ok(Next::Done(None))
            }
            KeyRead::Refused(error) => self.follow(key, &error),
        }
    }
}
