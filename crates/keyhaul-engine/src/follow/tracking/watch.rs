//! Watches for what makes everything suspect besides a broken telling: slots of the source that moved or a failover there,
//! and a target that is another process, which may not have what the old one acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyhaul_client::{Address, ClientError, Mode, ReadConnection, Seeds};
use tokio_util::sync::CancellationToken;

use crate::follow::tracking::dirty::Dirty;
use crate::site::{Site, run_id_of};
use crate::source::scan::slots_text;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long slots may be on the move before all keys are copied again for those that have moved.
const UNREST_MAX: Duration = Duration::from_secs(30);

/// The nodes of a source: id, address, and a digest of their slots.
type Layout = Vec<(String, String, String)>;

/// Looks at both ends.
pub(super) struct Watch {
    pub source: Arc<Site>,
    pub target: Arc<Site>,
    pub dirty: Arc<Dirty>,
    /// As the source was when it began to tell.
    pub layout: Layout,
    /// The processes of the target when the copy began.
    pub processes: Vec<(String, String)>,
    pub connections: HashMap<Address, ReadConnection>,
    /// Set while the source is not as it was: what it is about to be does not tell yet.
    pub unrest: Arc<AtomicBool>,
}

/// What nodes a source has.
pub(super) fn layout(source: &Site) -> Layout {
    let topology = source.routing.topology();
    let of_node = |node: &keyhaul_client::Node| {
        let slots = match topology.mode {
            Mode::Standalone => String::new(),
            Mode::Cluster => slots_text(&topology, &node.id),
        };
        (node.id.clone(), node.address.to_string(), slots)
    };
    let mut layout: Layout = topology.primaries.iter().map(of_node).collect();
    layout.sort();
    layout
}

impl Watch {
    /// Looks until `closing`, or until everything is dirty.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        let _ = closing.run_until_cancelled(self.look()).await;
    }

    async fn look(&mut self) {
        let mut before = self.layout.clone();
        let mut unrest_since = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(layout) = self.source_layout().await {
                // Slots move one after the other: it is waited until they have come to rest.
                let is_other = layout != self.layout;
                self.unrest.store(is_other, Ordering::Release);
                let since = *unrest_since.get_or_insert_with(Instant::now);
                if !is_other {
                    unrest_since = None;
                }
                let is_at_rest = layout == before && !self.has_open_slots();
                if is_other && (is_at_rest || since.elapsed() > UNREST_MAX) {
                    let reason = match self.source.routing.mode() {
                        Mode::Cluster => "slots of the source moved, or a node of it failed over",
                        Mode::Standalone => "the source failed over to another primary",
                    };
                    return self.dirty.everything(reason.to_owned());
                }
                before = layout;
            }
            match self.target_processes().await {
                Ok(now) if now.iter().all(|node| self.processes.contains(node)) => {}
                Ok(_) => {
                    let reason = "the target was restarted, or failed over to another primary";
                    return self.dirty.everything(reason.to_owned());
                }
                // The lanes wait for it, and say so.
                Err(e) => {
                    tracing::info!("target: {}", keyhaul_client::chain(&e));
                    self.connections.clear();
                }
            }
        }
    }

    /// `None`: it cannot be told at present, or cannot change.
    async fn source_layout(&self) -> Option<Layout> {
        let routing = &self.source.routing;
        let seeds = &routing.connector().endpoint().seeds;
        let is_one = matches!(seeds, Seeds::Servers(seeds) if seeds.len() == 1);
        if routing.mode() == Mode::Standalone && is_one {
            return None;
        }
        match routing.refresh().await {
            Ok(_) => Some(layout(&self.source)),
            Err(e) => {
                tracing::info!("source: {}", keyhaul_client::chain(&e));
                None
            }
        }
    }

    fn has_open_slots(&self) -> bool {
        !self.source.routing.topology().open_slots.is_empty()
    }

    async fn target_processes(&mut self) -> Result<Vec<(String, String)>, ClientError> {
        let mut processes = Vec::new();
        for (id, address) in self.target.primaries() {
            if !self.connections.contains_key(&address) {
                let connection = self.target.open(&address).await?;
                self.connections.insert(address.clone(), connection);
            }
            if let Some(connection) = self.connections.get_mut(&address) {
                let run_id = run_id_of(connection).await?;
                processes.push((id, run_id.unwrap_or_default()));
            }
        }
        Ok(processes)
    }
}
