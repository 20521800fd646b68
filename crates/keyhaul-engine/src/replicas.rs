//! Replicas of a primary: found, and opened in its place.

use std::sync::Arc;

use keyhaul_client::{Address, ClientError, Mode, ReadConnection};

use crate::ledger::Ledger;
use crate::site::Site;

/// Opens a connection to a replica of this primary, the one that was read before if it can be. `None`: no replica can be
/// read, which is remarked.
///
/// # Errors
/// Any of the primary, which is asked for its replicas.
pub(crate) async fn open_replica(
    site: &Arc<Site>,
    primary: &Address,
    before: Option<&Address>,
    ledger: &Ledger,
) -> Result<Option<ReadConnection>, ClientError> {
    if let Some(address) = before
        && let Ok(connection) = try_replica(site, address).await
    {
        return Ok(Some(connection));
    }
    let mut connection = site.open(primary).await?;
    let info = match connection.info(Some("replication")).await {
        Ok(info) => info,
        Err(ClientError::Server { error, .. }) if error.is_forbidden() => {
            ledger.remark(format!(
                "{primary} is read itself: which replicas it has takes INFO, and it answers: {error}"
            ));
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    if !is_primary(&info) {
        ledger.remark(format!("{primary} is a replica itself, and is read"));
        return Ok(None);
    }
    for address in replicas(&info) {
        match try_replica(site, &address).await {
            Ok(connection) => {
                ledger.remark(format!("{address} is read, a replica of {primary}"));
                return Ok(Some(connection));
            }
            Err(e) => tracing::info!("replica {address}: {}", keyhaul_client::chain(&e)),
        }
    }
    ledger.remark(format!(
        "{primary} is read itself: it has no replica that can be read"
    ));
    Ok(None)
}

/// Opens a connection to a replica that has all of its primary's data.
async fn try_replica(site: &Arc<Site>, address: &Address) -> Result<ReadConnection, ClientError> {
    let mut connection = site.open(address).await?;
    if site.routing.mode() == Mode::Cluster {
        connection.read_from_replica().await?;
    }
    let info = connection.info(Some("replication")).await?;
    match info_value(&info, "master_link_status") {
        Some("up") => Ok(connection),
        _ => Err(ClientError::NoPrimary {
            endpoint: address.to_string(),
            reason: "it does not follow its primary at present".into(),
        }),
    }
}

/// The value of a field of INFO.
pub(crate) fn info_value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
}

fn is_primary(info: &str) -> bool {
    info_value(info, "role").is_none_or(|role| role == "master")
}

/// The replicas that INFO of a primary tells to be online: `slave0:ip=127.0.0.1,port=6380,state=online,...`.
fn replicas(info: &str) -> Vec<Address> {
    let of_line = |line: &str| {
        let (name, value) = line.trim_end().split_once(':')?;
        let number = name.strip_prefix("slave")?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let field = |name: &str| {
            let mut fields = value.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(n, _)| *n == name).map(|(_, value)| value)
        };
        if field("state") != Some("online") {
            return None;
        }
        let port = field("port")?.parse().ok().filter(|port| *port > 0)?;
        let host = field("ip").filter(|host| !host.is_empty())?.to_owned();
        Some(Address::Tcp { host, port })
    };
    info.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_info_tells() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:4\r\n\
            slave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=0\r\n\
            slave1:ip=10.0.0.3,port=6380,state=wait_bgsave,offset=0,lag=0\r\n\
            slave2:ip=fe80::1,port=7,state=online,offset=1,lag=1,type=replica\r\n\
            slave3:ip=10.0.0.4,port=0,state=online,offset=1,lag=1\r\n\
            slaves_waiting_psync:0\r\nmaster_failover_state:no-failover\r\n";
        let shown: Vec<String> = replicas(info).iter().map(Address::to_string).collect();
        assert_eq!(shown, ["10.0.0.2:6380", "[fe80::1]:7"]);
        assert!(is_primary(info) && !is_primary("role:slave\r\n"));
        let replica = "role:slave\r\nmaster_link_status:up\r\n";
        assert_eq!(info_value(replica, "master_link_status"), Some("up"));
    }
}
