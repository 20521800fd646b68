//! How the kit itself reaches a server: by its Unix socket, whatever the test connects to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{Client, Connection, RedisResult};

/// The kit's own ACL user, made where the default user needs a password or may be restricted.
pub(crate) const KIT_USER: &str = "keyhaul-testkit";
/// The longest wait for one reply: far above what a healthy server needs, so a hang fails with a
/// name.
const REPLY_DEADLINE: Duration = Duration::from_secs(120);

/// A way to open connections to one server; cheap to clone and to send to another thread.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    socket: PathBuf,
    as_kit_user: bool,
}

impl Endpoint {
    pub(crate) fn new(socket: &Path, as_kit_user: bool) -> Endpoint {
        Endpoint {
            socket: socket.to_path_buf(),
            as_kit_user,
        }
    }

    /// Opens a connection that has selected `db`.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn connection(&self, db: u32) -> Connection {
        self.try_connection(db)
            .unwrap_or_else(|error| panic!("cannot connect to {self:?}: {error}"))
    }

    /// Opens a connection, or says why not.
    ///
    /// # Errors
    /// Whatever the client reports: no socket, still loading, no such db.
    pub fn try_connection(&self, db: u32) -> RedisResult<Connection> {
        let user = if self.as_kit_user {
            format!("&user={KIT_USER}&pass=any")
        } else {
            String::new()
        };
        let url = format!("redis+unix://{}?db={db}{user}", self.socket.display());
        let connection = Client::open(url)?.get_connection()?;
        connection.set_read_timeout(Some(REPLY_DEADLINE))?;
        Ok(connection)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.socket.display())
    }
}
