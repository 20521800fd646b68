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

async fn has_changed(target: &Site, known: &[(String, String)]) -> Result<bool, ClientError> {
    target.routing.refresh().await?;
    for (id, run) in known {
        let Ok(address) = target.address_of_node(id) else {
            return Ok(true);
        };
        let mut connection = target.open(&address).await?;
        let now = run_id_of(&mut connection).await?.unwrap_or_default();
        if !run.is_empty() && !now.is_empty() && now != *run {
            return Ok(true);
        }
    }
    Ok(false)
}
