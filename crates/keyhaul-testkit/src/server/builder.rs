//! What a server is to be like, before it is started.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Server;
use crate::endpoint::KIT_USER;
use crate::{Tls, Version};

/// Options of a server; [`ServerBuilder::start`] starts it.
#[derive(Debug, Clone)]
pub struct ServerBuilder {
    pub(super) version: Version,
    pub(super) mode: Mode,
    pub(super) tcp: bool,
    pub(super) tls: Option<TlsFiles>,
    bind: String,
    password: Option<String>,
    acl_users: Vec<(String, String)>,
    args: Vec<(String, String)>,
    pub(super) dump: Option<PathBuf>,
    pub(super) clock_shift_seconds: i64,
}

/// What the server program is run as; decides which ports must be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    ClusterNode,
    Sentinel,
}

#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl ServerBuilder {
    pub(crate) fn new(version: Version, mode: Mode) -> ServerBuilder {
        ServerBuilder {
            version,
            mode,
            tcp: false,
            tls: None,
            bind: "127.0.0.1".into(),
            password: None,
            acl_users: Vec::new(),
            args: Vec::new(),
            dump: None,
            clock_shift_seconds: 0,
        }
    }

    /// Sets an option as it would stand in the configuration file, without leading dashes; a later
    /// one of the same name wins, also over the kit's own. An empty value is written as `""`.
    pub fn arg(mut self, name: &str, value: impl ToString) -> ServerBuilder {
        self.args.push((name.into(), value.to_string()));
        self
    }

    /// Loads a copy of this RDB file when it starts.
    pub fn dump(mut self, rdb_file: &Path) -> ServerBuilder {
        self.dump = Some(rdb_file.into());
        self
    }

    /// Sets the server's clock ahead by so many seconds, or back. Needs a C compiler (`cc`), which building Rust
    /// programs needs too.
    pub fn clock_shift_seconds(mut self, seconds: i64) -> ServerBuilder {
        self.clock_shift_seconds = seconds;
        self
    }

    /// Listens on a free TCP port of 127.0.0.1 too (or of what [`ServerBuilder::bind`] names).
    pub fn tcp(mut self) -> ServerBuilder {
        self.tcp = true;
        self
    }

    /// Listens on this address instead of 127.0.0.1; implies [`ServerBuilder::tcp`].
    pub fn bind(mut self, address: &str) -> ServerBuilder {
        self.bind = address.into();
        self.tcp()
    }

    /// Listens on a free TLS port too. Client certificates are accepted, not demanded; for that,
    /// `.arg("tls-auth-clients", "yes")`.
    pub fn tls(self, tls: &Tls) -> ServerBuilder {
        self.tls_with_certificate(tls, &tls.server_cert(), &tls.server_key())
    }

    /// Listens on a TLS port and shows this certificate, for example the expired one.
    pub fn tls_with_certificate(mut self, tls: &Tls, cert: &Path, key: &Path) -> ServerBuilder {
        self.tls = Some(TlsFiles {
            ca: tls.ca(),
            cert: cert.into(),
            key: key.into(),
        });
        self
    }

    /// Demands this password of the default user.
    pub fn password(mut self, password: &str) -> ServerBuilder {
        self.password = Some(password.into());
        self
    }

    /// Adds a user, for example `("alice", "on >secret ~app:* +@read")`; `default` changes the
    /// default user.
    pub fn acl_user(mut self, name: &str, rules: &str) -> ServerBuilder {
        self.acl_users.push((name.into(), rules.into()));
        self
    }

    /// Listens on no plain TCP port: used where TLS takes its place.
    pub(crate) fn without_tcp(mut self) -> ServerBuilder {
        self.tcp = false;
        self
    }

    pub(crate) fn default_password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it does not; its log is printed.
    pub fn start(self) -> Server {
        Server::start_built(self)
    }

    pub(super) fn needs_kit_user(&self) -> bool {
        self.password.is_some() || !self.acl_users.is_empty()
    }

    pub(super) fn bind_address(&self) -> &str {
        &self.bind
    }

    /// The text of the configuration file.
    pub(super) fn config(&self, dir: &Path, port: u16, tls_port: u16) -> String {
        let mut text = format!(
            "port {port}\nbind {}\nunixsocket {}\ndir {}\nlogfile {}\n\
             daemonize no\nprotected-mode no\n",
            self.bind,
            dir.join("s.sock").display(),
            dir.display(),
            dir.join("log").display(),
        );
        if self.mode != Mode::Sentinel {
            text.push_str("save \"\"\nappendonly no\n");
            if self.version.has_redis_feature(7, 0) {
                text.push_str("enable-debug-command yes\n");
            }
        }
        if self.mode == Mode::ClusterNode {
            text.push_str("cluster-enabled yes\ncluster-node-timeout 5000\n");
        }
        if let Some(tls) = &self.tls {
            let _ = writeln!(
                text,
                "tls-port {tls_port}\ntls-ca-cert-file {}\n\
                 tls-cert-file {}\ntls-key-file {}\n\
                 tls-auth-clients optional",
                tls.ca.display(),
                tls.cert.display(),
                tls.key.display(),
            );
        }
        if let Some(password) = &self.password {
            let _ = writeln!(text, "requirepass {password}");
        }
        for (name, rules) in &self.acl_users {
            let _ = writeln!(text, "user {name} {rules}");
        }
        if self.needs_kit_user() {
            // Channels have permissions of their own from 6.2 on.
            let channels = if self.version.has_redis_feature(6, 2) {
                "allchannels"
            } else {
                ""
            };
            let _ = writeln!(text, "user {KIT_USER} on nopass ~* +@all {channels}");
        }
        for (name, value) in &self.args {
            let _ = writeln!(
                text,
                "{name} {}",
                if value.is_empty() { "\"\"" } else { value }
            );
        }
        text
    }
}
