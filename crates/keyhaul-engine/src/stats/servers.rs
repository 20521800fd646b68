//! Reads all keys of a server or a cluster: every primary, and again the slots that moved meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyhaul_client::ClientError;
use tokio::sync::mpsc;

use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::site::{Site, run_id_of};
use crate::source::rounds::{Order, Round, Rounds, Workers, join_node};
use crate::source::scan::{COUNT_FIRST, slots_text};
use crate::stats::fold::{Position, Told};
use crate::stats::link::{LinkOptions, NodeLink};
use crate::stats::node::{NodeReader, Rules, Start, process_text};

/// Where nodes begin, by node id, with the connection over which that was found out.
pub(super) type Starts = HashMap<String, (NodeLink, Start)>;

/// A pass over all keys.
pub(super) struct Servers {
    pub site: Arc<Site>,
    pub rules: Arc<Rules>,
    pub link: LinkOptions,
    pub ledger: Arc<Ledger>,
}

impl Servers {
    /// Tells all keys.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn read(
        &self,
        mut starts: Starts,
        output: mpsc::Sender<Told>,
    ) -> Result<(), GaveUp> {
        let retry_for = self.retry_for();
        let mut rounds = Rounds::begin(&self.site, retry_for, &self.ledger).await?;
        while let Some(round) = rounds.next() {
            if let Some(slots) = round.slots.clone() {
                let told = output.send(Told::Moved(slots)).await;
                told.map_err(|_| GaveUp)?;
            }
            let lost = self.round(round, &mut starts, &output).await?;
            rounds.finish(&lost).await?;
        }
        Ok(())
    }

    /// Reads the nodes of a round; returns the ids of those that ceased to be primaries.
    async fn round(
        &self,
        round: Round,
        starts: &mut Starts,
        output: &mpsc::Sender<Told>,
    ) -> Result<Vec<String>, GaveUp> {
        let (mut running, mut lost) = (Vec::new(), Vec::new());
        for node_id in round.nodes {
            let (link, start) = match starts.remove(&node_id) {
                Some((link, start)) => (link, Some(start)),
                None => (self.link(node_id.clone()), None),
            };
            let strays = LinkOptions {
                prefers_replica: false,
                uses_keys: false,
                ..self.link
            };
            let reader = NodeReader {
                link,
                strays: NodeLink::new(self.site.clone(), node_id.clone(), strays),
                rules: self.rules.clone(),
                slots: round.slots.clone(),
                start,
                count: COUNT_FIRST,
                output: output.clone(),
                ledger: self.ledger.clone(),
            };
            let mut tasks = Workers::new();
            tasks.spawn(reader.run());
            match round.order {
                Order::GiversFirst => lost.extend(join_node(node_id, tasks, &self.ledger).await?),
                Order::SideBySide => running.push((node_id, tasks)),
            }
        }
        let mut gave_up = false;
        for (node_id, tasks) in running {
            match join_node(node_id, tasks, &self.ledger).await {
                Ok(one) => lost.extend(one),
                Err(GaveUp) => gave_up = true, // the others are joined all the same
            }
        }
        if gave_up { Err(GaveUp) } else { Ok(lost) }
    }

    /// Those of the positions of an earlier run that are still good: the node is the same process and serves the same
    /// slots, none of which was away meanwhile.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn starts(&self, positions: &[Position]) -> Result<Starts, GaveUp> {
        let mut starts = Starts::new();
        for position in positions {
            let mut link = self.link(position.node_id.clone());
            let run_id = loop {
                if !link.node_is_primary() {
                    break None;
                }
                let asked = async {
                    let (connection, _) = link.get(&self.ledger).await?;
                    run_id_of(connection).await
                };
                let asked: Result<_, ClientError> = asked.await;
                match asked {
                    Ok(run_id) => break run_id,
                    Err(e) => link.failed(&e, &self.ledger).await?,
                }
            };
            let slots = slots_text(&self.site.routing.topology(), &position.node_id);
            let start = run_id.map(|run_id| Start {
                position: position.clone(),
                run_id,
            });
            let is_good =
                |start: &Start| start.position.process == process_text(&start.run_id, &slots);
            if let Some(start) = start.filter(is_good) {
                starts.insert(position.node_id.clone(), (link, start));
            }
        }
        Ok(starts)
    }

    fn link(&self, node_id: String) -> NodeLink {
        NodeLink::new(self.site.clone(), node_id, self.link)
    }

    fn retry_for(&self) -> Duration {
        self.link.retry_for
    }
}
