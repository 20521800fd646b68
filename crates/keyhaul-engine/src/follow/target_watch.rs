//! Looks whether the target still is the processes that hold what was written: also while nothing is written.

use std::sync::Arc;
use std::time::Duration;

use keyhaul_client::ClientError;

use crate::follow::round::Round;
use crate::site::{Site, run_id_of};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Looks until everything begins again. `known`: node id and run id, empty where a server does not tell.
pub(crate) async fn watch_target(
    target: Arc<Site>,
    known: Vec<(String, String)>,
    round: Arc<Round>,
) {
    while !round.has_ended() {
        tokio::time::sleep(INTERVAL).await;
        match has_changed(&target, &known).await {
            Ok(false) => {}
            Ok(true) => round.begin_again(
                "the target was restarted, or failed over: it may lack what it had taken"
                    .to_owned(),
            ),
            // The lanes have the same trouble, and tell it.
            Err(e) => tracing::info!("target: {}", keyhaul_client::chain(&e)),
        }
    }
}

/// Whether it is, as far as that can be told.
pub(crate) async fn is_same_target(target: &Site, known: &[(String, String)]) -> bool {
    matches!(has_changed(target, known).await, Ok(false))
}

async fn has_changed(target: &Site, known: &[(String, String)]) -> Result<bool, ClientError> {
    let topology = target.routing.refresh().await?;
    // A node that is gone has given its slots away, unless somebody has them who was not there before.
    let is_known = |id: &str| known.iter().any(|(known, _)| known == id);
    let has_new = topology.primaries.iter().any(|node| !is_known(&node.id));
    for (id, run) in known {
        let Ok(address) = target.address_of_node(id) else {
            if has_new {
                return Ok(true);
            }
            continue;
        };
        let mut connection = target.open(&address).await?;
        let now = run_id_of(&mut connection).await?.unwrap_or_default();
        if !run.is_empty() && !now.is_empty() && now != *run {
            return Ok(true);
        }
    }
    Ok(false)
}
