//! Listens to what one primary tells, and knows up to which moment all was told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyhaul_client::{Address, ChangeLink, Told, ToldBy};
use tokio::time::{MissedTickBehavior, interval};

use crate::follow::ShardStatus;
use crate::follow::tracking::dirty::Dirty;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::progress::Progress;
use crate::site::Site;

/// How often a PING is sent.
const PING_EVERY: Duration = Duration::from_millis(100);

/// A moment up to which something is known; shared by who finds out and who wants to know.
#[derive(Debug, Default, Clone)]
pub(super) struct KnownUpTo(Arc<Mutex<Option<Instant>>>);

impl KnownUpTo {
    pub(super) fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// `None`: nothing is known yet.
    pub(super) fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link to one primary, which tells from now on.
pub(super) struct Listener {
    pub link: ChangeLink,
    pub address: Address,
    pub shard: usize,
    pub dirty: Arc<Dirty>,
    pub status: Arc<ShardStatus>,
    /// All that was changed up to there is in the set, or was settled.
    pub told: KnownUpTo,
    /// What is done after that moment does not matter any more: the job is to stop.
    pub until: KnownUpTo,
}

/// Opens the link to a primary, however long that takes.
///
/// # Errors
/// [`GaveUp`] when the server refuses to tell, the job was halted or is to stop.
pub(super) async fn open(
    site: &Site,
    node_id: &str,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<(ChangeLink, Address), GaveUp> {
    let mut patience = Patience::new(retry_for);
    loop {
        let opened = async {
            let address = site.address_of_node(node_id)?;
            let link = ChangeLink::open(site.routing.connector(), &address).await?;
            Ok((link, address))
        };
        match opened.await {
            Ok((Ok(link), address)) => {
                patience.success(ledger);
                return Ok((link, address));
            }
            Ok((Err(refusal), address)) => {
                ledger.halt(format!(
                    "{address} does not tell what changes any more: {refusal}"
                ));
                return Err(GaveUp);
            }
            Err(e) => site.recover(&e, &mut patience, ledger).await?,
        }
    }
}

impl Listener {
    /// Whether it is told when a db is emptied.
    pub(super) fn tells_flushes(&self) -> bool {
        self.link.by() == ToldBy::Tracking
    }

    /// Listens until everything is dirty.
    pub(super) async fn run(mut self) {
        if let Some(reason) = self.listen().await {
            self.dirty.everything(reason);
        }
    }

    /// Returns why nobody knows what changed; `None`: all is told that was to be.
    async fn listen(&mut self) -> Option<String> {
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings = Pings::default();
        loop {
            let told = tokio::select! {
                told = self.link.next() => told,
                _ = ticks.tick(), if pings.sent.is_none() => {
                    pings.sent = Some(Instant::now());
                    if let Err(e) = self.link.ping().await {
                        return Some(self.broken(&e));
                    }
                    continue;
                }
            };
            match told {
                Ok(Told::Keys(keys)) => {
                    Progress::add(&self.status.commands, keys.len() as u64);
                    self.dirty.tell(self.shard, keys);
                }
                Ok(Told::Everything) => {
                    return Some(format!(
                        "{} was emptied (FLUSHALL or FLUSHDB)",
                        self.address
                    ));
                }
                Ok(Told::Pong) => {
                    if let Some(known) = pings.answered() {
                        self.told.set(known);
                        if self.until.get().is_some_and(|until| until <= known) {
                            return None;
                        }
                    }
                }
                Err(e) => return Some(self.broken(&e)),
            }
        }
    }

    fn broken(&self, error: &keyhaul_client::ClientError) -> String {
        format!(
            "the link over which {} tells what changes broke ({})",
            self.address,
            keyhaul_client::chain(error)
        )
    }
}

/// What is told comes behind the replies of the same round of a server's loop. So the reply to a PING says that all is
/// told which was done when the PING before it was sent.
#[derive(Debug, Default)]
struct Pings {
    /// When the one was sent that is not answered.
    sent: Option<Instant>,
    /// When the one before was.
    before: Option<Instant>,
}

impl Pings {
    /// A reply came; up to when all is told now.
    fn answered(&mut self) -> Option<Instant> {
        std::mem::replace(&mut self.before, self.sent.take())
    }
}
