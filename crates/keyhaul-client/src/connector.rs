//! Opens connections of one side: the dial, TLS, and the handshake that ends in an authenticated client.

use std::time::Duration;

use keyhaul_resp::{Value, encode};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::connection::{Connection, REPLY_DEADLINE};
use crate::endpoint::{Address, Endpoint};
use crate::error::{ClientError, ServerError};
use crate::stream::Stream;
use crate::tls;

/// How long dialling, TLS and each step of the handshake may take.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// The name under which CLIENT LIST shows our connections.
const CLIENT_NAME: &[u8] = b"keyhaul";

/// What a server said of itself in its answer to HELLO (Redis >= 6.0); all `None` on an older one.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// RESP3 is spoken on this connection.
    pub resp3: bool,
    /// `redis` or `valkey`; Valkey may call itself `redis` for compatibility.
    pub server: Option<String>,
    /// The version, as `major.minor.patch`. Valkey in compatibility mode says 7.2.4.
    pub version: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: Option<String>,
    /// `master` or `replica`.
    pub role: Option<String>,
    /// CLIENT SETNAME was refused; nothing depends on it.
    pub name_refused: bool,
}

/// Dials the servers of one endpoint with its credentials and TLS settings.
#[derive(Clone)]
pub struct Connector {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connector({})", self.endpoint)
    }
}

impl Connector {
    /// Reads the TLS files of the endpoint, if it names any.
    ///
    /// # Errors
    /// [`ClientError::TlsFile`].
    pub fn new(endpoint: Endpoint) -> Result<Self, ClientError> {
        let tls = endpoint.tls.as_ref().map(tls::connector).transpose()?;
        Ok(Self { endpoint, tls })
    }

    /// The endpoint that is dialled.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens one connection and logs in.
    ///
    /// # Errors
    /// Any [`ClientError`] but the cluster's; a wrong password is [`ClientError::Server`].
    pub(crate) async fn connect(&self, address: &Address) -> Result<Connection, ClientError> {
        let mut connection = self.dial(address).await?;
        self.greet(&mut connection).await.map_err(explain_silence)?;
        let args: [&[u8]; 3] = [b"CLIENT", b"SETNAME", CLIENT_NAME];
        match connection.call(&args).await.map_err(explain_silence) {
            Ok(_) => {}
            Err(ClientError::Server { .. }) => connection.greeting.name_refused = true,
            Err(e) => return Err(e),
        }
        connection.set_deadline(REPLY_DEADLINE);
        Ok(connection)
    }

    /// Opens one connection to a Sentinel. Sentinels often have no password where servers have one,
    /// so the login of the endpoint is only used when the Sentinel asks for one.
    pub(crate) async fn connect_sentinel(
        &self,
        address: &Address,
    ) -> Result<Connection, ClientError> {
        let mut connection = self.dial(address).await?;
        match connection.call(&[b"PING"]).await {
            Ok(_) => return Ok(connection),
            Err(ClientError::Server { error, .. }) if error.code() == b"NOAUTH" => {}
            Err(e) => return Err(explain_silence(e)),
        }
        self.greet(&mut connection).await?;
        Ok(connection)
    }

    async fn dial(&self, address: &Address) -> Result<Connection, ClientError> {
        let opening = Stream::open(address, self.tls.as_ref());
        let stream = timeout(CONNECT_DEADLINE, opening).await.map_err(|_| {
            let hint = "; check address, port and firewall";
            ClientError::Silent {
                address: address.clone(),
                waited: CONNECT_DEADLINE,
                hint,
            }
        })??;
        Ok(Connection::new(stream, address.clone(), CONNECT_DEADLINE))
    }

    /// `HELLO 3` with the login; a server that does not know it gets AUTH and stays with RESP2.
    async fn greet(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let user = self.endpoint.user.as_deref().unwrap_or("default");
        let password = self.endpoint.password.as_ref().map(|p| p.reveal());
        let mut args: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = password {
            args.extend([b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        encode::command(connection.output(), &args);
        connection.flush().await?;
        match connection.value().await? {
            Value::Error(text) => {
                let error = ServerError::new(text.clone());
                let is_login = [&b"WRONGPASS"[..], b"NOAUTH", b"DENIED"].contains(&error.code());
                if is_login || error.action() != crate::retry::Action::GiveUp {
                    return Err(connection.server_error(text));
                }
            }
            reply => {
                connection.greeting = Greeting::from_hello(&reply);
                return Ok(());
            }
        }
        if let Some(password) = password {
            let mut args: Vec<&[u8]> = vec![b"AUTH"];
            args.extend(self.endpoint.user.as_deref().map(str::as_bytes));
            args.push(password.as_bytes());
            connection.call(&args).await?;
        }
        Ok(())
    }
}

impl Greeting {
    fn from_hello(reply: &Value) -> Self {
        let mut greeting = Self {
            resp3: matches!(reply, Value::Map(_)),
            ..Self::default()
        };
        for (name, value) in reply.pairs().into_iter().flatten() {
            let text = value
                .as_bytes()
                .map(|v| String::from_utf8_lossy(v).into_owned());
            match name.as_bytes().map(|name| name.as_ref()) {
                Some(b"server") => greeting.server = text,
                Some(b"version") => greeting.version = text,
                Some(b"mode") => greeting.mode = text,
                Some(b"role") => greeting.role = text,
                _ => {}
            }
        }
        greeting
    }
}

/// Silence in the handshake mostly means that something else listens there.
fn explain_silence(error: ClientError) -> ClientError {
    match error {
        ClientError::Silent {
            address, waited, ..
        } => ClientError::Silent {
            address,
            waited,
            hint: "; is it a Redis or Valkey server, and is TLS needed (rediss://)?",
        },
        ClientError::Closed { address } => closed_at_once(address),
        ClientError::Io { address, source }
            if matches!(
                source.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
            ) =>
        {
            closed_at_once(address)
        }
        error => error,
    }
}

fn closed_at_once(address: Address) -> ClientError {
    let reason = "the server closed the connection at once; is TLS needed (rediss://)?";
    ClientError::Connect {
        address,
        source: std::io::Error::other(reason),
    }
}
