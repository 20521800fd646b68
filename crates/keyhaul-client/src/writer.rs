//! Writes to a connection beside its reading, so that a caller with much to send prepares the next while the
//! server still takes in the last.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::connection::in_time;
use crate::endpoint::Address;
use crate::error::ClientError;
use crate::stream::Stream;

/// Buffers that wait to be written; with those that wait for a place here the caller bounds what is in flight.
const QUEUE_BUFFERS: usize = 4;

/// The task that writes. What it has not written is lost with it, as with a connection that is closed.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Bytes>,
    /// `None`: it has failed, and was asked why.
    task: Option<JoinHandle<Result<(), ClientError>>>,
}

impl Writer {
    /// Begins to write; `deadline` bounds how long a buffer may take.
    pub(crate) fn start(
        mut stream: WriteHalf<Stream>,
        address: Address,
        deadline: Duration,
    ) -> Self {
        let (queue, mut buffers) = mpsc::channel::<Bytes>(QUEUE_BUFFERS);
        let task = tokio::spawn(async move {
            while let Some(buffer) = buffers.recv().await {
                in_time(deadline, &address, stream.write_all(&buffer)).await?;
                if buffers.is_empty() {
                    in_time(deadline, &address, stream.flush()).await?;
                }
            }
            Ok(())
        });
        let task = Some(task);
        Self { queue, task }
    }

    /// Hands a buffer over; waits for a place in the queue, not until it is written.
    ///
    /// # Errors
    /// What stopped the writing of an earlier one; `None` when that was told before.
    pub(crate) async fn send(&mut self, buffer: Bytes) -> Result<(), Option<ClientError>> {
        if self.queue.send(buffer).await.is_ok() {
            return Ok(());
        }
        let Some(task) = self.task.take() else {
            return Err(None);
        };
        Err(task.await.ok().and_then(Result::err))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
