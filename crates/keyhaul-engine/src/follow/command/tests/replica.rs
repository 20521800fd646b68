//! A replica by hand, which reads the stream of a real server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keyhaul_testkit::Server;

use super::super::super::parser::Parser;
use super::super::{Args, Written};

const DEADLINE: Duration = Duration::from_secs(10);
const ACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n";

pub(super) struct Replica {
    socket: UnixStream,
    parser: Parser,
}

impl Replica {
    pub(super) fn connect(server: &Server) -> Self {
        let mut socket = UnixStream::connect(server.socket()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = Vec::new();
        socket
            .write_all(b"REPLCONF capa eof capa psync2\r\n")
            .unwrap();
        assert_eq!(line(&mut socket, &mut buffer), "+OK");
        socket.write_all(b"PSYNC ? -1\r\n").unwrap();
        let reply = line(&mut socket, &mut buffer);
        let offset = reply.rsplit(' ').next().unwrap().parse().unwrap();
        let head = line(&mut socket, &mut buffer);
        let end = match head.strip_prefix("$EOF:") {
            Some(mark) => loop {
                let mut windows = buffer.windows(mark.len());
                if let Some(at) = windows.position(|window| window == mark.as_bytes()) {
                    break at + mark.len();
                }
                read(&mut socket, &mut buffer);
            },
            None => {
                let len: usize = head[1..].parse().unwrap();
                while buffer.len() < len {
                    read(&mut socket, &mut buffer);
                }
                len
            }
        };
        let mut parser = Parser::new(offset);
        parser.push(buffer.split_off(end).into());
        // Before the child that sent a snapshot has ended, an ACK does not set the stream going: it is said again and again.
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self { socket, parser }
    }

    /// The next command.
    pub(super) fn next(&mut self) -> Written {
        let started = Instant::now();
        loop {
            if let Some(cut) = self.parser.next().unwrap() {
                let args: Args<'_> = cut.args();
                let written = Written::new(args.iter()).unwrap();
                assert_eq!(written.clone().into_bytes(), cut.to_bytes());
                return written;
            }
            assert!(started.elapsed() < DEADLINE, "nothing comes");
            let mut chunk = vec![0; 4096];
            if let Ok(len) = self.socket.read(&mut chunk) {
                assert_ne!(len, 0, "the server has closed the link");
                chunk.truncate(len);
                self.parser.push(chunk.into());
            } else {
                self.socket.write_all(ACK).unwrap();
            }
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.parser.offset()
    }
}

fn read(socket: &mut UnixStream, buffer: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    let len = socket.read(&mut chunk).unwrap();
    assert_ne!(len, 0, "the server has closed the link");
    buffer.extend_from_slice(&chunk[..len]);
}

/// The next line that is not a keep-alive, taken off the buffer.
fn line(socket: &mut UnixStream, buffer: &mut Vec<u8>) -> String {
    loop {
        match buffer.iter().position(|&byte| byte == b'\n') {
            Some(0) => {
                buffer.remove(0);
            }
            Some(end) => {
                let line: Vec<_> = buffer.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            None => read(socket, buffer),
        }
    }
}
