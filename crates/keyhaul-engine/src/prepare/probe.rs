//! Connects to one end and gathers the facts of each of its primaries.

use keyhaul_client::{
    Action, ClientError, Connector, Degraded, Endpoint, ExpiryCommand, Mode, ReadConnection,
    Routing, ServerFacts,
};

use crate::options::CopyOptions;
use crate::patience::sleep_before_retry;
use crate::plan::{NodePlan, PlanError, SideKind, SideName, SidePlan};
use crate::site::Site;

/// One end, probed, with a connection to its first primary.
#[derive(Debug)]
pub(crate) struct Probed {
    pub site: Site,
    pub plan: SidePlan,
    pub connection: ReadConnection,
}

/// Probes one end. A server that is loading or without quorum is waited for; one that cannot be
/// reached is not, for a wrong address is more likely than a bad moment.
pub(crate) async fn side(
    side: SideName,
    endpoint: Endpoint,
    options: &CopyOptions,
) -> Result<Probed, PlanError> {
    let began = std::time::Instant::now();
    let mut backoff = keyhaul_client::Backoff::default();
    loop {
        let error = match gather(side, endpoint.clone()).await {
            Ok(probed) => return Ok(probed),
            Err(error) => error,
        };
        let is_passing = matches!(error, ClientError::Server { .. })
            && matches!(error.action(), Action::Wait | Action::Refresh);
        if !is_passing || began.elapsed() >= options.retry_for {
            return Err(PlanError::Client {
                side,
                error: Box::new(error),
            });
        }
        sleep_before_retry(&mut backoff, side, &error).await;
    }
}

async fn gather(side: SideName, endpoint: Endpoint) -> Result<Probed, ClientError> {
    let shown = endpoint.to_string();
    let connector = Connector::new(endpoint)?;
    let (routing, _) = Routing::probe(connector).await?;
    let topology = routing.topology();
    let (mut primaries, mut keys) = (Vec::new(), Some(0));
    let mut expiry = ExpiryCommand::Absolute;
    let mut first = None;
    for node in &topology.primaries {
        let mut connection =
            ReadConnection::open(routing.connector(), &node.address, expiry).await?;
        let mut facts = ServerFacts::gather(&mut connection).await?;
        let (command, forbidden) = connection.find_expiry_command().await?;
        if command == ExpiryCommand::Relative {
            expiry = ExpiryCommand::Relative;
        }
        if let Some(error) = forbidden {
            facts.lacks(
                "PEXPIRETIME",
                &error,
                "expiries are worked out from PTTL and TIME",
            );
        }
        if topology.mode == Mode::Cluster && !topology.tells_moves {
            facts.degraded.push(Degraded {
                command: "CLUSTER NODES",
                answer: "refused".into(),
                consequence: "slots are only seen to move when they have moved",
            });
        }
        let here = facts
            .keyspace
            .as_ref()
            .map(|dbs| dbs.iter().map(|(_, keys)| keys).sum::<u64>());
        keys = keys.zip(here).map(|(sum, here)| sum + here);
        primaries.push(NodePlan {
            address: node.address.to_string(),
            facts,
        });
        first.get_or_insert(connection);
    }
    let connection = first.ok_or_else(|| ClientError::NoPrimary {
        endpoint: shown.clone(),
        reason: "the cluster has no primary with slots".into(),
    })?;
    let plan = SidePlan {
        endpoint: shown,
        kind: SideKind::Servers(topology.mode),
        primaries,
        keys,
    };
    Ok(Probed {
        site: Site {
            side,
            routing,
            expiry,
        },
        plan,
        connection,
    })
}

impl Probed {
    /// An error of this end as the plan's.
    pub(crate) fn error(&self, error: ClientError) -> PlanError {
        PlanError::Client {
            side: self.site.side,
            error: Box::new(error),
        }
    }
}
