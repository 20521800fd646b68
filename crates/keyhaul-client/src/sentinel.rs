//! Asks Sentinels where the primary of a name is.

use crate::connector::Connector;
use crate::endpoint::Address;
use crate::error::ClientError;

/// The address of the primary, from the first Sentinel that knows it.
///
/// # Errors
/// [`ClientError::NoPrimary`] with what each Sentinel said.
pub(crate) async fn primary_address(
    connector: &Connector,
    sentinels: &[Address],
    primary_name: &str,
) -> Result<Address, ClientError> {
    let mut reasons = Vec::new();
    for sentinel in sentinels {
        match ask(connector, sentinel, primary_name).await {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => reasons.push(format!("Sentinel {sentinel} knows no '{primary_name}'")),
            Err(e) => reasons.push(crate::chain(&e)),
        }
    }
    let endpoint = connector.endpoint().to_string();
    Err(ClientError::NoPrimary {
        endpoint,
        reason: reasons.join("; "),
    })
}

async fn ask(
    connector: &Connector,
    sentinel: &Address,
    primary_name: &str,
) -> Result<Option<Address>, ClientError> {
    let mut connection = connector.connect_sentinel(sentinel).await?;
    let args: [&[u8]; 3] = [
        b"SENTINEL",
        b"GET-MASTER-ADDR-BY-NAME",
        primary_name.as_bytes(),
    ];
    let reply = connection.call(&args).await?;
    let Some([host, port]) = reply.as_list() else {
        return Ok(None);
    };
    let host = host.as_bytes().and_then(|h| std::str::from_utf8(h).ok());
    let port = port.as_int().and_then(|p| u16::try_from(p).ok());
    match (host, port) {
        (Some(host), Some(port)) => Ok(Some(Address::Tcp {
            host: host.to_owned(),
            port,
        })),
        _ => Err(connection.unexpected("SENTINEL GET-MASTER-ADDR-BY-NAME")),
    }
}
