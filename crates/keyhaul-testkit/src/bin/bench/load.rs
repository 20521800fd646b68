//! A writer like `redis-benchmark -P 16`: some connections, each with sixteen commands on their way, as fast as the
//! server answers; SET of 100 bytes and INCR in turn, over 100,000 keys each.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use keyhaul_testkit::Server;

const CONNECTIONS: usize = 16;
const PIPELINE: usize = 16;
const KEYS: u64 = 100_000;

/// A thread that writes until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Load {
    pub(crate) fn start(server: &Server) -> Load {
        let connect = |_| UnixStream::connect(server.socket()).expect("the server is there");
        let mut streams: Vec<UnixStream> = (0..CONNECTIONS).map(connect).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || run(&mut streams, &stop)
        });
        Load { stop, thread }
    }

    /// Ends it; commands a second.
    pub(crate) fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server answers")
    }
}

fn run(streams: &mut [UnixStream], stop: &AtomicBool) -> f64 {
    let started = Instant::now();
    let mut answered = 0;
    let mut number = 0;
    let mut batch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for stream in &mut *streams {
            batch.clear();
            for _ in 0..PIPELINE {
                number += 1;
                push(&mut batch, number);
            }
            stream.write_all(&batch).expect("commands are taken");
        }
        for stream in &mut *streams {
            read_replies(stream);
            answered += PIPELINE;
        }
    }
    answered as f64 / started.elapsed().as_secs_f64()
}

fn push(batch: &mut Vec<u8>, number: u64) {
    // Keys in an order without pattern.
    let key = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % KEYS;
    let command = if number.is_multiple_of(2) {
        format!("*2\r\n$4\r\nINCR\r\n$14\r\ncounter:{key:06}\r\n")
    } else {
        format!("*3\r\n$3\r\nSET\r\n$11\r\nload:{key:06}\r\n$100\r\n{number:0>100}\r\n")
    };
    batch.extend_from_slice(command.as_bytes());
}

/// Reads as many replies as commands were sent: each is one line.
fn read_replies(stream: &mut UnixStream) {
    let mut lines = 0;
    let mut buffer = [0; 4096];
    while lines < PIPELINE {
        let length = stream.read(&mut buffer).expect("commands are answered");
        assert_ne!(length, 0, "the server has closed");
        let read = &buffer[..length];
        assert!(!read.contains(&b'-'), "{}", String::from_utf8_lossy(read));
        lines += read.iter().filter(|&&byte| byte == b'\n').count();
    }
}
