//! Sends commands in batches, the next while the server works on the last, and keeps no reply.

use redis::{Cmd, Connection};

use crate::Server;

/// A batch is sent when it has reached so many bytes.
const BATCH_BYTES: usize = 1 << 20;

pub(super) struct Pipe {
    connection: Connection,
    batch: Vec<u8>,
    batch_commands: usize,
    /// Commands of the batch before, whose replies were not read yet.
    unanswered: usize,
}

impl Pipe {
    pub(super) fn new(server: &Server) -> Pipe {
        Pipe {
            connection: server.client(),
            batch: Vec::new(),
            batch_commands: 0,
            unanswered: 0,
        }
    }

    /// Adds a command whose reply is short: one that is not read lies in the server's memory.
    pub(super) fn push(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.batch);
        self.batch_commands += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.send();
        }
    }

    /// Waits for all replies. The connection is free for other commands then.
    ///
    /// # Panics
    /// At an error reply; also [`Pipe::push`] may meet it.
    pub(super) fn settle(&mut self) -> &mut Connection {
        self.send();
        self.take_replies();
        &mut self.connection
    }

    fn send(&mut self) {
        // The client refuses to send nothing.
        if self.batch.is_empty() {
            return;
        }
        self.connection
            .send_packed_command(&self.batch)
            .expect("the server takes commands");
        self.take_replies();
        self.unanswered = std::mem::take(&mut self.batch_commands);
        self.batch.clear();
    }

    fn take_replies(&mut self) {
        for _ in 0..std::mem::take(&mut self.unanswered) {
            let reply = self.connection.recv_response();
            reply
                .and_then(redis::Value::extract_error)
                .unwrap_or_else(|error| panic!("a giant is refused: {error}"));
        }
    }
}
