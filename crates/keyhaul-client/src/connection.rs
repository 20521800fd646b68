//! One open connection: buffers, timeouts, replies in order. Knows RESP, no command's meaning.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keyhaul_resp::{Decoder, Limits, Token, Value, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::time::timeout;

use crate::connector::Greeting;
use crate::endpoint::Address;
use crate::error::{ClientError, ServerError};
use crate::stream::Stream;
use crate::writer::Writer;

/// How much is read from a socket at once, bytes.
const READ_BYTES: usize = 128 * 1024;

/// A bulk string above this comes in parts instead of whole, bytes.
pub const WHOLE_BULK_MAX: usize = 512 * 1024;

/// How long a server may be silent while it owes us a reply. A script or a DUMP of a large key can
/// block a server for long; longer than this and the connection is opened anew.
pub(crate) const REPLY_DEADLINE: Duration = Duration::from_secs(60);

/// Who reads and writes.
#[derive(Debug)]
enum Wire {
    /// The caller does both.
    Whole(Stream),
    /// A task writes.
    Split(ReadHalf<Stream>, Writer),
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    address: Address,
    input: BytesMut,
    output: BytesMut,
    decoder: Decoder,
    deadline: Duration,
    pub(crate) greeting: Greeting,
}

impl Connection {
    /// Wraps a stream on which nothing was said yet. `deadline` bounds each read and write.
    pub(crate) fn new(stream: Stream, address: Address, deadline: Duration) -> Self {
        let limits = Limits {
            bulk_whole_max: WHOLE_BULK_MAX,
            ..Limits::default()
        };
        Self {
            wire: Wire::Whole(stream),
            address,
            input: BytesMut::new(),
            output: BytesMut::new(),
            decoder: Decoder::new(limits),
            deadline,
            greeting: Greeting::default(),
        }
    }

    /// Changes how long the server may stay silent.
    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Where the server is, as we dialled it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Commands are appended here and sent by [`Connection::flush`].
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// What has come and was not decoded yet, for what is no RESP. Only between replies.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// From here on what is sent is written by a task of its own: sending waits only while too much is unwritten.
    /// The error of a write then comes with a later one, or as that of a reply.
    pub fn write_beside(self) -> Self {
        let wire = match self.wire {
            Wire::Whole(stream) => {
                let (read, write) = tokio::io::split(stream);
                let writer = Writer::start(write, self.address.clone(), self.deadline);
                Wire::Split(read, writer)
            }
            split => split,
        };
        Self { wire, ..self }
    }

    /// Sends what was appended. When the future is dropped, what is not sent yet is still there.
    ///
    /// # Errors
    /// [`ClientError::Io`] or [`ClientError::Silent`]; the connection is of no further use then.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        if let Wire::Whole(stream) = &mut self.wire {
            let (output, deadline) = (&mut self.output, self.deadline);
            return in_time(deadline, &self.address, async {
                stream.write_all_buf(output).await?;
                stream.flush().await
            })
            .await;
        }
        let output = self.output.split().freeze();
        self.hand_over(output).await
    }

    /// Sends bytes that lie elsewhere, after what was appended: a large payload is not copied.
    ///
    /// # Errors
    /// As [`Connection::flush`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if !self.output.is_empty() {
            self.flush().await?;
        }
        if let Wire::Whole(stream) = &mut self.wire {
            return in_time(self.deadline, &self.address, stream.write_all(bytes)).await;
        }
        self.hand_over(Bytes::copy_from_slice(bytes)).await
    }

    /// The same for bytes that may be kept: they are not copied in any case.
    ///
    /// # Errors
    /// As [`Connection::flush`].
    pub async fn send_shared(&mut self, bytes: Bytes) -> Result<(), ClientError> {
        if let Wire::Whole(_) = self.wire {
            return self.send(&bytes).await;
        }
        if !self.output.is_empty() {
            self.flush().await?;
        }
        self.hand_over(bytes).await
    }

    async fn hand_over(&mut self, bytes: Bytes) -> Result<(), ClientError> {
        let Wire::Split(_, writer) = &mut self.wire else {
            return Ok(());
        };
        writer.send(bytes).await.map_err(|error| {
            error.unwrap_or_else(|| ClientError::Closed {
                address: self.address.clone(),
            })
        })
    }

    /// The next token of the replies if it has arrived already.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when the bytes are no RESP.
    pub fn buffered_token(&mut self) -> Result<Option<Token>, ClientError> {
        match self.decoder.token(&mut self.input) {
            Ok(token) => Ok(token),
            Err(e) => Err(self.protocol_error(e)),
        }
    }

    /// The next token of the replies; waits for it. RESP3 pushes must not be switched on.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Closed`], [`ClientError::Silent`], [`ClientError::Protocol`].
    pub async fn token(&mut self) -> Result<Token, ClientError> {
        loop {
            if let Some(token) = self.buffered_token()? {
                return Ok(token);
            }
            self.fill().await?;
        }
    }

    /// The next whole reply, an error reply being a value; pushes are passed over.
    ///
    /// # Errors
    /// As [`Connection::token`].
    pub async fn value(&mut self) -> Result<Value, ClientError> {
        loop {
            match self.message().await? {
                Value::Push(_) => {}
                value => return Ok(value),
            }
        }
    }

    /// What comes next, a reply or a push. Nothing is lost where it is not waited for to the end.
    ///
    /// # Errors
    /// As [`Connection::token`].
    pub(crate) async fn message(&mut self) -> Result<Value, ClientError> {
        loop {
            match self.decoder.value(&mut self.input) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => self.fill().await?,
                Err(e) => return Err(self.protocol_error(e)),
            }
        }
    }

    /// The shape of the reply that `first` begins: numbers, errors and what is missing, in their places. Strings are passed
    /// over, however long, and stand there as empty ones.
    ///
    /// # Errors
    /// As [`Connection::token`]; [`ClientError::Unexpected`] for replies of a depth that none has.
    pub async fn reply_shape(&mut self, first: Token) -> Result<Value, ClientError> {
        const DEPTH_MAX: usize = 32;
        let empty = || Value::Bulk(Bytes::new());
        let mut open: Vec<(u64, Vec<Value>)> = Vec::new();
        let mut token = first;
        loop {
            let mut value = match token {
                Token::Array(n) | Token::Set(n) | Token::Push(n) if n > 0 => {
                    open.push((n, Vec::new()));
                    None
                }
                Token::Map(n) | Token::Attribute(n) if n > 0 => {
                    open.push((n.saturating_mul(2), Vec::new()));
                    None
                }
                Token::Array(_)
                | Token::Set(_)
                | Token::Push(_)
                | Token::Map(_)
                | Token::Attribute(_) => Some(Value::Array(Vec::new())),
                Token::BulkStart(_) | Token::BulkPart(_) => None,
                Token::BulkEnd | Token::Bulk(_) | Token::Verbatim(_) | Token::BigNumber(_) => {
                    Some(empty())
                }
                Token::Simple(text) => Some(Value::Simple(text)),
                Token::Error(text) => Some(Value::Error(text)),
                Token::Int(n) => Some(Value::Int(n)),
                Token::Double(n) => Some(Value::Double(n)),
                Token::Bool(is_so) => Some(Value::Bool(is_so)),
                Token::Null => Some(Value::Null),
            };
            if open.len() > DEPTH_MAX {
                return Err(self.unexpected("a command"));
            }
            while let Some(done) = value.take() {
                let Some((left, values)) = open.last_mut() else {
                    return Ok(done);
                };
                values.push(done);
                *left -= 1;
                if *left == 0 {
                    let values = open.pop().map(|(_, values)| values);
                    value = Some(Value::Array(values.unwrap_or_default()));
                }
            }
            token = self.token().await?;
        }
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// As [`Connection::token`], and [`ClientError::Server`] for an error reply.
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Value, ClientError> {
        encode::command(&mut self.output, args);
        self.flush().await?;
        self.reply().await
    }

    /// The next whole reply with an error reply as an error.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn reply(&mut self) -> Result<Value, ClientError> {
        match self.value().await? {
            Value::Error(text) => Err(self.server_error(text)),
            value => Ok(value),
        }
    }

    /// An error reply of this server as an error.
    pub fn server_error(&self, text: Bytes) -> ClientError {
        ClientError::Server {
            address: self.address.clone(),
            error: ServerError::new(text),
        }
    }

    /// A reply that the command cannot have.
    pub fn unexpected(&self, command: &'static str) -> ClientError {
        ClientError::Unexpected {
            address: self.address.clone(),
            command,
        }
    }

    fn protocol_error(&self, error: keyhaul_resp::DecodeError) -> ClientError {
        ClientError::Protocol {
            address: self.address.clone(),
            source: Box::new(error),
        }
    }

    /// Waits for more bytes.
    ///
    /// # Errors
    /// As [`Connection::token`].
    pub async fn fill(&mut self) -> Result<(), ClientError> {
        self.input
            .reserve(READ_BYTES.max(self.decoder.bytes_wanted()));
        let (deadline, address, input) = (self.deadline, &self.address, &mut self.input);
        let read = match &mut self.wire {
            Wire::Whole(stream) => in_time(deadline, address, stream.read_buf(input)).await?,
            Wire::Split(stream, _) => in_time(deadline, address, stream.read_buf(input)).await?,
        };
        match read {
            0 => Err(ClientError::Closed {
                address: self.address.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Bounds the time of a read or write.
pub(crate) async fn in_time<T>(
    deadline: Duration,
    address: &Address,
    io: impl Future<Output = io::Result<T>>,
) -> Result<T, ClientError> {
    match timeout(deadline, io).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(ClientError::Io {
            address: address.clone(),
            source,
        }),
        Err(_) => Err(ClientError::Silent {
            address: address.clone(),
            waited: deadline,
            hint: "",
        }),
    }
}
