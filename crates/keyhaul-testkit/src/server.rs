//! One real server process in a folder of its own.
//!
//! The kit talks to it by its Unix socket; TCP and TLS ports are for the code under test.

mod builder;
mod clock;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use redis::Connection;
use tempfile::TempDir;

pub(crate) use builder::Mode;
pub use builder::ServerBuilder;

use crate::{Endpoint, Version, ports, proc, spawn, tempdir};

/// How long a server may take until it answers; loading a large dump included.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long SHUTDOWN SAVE may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(60);
/// How often a start is tried with other ports when one was taken in between.
const PORT_ATTEMPTS_MAX: u32 = 20;
/// How much of the log is printed.
const LOG_BYTES_MAX: usize = 8 * 1024;
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// A running server; killed, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Server {
    builder: ServerBuilder,
    port: u16,
    tls_port: u16,
    endpoint: Endpoint,
    child: Option<Child>,
    // The last field: the folder is removed when the process is gone.
    dir: TempDir,
}

enum StartError {
    PortTaken,
    Other(String),
}

impl Server {
    /// Starts a server that listens on a Unix socket only.
    ///
    /// # Panics
    /// If the version is not there or the server does not start.
    pub fn start(version: Version) -> Server {
        Server::builder(version).start()
    }

    /// Options for a server of this version.
    pub fn builder(version: Version) -> ServerBuilder {
        ServerBuilder::new(version, Mode::Standalone)
    }

    fn start_built(builder: ServerBuilder) -> Server {
        let version = builder.version;
        assert!(
            version.available(),
            "{} is missing (scripts/servers all)",
            version.server_binary().display()
        );
        for _ in 0..PORT_ATTEMPTS_MAX {
            let dir = tempdir::temp_dir();
            let endpoint = Endpoint::new(&dir.path().join("s.sock"), builder.needs_kit_user());
            let free_port = match builder.mode {
                Mode::ClusterNode => ports::free_cluster_port,
                Mode::Standalone | Mode::Sentinel => ports::free_port,
            };
            let port = if builder.tcp { free_port() } else { 0 };
            let tls_port = if builder.tls.is_some() {
                free_port()
            } else {
                0
            };
            let mut server = Server {
                builder: builder.clone(),
                port,
                tls_port,
                endpoint,
                child: None,
                dir,
            };
            let config = server.builder.config(server.dir(), port, tls_port);
            std::fs::write(server.config_file(), config)
                .expect("a temporary folder can be written");
            if let Some(rdb_file) = &server.builder.dump {
                std::fs::copy(rdb_file, server.dir().join("dump.rdb"))
                    .unwrap_or_else(|error| panic!("{}: {error}", rdb_file.display()));
            }
            match server.launch() {
                Ok(()) => return server,
                Err(StartError::PortTaken) => {}
                Err(StartError::Other(cause)) => {
                    panic!("{version} did not start: {cause}\n{}", server.log_tail());
                }
            }
        }
        panic!("{version} did not start: {PORT_ATTEMPTS_MAX} ports in a row were taken");
    }

    fn launch(&mut self) -> Result<(), StartError> {
        // A socket of a killed process would be taken for the new one's.
        drop(std::fs::remove_file(self.socket()));
        let mut command = spawn::bound_command(&self.version().server_binary());
        command.arg(self.config_file()).current_dir(self.dir());
        if self.builder.mode == Mode::Sentinel {
            command.arg("--sentinel");
        }
        if self.builder.clock_shift_seconds != 0 {
            clock::shift(&mut command, self.builder.clock_shift_seconds, self.dir());
        }
        let output = std::fs::File::create(self.dir().join("output")).expect("the folder is ours");
        let errors = output.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = spawn::spawn(command).map_err(|error| StartError::Other(error.to_string()))?;
        self.child = Some(child);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), StartError> {
        let started = Instant::now();
        loop {
            if let Ok(mut connection) = self.endpoint.try_connection(0)
                && redis::cmd("PING").exec(&mut connection).is_ok()
            {
                return Ok(());
            }
            let child = self.child.as_mut().expect("the process was just started");
            if let Some(status) = child.try_wait().expect("our child can be waited for") {
                self.child = None;
                let taken = self.log_tail().contains("Address already in use");
                return Err(if taken {
                    StartError::PortTaken
                } else {
                    StartError::Other(status.to_string())
                });
            }
            if started.elapsed() > START_DEADLINE {
                return Err(StartError::Other(format!(
                    "no answer within {START_DEADLINE:?}"
                )));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The version it was started as.
    pub fn version(&self) -> Version {
        self.builder.version
    }

    /// Where a client under test connects: the TLS port if there is one, else the TCP port if there
    /// is one, else the Unix socket. Never holds credentials.
    pub fn uri(&self) -> String {
        match (self.tls_port, self.port) {
            (0, 0) => format!("unix://{}", self.socket().display()),
            (0, _) => self.tcp_uri(),
            _ => format!("rediss://{}:{}", self.host(), self.tls_port),
        }
    }

    /// `redis://127.0.0.1:port`.
    ///
    /// # Panics
    /// If the server was not asked to listen on TCP.
    pub fn tcp_uri(&self) -> String {
        format!("redis://{}:{}", self.host(), self.port())
    }

    /// The plain TCP port.
    ///
    /// # Panics
    /// If the server was not asked to listen on TCP.
    pub fn port(&self) -> u16 {
        assert_ne!(
            self.port, 0,
            "the server listens on no TCP port: use .tcp()"
        );
        self.port
    }

    /// The TLS port.
    ///
    /// # Panics
    /// If the server was not asked for TLS.
    pub fn tls_port(&self) -> u16 {
        assert_ne!(
            self.tls_port, 0,
            "the server listens on no TLS port: use .tls()"
        );
        self.tls_port
    }

    /// The port other nodes know it by: TLS where it has no other.
    pub(crate) fn any_port(&self) -> u16 {
        if self.port == 0 {
            self.tls_port()
        } else {
            self.port
        }
    }

    /// The default user's password.
    pub(crate) fn password(&self) -> Option<&str> {
        self.builder.default_password()
    }

    /// The host as it stands in a URI.
    fn host(&self) -> String {
        let address = self.builder.bind_address();
        if address.contains(':') {
            format!("[{address}]")
        } else {
            address.into()
        }
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("s.sock")
    }

    /// The server's folder: its dump, its log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn config_file(&self) -> PathBuf {
        self.dir().join("server.conf")
    }

    /// The process.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server was stopped").id()
    }

    /// How the process ended, if it has ended by itself.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the server was stopped");
        child.try_wait().expect("our child can be waited for")
    }

    /// A way to open connections from other threads.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// A connection of the kit's own client to db 0.
    pub fn client(&self) -> Connection {
        self.connection(0)
    }

    /// A connection of the kit's own client to `db`.
    pub fn connection(&self, db: u32) -> Connection {
        self.endpoint.connection(db)
    }

    /// A field of INFO as text.
    ///
    /// # Panics
    /// If there is no such field.
    pub fn info(&self, field: &str) -> String {
        let text: String = redis::cmd("INFO")
            .arg("all")
            .query(&mut self.client())
            .expect("INFO all is answered");
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("INFO has no field {field}"))
            .trim()
            .into()
    }

    /// CPU seconds (user and system, steps of 10 ms) since the process started; forked children not
    /// counted.
    pub fn cpu_seconds(&self) -> f64 {
        proc::state_and_cpu_seconds(self.pid())
            .expect("the server runs")
            .1
    }

    /// CPU seconds of children that have ended: those that saved a snapshot.
    pub fn children_cpu_seconds(&self) -> f64 {
        proc::children_cpu_seconds(self.pid()).expect("the server runs")
    }

    /// Resident memory.
    pub fn rss_bytes(&self) -> u64 {
        proc::status_bytes(self.pid(), "VmRSS").expect("the server runs")
    }

    /// Freezes the process: it takes connections and answers nothing.
    pub fn pause(&self) {
        proc::signal(self.pid(), "STOP");
    }

    /// Lets a frozen process go on.
    pub fn resume(&self) {
        proc::signal(self.pid(), "CONT");
    }

    /// Kills the process as a power cut would; the folder stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our child can be killed");
            child.wait().expect("our child can be waited for");
        }
    }

    /// Saves `dump.rdb` and ends the process.
    pub fn shutdown_save(&mut self) {
        let mut connection = self.client();
        // The reply to a shutdown that works is a closed connection.
        drop(redis::cmd("SHUTDOWN").arg("SAVE").exec(&mut connection));
        let mut child = self.child.take().expect("the server runs");
        let started = Instant::now();
        while child
            .try_wait()
            .expect("our child can be waited for")
            .is_none()
        {
            if started.elapsed() > SHUTDOWN_DEADLINE {
                self.child = Some(child);
                panic!(
                    "SHUTDOWN SAVE did not end within {SHUTDOWN_DEADLINE:?}\n{}",
                    self.log_tail()
                );
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Starts the process again on the same ports, killing it first if it runs. It loads the dump,
    /// if one was saved.
    ///
    /// # Panics
    /// If it does not start, also if somebody took its port in the meantime.
    pub fn restart(&mut self) {
        self.stop();
        match self.launch() {
            Ok(()) => {}
            Err(StartError::PortTaken) => {
                panic!("the server's port was taken while it was stopped")
            }
            Err(StartError::Other(cause)) => panic!("no restart: {cause}\n{}", self.log_tail()),
        }
    }

    /// The end of the server's log and of what it printed.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        for name in ["output", "log"] {
            let bytes = std::fs::read(self.dir().join(name)).unwrap_or_default();
            let tail = &bytes[bytes.len().saturating_sub(LOG_BYTES_MAX)..];
            text.push_str(&String::from_utf8_lossy(tail));
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of {} at {}\n{}---",
                self.version(),
                self.uri(),
                self.log_tail()
            );
        }
        if let Some(mut child) = self.child.take() {
            // Errors mean that it has ended by itself; a panic in a drop would hide the test's own.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
