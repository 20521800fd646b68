//! A primary with replicas, watched by sentinels, all real.

use std::time::Duration;

use redis::cmd;

use crate::server::Mode;
use crate::{Server, ServerBuilder, Version, wait_until};

/// What the sentinels call the primary.
const PRIMARY_NAME: &str = "mymaster";
const DISCOVERY_DEADLINE: Duration = Duration::from_secs(60);
const FAILOVER_DEADLINE: Duration = Duration::from_secs(90);

/// A watched primary; everything is killed when it is dropped.
#[derive(Debug)]
pub struct Sentinel {
    // Sentinels first: they must not see the servers die.
    sentinels: Vec<Server>,
    servers: Vec<Server>,
}

impl Sentinel {
    /// Starts a primary with `replicas` replicas and one sentinel that knows them all.
    ///
    /// # Panics
    /// If they do not find one another within a minute.
    pub fn start(version: Version, replicas: usize) -> Sentinel {
        Sentinel::start_several(version, replicas, 1)
    }

    /// The same with several sentinels; one of them is enough to start a failover.
    ///
    /// # Panics
    /// If they do not find one another within a minute.
    pub fn start_several(version: Version, replicas: usize, sentinels: usize) -> Sentinel {
        let primary = Server::builder(version).tcp().start();
        let address = format!("127.0.0.1 {}", primary.port());
        let mut servers = vec![primary];
        for _ in 0..replicas {
            servers.push(
                Server::builder(version)
                    .tcp()
                    .arg("replicaof", &address)
                    .start(),
            );
        }
        for replica in &servers[1..] {
            wait_until("a replica is in sync", DISCOVERY_DEADLINE, || {
                replica.info("master_link_status") == "up"
            });
        }
        let sentinels: Vec<Server> = (0..sentinels)
            .map(|_| {
                ServerBuilder::new(version, Mode::Sentinel)
                    .tcp()
                    .arg("sentinel", format!("monitor {PRIMARY_NAME} {address} 1"))
                    .arg(
                        "sentinel",
                        format!("down-after-milliseconds {PRIMARY_NAME} 1000"),
                    )
                    .arg("sentinel", format!("failover-timeout {PRIMARY_NAME} 10000"))
                    .start()
            })
            .collect();
        let watched = Sentinel { sentinels, servers };
        wait_until(
            "every sentinel knows all others",
            DISCOVERY_DEADLINE,
            || {
                watched
                    .sentinels
                    .iter()
                    .all(|sentinel| watched.knows_all(sentinel))
            },
        );
        watched
    }

    /// `redis-sentinel://127.0.0.1:port[,127.0.0.1:port]/mymaster`.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis-sentinel://{}/{PRIMARY_NAME}", hosts.join(","))
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The first primary, then its replicas; a failover changes roles, not places.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A server, to stop or restart it.
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// The server that the first sentinel names as the primary now.
    ///
    /// # Panics
    /// If it names none of ours.
    pub fn primary(&self) -> &Server {
        let port = primary_port(&self.sentinels[0]);
        self.servers
            .iter()
            .find(|server| server.port() == port)
            .expect("the primary is ours")
    }

    /// Makes a replica the primary, and waits until every sentinel says so and it takes writes.
    ///
    /// # Panics
    /// If that takes more than a minute and a half.
    pub fn failover(&self) {
        let port = primary_port(&self.sentinels[0]);
        let mut client = self.sentinels[0].client();
        wait_until("a replica may take over", DISCOVERY_DEADLINE, || {
            match sentinel("FAILOVER").exec(&mut client) {
                Ok(()) => true,
                // The sentinel has not heard from the replica yet that it is in sync.
                Err(error) if error.code() == Some("NOGOODSLAVE") => false,
                Err(error) => panic!("no failover: {error}"),
            }
        });
        self.wait_until_primary_is_not(port);
    }

    /// Waits until every sentinel names another primary than the one with this port, and that one
    /// takes writes; for a test that has killed the primary.
    ///
    /// # Panics
    /// If that takes more than a minute and a half.
    pub fn wait_until_primary_is_not(&self, port: u16) {
        wait_until("the failover is done", FAILOVER_DEADLINE, || {
            let named: Vec<u16> = self.sentinels.iter().map(primary_port).collect();
            let agreed = named
                .iter()
                .all(|&named_port| named_port != port && named_port == named[0]);
            agreed && self.primary().info("role") == "master"
        });
    }

    fn knows_all(&self, node: &Server) -> bool {
        let mut client = node.client();
        let count = |what: &str, client: &mut redis::Connection| -> usize {
            let rows: Vec<redis::Value> = sentinel(what).query(client).unwrap_or_default();
            rows.len()
        };
        // The old name of the command, which every version knows.
        count("SLAVES", &mut client) == self.servers.len() - 1
            && count("SENTINELS", &mut client) == self.sentinels.len() - 1
    }
}

fn primary_port(node: &Server) -> u16 {
    let (_, port): (String, u16) = sentinel("GET-MASTER-ADDR-BY-NAME")
        .query(&mut node.client())
        .expect("the name is known");
    port
}

fn sentinel(what: &str) -> redis::Cmd {
    let mut command = cmd("SENTINEL");
    command.arg(what).arg(PRIMARY_NAME);
    command
}
