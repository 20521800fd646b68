//! A server that may die of what it is sent, and what it answers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use keyhaul_testkit::redis::{Cmd, cmd};
use keyhaul_testkit::{Server, Version};

/// The longest that a healthy server needs for what is sent here.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take to write its report after it has closed the connection.
const DEATH_DEADLINE: Duration = Duration::from_secs(20);
/// What is asked for last: all replies have come when this has.
const LAST: &str = "that was the last reply";

/// What became of some commands.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All were answered. Only the line of the first reply is kept: some replies hold what was sent,
    /// and errors with bytes that are no text are more than the kit's client can read.
    Alive(String),
    /// The process has ended.
    Died(ExitStatus),
    /// It answers nothing and is still there.
    Hangs,
}

/// A server that is started anew when it dies.
pub(crate) struct Throwaway {
    pub(crate) version: Version,
    pub(crate) server: Server,
    socket: UnixStream,
}

impl Throwaway {
    pub(crate) fn start(version: Version) -> Self {
        let mut builder = Server::builder(version);
        if version.has_redis_feature(6, 2) {
            // A report on a death is enough; the test of the machine's memory takes seconds.
            builder = builder.arg("crash-memcheck-enabled", "no");
        }
        let server = builder.start();
        let socket = connect(&server);
        Self {
            version,
            server,
            socket,
        }
    }

    /// Sends all commands at once.
    pub(crate) fn ask(&mut self, commands: &[Cmd]) -> Answer {
        let mut packed: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
        packed.extend(cmd("ECHO").arg(LAST).get_packed_command());
        let end = format!("${}\r\n{LAST}\r\n", LAST.len());
        // What cannot be sent or read says that the server has ended, or hangs.
        if self.socket.write_all(&packed).is_err() {
            return self.after_silence();
        }
        let (mut replies, mut part) = (Vec::new(), [0; 64 * 1024]);
        while !replies.ends_with(end.as_bytes()) {
            match self.socket.read(&mut part) {
                Ok(bytes @ 1..) => replies.extend_from_slice(&part[..bytes]),
                _ => return self.after_silence(),
            }
        }
        let first = replies.split(|byte| *byte == b'\r').next();
        Answer::Alive(first.unwrap_or_default().escape_ascii().to_string())
    }

    fn after_silence(&mut self) -> Answer {
        let begin = Instant::now();
        while begin.elapsed() < DEATH_DEADLINE {
            if let Some(status) = self.server.has_ended() {
                return Answer::Died(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Answer::Hangs
    }

    /// The lines of its log that say why it died.
    pub(crate) fn last_words(&self) -> String {
        const WORDS: [&str; 5] = ["==>", "Guru", "nternal error", "crashed by", "Terminating"];
        // All of it: the report that follows may be long.
        let log = std::fs::read(self.server.dir().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let told = |line: &&str| WORDS.iter().any(|word| line.contains(word));
        let told: Vec<&str> = log.lines().filter(told).collect();
        told[told.len().saturating_sub(4)..].join("\n")
    }

    /// An empty server again.
    pub(crate) fn restart(&mut self) {
        self.server.restart();
        self.socket = connect(&self.server);
    }
}

fn connect(server: &Server) -> UnixStream {
    let socket = UnixStream::connect(server.socket()).expect("the server listens");
    socket
        .set_read_timeout(Some(REPLY_DEADLINE))
        .expect("a socket takes a timeout");
    socket
}

/// RESTORE of a payload that expires at `expire_at_ms`, 0: not.
pub(crate) fn restore(key: &[u8], payload: &[u8], expire_at_ms: i64) -> Cmd {
    let mut command = cmd("RESTORE");
    command.arg(key).arg(expire_at_ms).arg(payload);
    command.arg("REPLACE").arg("ABSTTL");
    command
}
