//! Builds a value in a staging key of the target, chunk by chunk.
//!
//! A chunk is one transaction: the target has all of it or nothing. Some are in flight, so that the target
//! works on one while the next lies in its buffer.
//!
//! When a link breaks, or a chunk is refused for the moment, nobody knows what of the chunks in flight is
//! applied, and a server may even go on reading the dead link for a while. So the staging key gets another
//! name, which no command on the dead link knows, and is cut back to what is applied for certain; then the
//! chunks in flight are sent again. No chunk is applied twice, none is left out, and their order stays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Action, ClientError, TargetConnection, ValueKind};
use keyhaul_resp::{Token, Value, encode};

use crate::bigkey::chunk::{Chunk, Sealed, Words};
use crate::bigkey::finish::Expiries;
use crate::bigkey::staging::Purpose;
use crate::bigkey::{Broken, staging};
use crate::checkpoint::MARKS_KEPT;
use crate::ledger::Ledger;
use crate::patience::Patience;
use crate::progress::Progress;
use crate::site::Site;

/// Chunks in flight.
const CHUNKS_MAX: usize = 8;
/// Of a stream one of the last marks must be that of what is applied; one chunk more is on its way for a moment.
const _: () = assert!(CHUNKS_MAX + 1 < MARKS_KEPT);
/// Bytes in flight, unless a single chunk is longer.
const FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often the same chunk is sent again to a target that closes the link each time.
const REPAIRS_MAX: u32 = 20;
/// Arguments above this are sent from where they lie, bytes.
const COPY_MAX: usize = 16 * 1024;
/// Commands of a chunk go to the target in parts of about this length, bytes: it begins with the first.
const PART_BYTES: usize = 64 * 1024;

/// What is built, and where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub purpose: Purpose,
    pub target_db: u32,
}

/// How far a value is built: what the target has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Built {
    pub elements: u64,
    /// The last entry of a stream.
    pub last_id: Option<String>,
    /// The length of the staging key then, as the target said: less than the elements where some came twice.
    pub length: u64,
}

/// A chunk on its way.
#[derive(Debug)]
enum Sent {
    Chunk(Sealed),
    /// A command that passed through and cannot be sent again; what is built with it.
    Passed(Built),
}

/// Builds one value.
pub(crate) struct Builder {
    pub(crate) site: Arc<Site>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) place: Place,
    pub(crate) kind: ValueKind,
    /// How often the staging key was renamed or begun anew.
    pub(crate) generation: u32,
    /// What is applied for certain.
    pub(crate) built: Built,
    /// What may be applied of an earlier run, while that is found out.
    candidates: Vec<Built>,
    /// When fields of a hash expire that are built.
    pub(crate) expiries: Expiries,
    /// Whether what is built was taken over from a link that broke.
    was_taken_over: bool,
    /// Links since it was begun.
    links: u32,
    /// Repairs since something was applied.
    repairs: u32,
    connection: Option<TargetConnection>,
    in_flight: VecDeque<Sent>,
    flight_bytes: usize,
    patience: Patience,
}

impl Builder {
    pub(crate) fn new(
        site: Arc<Site>,
        ledger: Arc<Ledger>,
        place: Place,
        kind: ValueKind,
        retry_for: Duration,
    ) -> Self {
        Self {
            site,
            ledger,
            place,
            kind,
            generation: 0,
            built: Built::default(),
            candidates: Vec::new(),
            expiries: Expiries::default(),
            was_taken_over: false,
            links: 0,
            repairs: 0,
            connection: None,
            in_flight: VecDeque::new(),
            flight_bytes: 0,
            patience: Patience::new(retry_for),
        }
    }

    /// The staging key of this generation.
    pub(crate) fn staging(&self) -> Bytes {
        self.place.purpose.name(self.generation)
    }

    /// Begins with an empty staging key; what is there is removed.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn begin(&mut self) -> Result<(), Broken> {
        self.drop_link();
        self.built = Built::default();
        self.expiries = Expiries::default();
        (self.was_taken_over, self.links) = (false, 0);
        self.generation += 1;
        // Without transactions nothing is begun, for nothing of it could be taken back.
        self.call(&[b"MULTI"]).await?;
        self.call(&[b"EXEC"]).await?;
        self.remove_staging().await
    }

    /// Goes on with what an earlier run, or an earlier link, left: the last of `candidates`, or of a stream any
    /// of them. Returns which one it is; `None`: none of them.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn resume(&mut self, candidates: Vec<Built>) -> Result<Option<Built>, Broken> {
        self.drop_link();
        self.built = candidates.last().cloned().unwrap_or_default();
        self.candidates = candidates;
        let taken_over = loop {
            match self.take_over().await {
                Ok(taken_over) => break taken_over,
                Err(e) => self.judge(e).await?,
            }
        };
        self.candidates.clear();
        Ok(taken_over.then(|| self.built.clone()))
    }

    /// Removes the staging key, and what a dead link may have made of the ones before.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn remove(&mut self) -> Result<(), Broken> {
        self.drop_link();
        self.remove_staging().await
    }

    async fn remove_staging(&mut self) -> Result<(), Broken> {
        let names = self.place.purpose.names_around(self.generation);
        let mut args: Vec<&[u8]> = vec![b"UNLINK"];
        args.extend(names.iter().map(AsRef::as_ref));
        self.call(&args).await.map(|_| ())
    }

    /// Sends a chunk; waits while too much is in flight.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn send(&mut self, chunk: Chunk) -> Result<(), Broken> {
        self.flight_bytes += chunk.bytes();
        self.in_flight.push_back(Sent::Chunk(chunk.seal()));
        let last = self.in_flight.len() - 1;
        if let Err(e) = self.transmit(last).await {
            self.repair(e).await?;
        }
        while self.in_flight.len() > CHUNKS_MAX
            || (self.flight_bytes > FLIGHT_BYTES_MAX && !self.in_flight.is_empty())
        {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Waits until all that was sent is applied.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn drain(&mut self) -> Result<(), Broken> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Whether the target can take an argument of this length at once without harm: it has neither replicas nor an
    /// append-only file, and room for three times as much. `false` where it does not tell.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn takes_at_once(&mut self, bytes: u64) -> Result<bool, Broken> {
        let mut info = String::new();
        for section in ["replication", "persistence", "memory"] {
            info += &loop {
                match async { self.link().await?.reads().info(Some(section)).await }.await {
                    Ok(text) => break text,
                    Err(e) => match self.judge(e).await {
                        Err(Broken::Refused(_)) => return Ok(false),
                        judged => judged?,
                    },
                }
            };
        }
        let number = |name: &str| -> Option<u64> {
            let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
            let (_, value) = pairs.find(|(found, _)| *found == name)?;
            value.trim_end().parse().ok()
        };
        let is_alone = [number("connected_slaves"), number("aof_enabled")] == [Some(0), Some(0)];
        let has_room = match (number("maxmemory"), number("used_memory")) {
            (Some(0), _) => true,
            (Some(most), Some(used)) => most.saturating_sub(used) / 3 >= bytes,
            _ => false,
        };
        Ok(is_alone && has_room)
    }

    /// Begins a command with an element that is too long to be held. The caller sends its arguments after
    /// the key, of which there are `arg_count`.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn open_passage(
        &mut self,
        words: Words,
        arg_count: usize,
    ) -> Result<(), Broken> {
        self.drain().await?;
        let mut head = bytes::BytesMut::new();
        encode::array_header(&mut head, words.len() + 1 + arg_count);
        words.iter().for_each(|word| encode::bulk(&mut head, word));
        encode::bulk(&mut head, &self.staging());
        self.pass(head.freeze()).await
    }

    /// Sends bytes of the command that was begun.
    ///
    /// # Errors
    /// [`Broken::Interrupted`] when the link failed: the target forgets the half command.
    pub(crate) async fn pass(&mut self, bytes: Bytes) -> Result<(), Broken> {
        match async { self.link().await?.raw().send_shared(bytes).await }.await {
            Ok(()) => Ok(()),
            Err(e) => self.interrupted(e).await,
        }
    }

    /// Ends the command that was begun and waits until it is applied.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn close_passage(
        &mut self,
        elements_after: u64,
        last_id: Option<String>,
    ) -> Result<(), Broken> {
        let (staging, length_command) = (self.staging(), self.kind.length_command());
        let sent = async {
            let raw = self.link().await?.raw();
            encode::command(raw.output(), &[b"PEXPIRE", &staging, staging::LIFE_MS]);
            encode::command(raw.output(), &[length_command, &staging]);
            raw.flush().await
        };
        if let Err(e) = sent.await {
            return self.interrupted(e).await;
        }
        self.in_flight.push_back(Sent::Passed(Built {
            elements: elements_after,
            last_id,
            length: 0,
        }));
        self.drain().await
    }

    async fn interrupted(&mut self, error: ClientError) -> Result<(), Broken> {
        self.judge(error).await?;
        Err(Broken::Interrupted)
    }

    /// One command and its answer, repeated until there is one. Only for what may be done twice, and only
    /// while nothing is in flight.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn call(&mut self, args: &[&[u8]]) -> Result<Value, Broken> {
        loop {
            match async { self.link().await?.raw().call(args).await }.await {
                Ok(value) => {
                    self.patience.success(&self.ledger);
                    return Ok(value);
                }
                Err(e) => self.judge(e).await?,
            }
        }
    }

    /// The connection to the server that owns the key, in its db.
    pub(crate) async fn link(&mut self) -> Result<&mut TargetConnection, ClientError> {
        if self.connection.is_none() {
            let target_key = &self.place.purpose.target_key;
            let address = self.site.address_of_key(target_key)?;
            let connector = self.site.routing.connector();
            let mut opened = TargetConnection::open(connector, &address, self.site.expiry).await?;
            opened.reads().select(self.place.target_db).await?;
            self.links += 1;
            self.connection = Some(opened.write_beside());
        }
        Ok(self.connection.as_mut().expect("it was just put there"))
    }

    /// Forgets the connection and all that is in flight.
    pub(crate) fn drop_link(&mut self) {
        self.connection = None;
        self.in_flight.clear();
        self.flight_bytes = 0;
    }

    /// After a failed command: a refusal that lasts is told, all else is waited out.
    ///
    /// # Errors
    /// [`Broken::Refused`] and [`Broken::Stopped`].
    pub(crate) async fn judge(&mut self, error: ClientError) -> Result<(), Broken> {
        self.connection = None;
        if let ClientError::Server { error: answer, .. } = &error
            && answer.action() == Action::GiveUp
        {
            return Err(Broken::Refused(refusal(answer)));
        }
        let site = self.site.clone();
        let recovered = site.recover(&error, &mut self.patience, &self.ledger).await;
        recovered.map_err(|_| Broken::Stopped)
    }

    async fn transmit(&mut self, index: usize) -> Result<(), ClientError> {
        let staging = self.staging();
        self.link().await?;
        let (Some(connection), Some(Sent::Chunk(chunk))) =
            (&mut self.connection, self.in_flight.get(index))
        else {
            return Ok(());
        };
        let raw = connection.raw();
        encode::command(raw.output(), &[b"MULTI"]);
        for (head, args) in chunk.commands() {
            head.encode(&staging, raw.output());
            if args.len() > COPY_MAX {
                raw.send_shared(args).await?;
            } else {
                raw.output().extend_from_slice(&args);
            }
            if raw.output().len() > PART_BYTES {
                raw.flush().await?;
            }
        }
        encode::command(raw.output(), &[b"PEXPIRE", &staging, staging::LIFE_MS]);
        encode::command(raw.output(), &[self.kind.length_command(), &staging]);
        encode::command(raw.output(), &[b"EXEC"]);
        raw.flush().await
    }

    async fn settle_oldest(&mut self) -> Result<(), Broken> {
        let replies = match self.in_flight.front() {
            None => return Ok(()),
            Some(Sent::Chunk(chunk)) => chunk.command_count() + 4,
            Some(Sent::Passed(_)) => 3,
        };
        match self.replies(replies).await {
            Ok(length) => self.built.length = length,
            Err(e) => return self.repair(e).await,
        }
        self.patience.success(&self.ledger);
        self.repairs = 0;
        match self.in_flight.pop_front() {
            Some(Sent::Chunk(chunk)) => {
                let bytes = chunk.bytes();
                self.flight_bytes -= bytes;
                Progress::add(&self.ledger.progress.bytes_copied, bytes as u64);
                self.built.elements = chunk.elements_after;
                self.built.last_id = chunk.last_id.or(self.built.last_id.take());
            }
            Some(Sent::Passed(built)) => {
                let length = self.built.length;
                self.built = Built { length, ..built };
            }
            None => {}
        }
        Ok(())
    }

    /// Reads the replies to one chunk; the first error among them counts. Returns the last number: the length of
    /// the staging key.
    async fn replies(&mut self, count: usize) -> Result<u64, ClientError> {
        let raw = self.link().await?.raw();
        let (mut refused, mut length, mut left) = (None, 0, count as u64);
        while left > 0 {
            left -= 1;
            match raw.token().await? {
                Token::Int(n) => length = n,
                // The results of EXEC, and a list in them.
                Token::Array(results) => left += results,
                Token::BulkStart(_) => while raw.token().await? != Token::BulkEnd {},
                // A group that is there was made by a chunk whose reply was lost.
                Token::Error(text) if !text.starts_with(b"BUSYGROUP") => {
                    refused = refused.or(Some(text));
                }
                _ => {}
            }
        }
        match refused {
            Some(text) => Err(raw.server_error(text)),
            None => Ok(u64::try_from(length).unwrap_or(0)),
        }
    }

    /// Opens the link again, takes the staging key over, and sends what is not applied for certain.
    async fn repair(&mut self, error: ClientError) -> Result<(), Broken> {
        let mut error = error;
        self.repairs += 1;
        if self.repairs > REPAIRS_MAX && matches!(error.action(), Action::Reconnect) {
            return Err(Broken::Refused(format!(
                "the target closed the link {REPAIRS_MAX} times over the same elements: {}",
                keyhaul_client::chain(&error)
            )));
        }
        loop {
            self.judge(error).await?;
            if self
                .in_flight
                .iter()
                .any(|sent| matches!(sent, Sent::Passed(_)))
            {
                return Err(Broken::Interrupted);
            }
            match self.send_again().await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Broken::Lost),
                Err(e) => error = e,
            }
        }
    }

    async fn send_again(&mut self) -> Result<bool, ClientError> {
        if !self.take_over().await? {
            return Ok(false);
        }
        for index in 0..self.in_flight.len() {
            self.transmit(index).await?;
        }
        Ok(true)
    }

    /// Gives the staging key a name that no dead link knows and cuts it back to what is applied. `false`: less
    /// than that is there.
    async fn take_over(&mut self) -> Result<bool, ClientError> {
        let (kind, built) = (self.kind, self.built.clone());
        self.was_taken_over = true;
        let old = self.staging();
        let new = self.place.purpose.name(self.generation + 1);
        let reads = self.link().await?;
        if built.elements == 0 {
            reads.raw().call(&[b"UNLINK", &old, &new]).await?;
            self.generation += 1;
            return Ok(true);
        }
        match reads.raw().call(&[b"RENAMENX", &old, &new]).await {
            // Renamed already, with the reply lost; the old name is a dead link's then.
            Ok(Value::Int(0)) => {
                reads.raw().call(&[b"UNLINK", &old]).await?;
            }
            Ok(_) => {}
            // Renamed already, or gone.
            Err(ClientError::Server { error, .. }) if error.mentions("no such key") => {}
            Err(e) => return Err(e),
        }
        let found = reads.reads().length(kind, &new).await;
        let length = match found {
            Err(ClientError::Server { error, .. }) if error.code() == b"WRONGTYPE" => {
                return Ok(false);
            }
            found => found?,
        };
        self.generation += 1;
        if kind == ValueKind::Stream {
            if length == built.elements {
                return Ok(true);
            }
            let Some(end) = self.end_of_stream(&new, length).await? else {
                return Ok(false);
            };
            self.built = end;
            self.forget_applied();
            return Ok(true);
        }
        // Elements of sets and hashes may be counted twice: there the length that the target acknowledged counts.
        let least = match kind {
            ValueKind::Set => built.length,
            ValueKind::Hash => {
                let now_ms = self.target_now_ms().await?;
                built.length.saturating_sub(self.expiries.due(now_ms))
            }
            _ => built.elements,
        };
        if length < least {
            return Ok(false);
        }
        if length > built.elements && kind == ValueKind::List {
            let last = (built.elements - 1).to_string();
            let raw = self.link().await?.raw();
            raw.call(&[b"LTRIM", &new, b"0", last.as_bytes()]).await?;
        }
        // Of the other types the rest is written over: the same bytes, members and fields come again.
        Ok(true)
    }

    /// The target's clock, Unix ms.
    pub(super) async fn target_now_ms(&mut self) -> Result<i64, ClientError> {
        Ok(self.link().await?.reads().time_us().await? / 1000)
    }

    /// Whether a link broke since the value was begun, so that what was acknowledged may have been lost.
    pub(super) fn had_broken_link(&self) -> bool {
        self.was_taken_over || self.links > 1
    }

    /// Drops chunks in flight that prove to be applied.
    fn forget_applied(&mut self) {
        while let Some(Sent::Chunk(chunk)) = self.in_flight.front()
            && chunk.elements_after <= self.built.elements
        {
            self.flight_bytes -= chunk.bytes();
            self.in_flight.pop_front();
        }
    }

    /// Which of the chunks in flight, or of the marks of an earlier run, a stream of this length ends with.
    /// Entries cannot be taken off its end without a trace; but their number and the last id tell which
    /// chunks were applied, as each is there as a whole.
    async fn end_of_stream(
        &mut self,
        staging: &[u8],
        length: u64,
    ) -> Result<Option<Built>, ClientError> {
        let raw = self.link().await?.raw();
        let last = raw
            .call(&[b"XREVRANGE", staging, b"+", b"-", b"COUNT", b"1"])
            .await?;
        let last = last
            .as_list()
            .and_then(|entries| entries.first()?.as_list()?.first()?.as_bytes())
            .map(|id| String::from_utf8_lossy(id).into_owned());
        let sent = self.in_flight.iter().map(|sent| match sent {
            Sent::Chunk(chunk) => Built {
                elements: chunk.elements_after,
                last_id: chunk.last_id.clone(),
                length: chunk.elements_after,
            },
            Sent::Passed(built) => built.clone(),
        });
        let mut known = sent.chain(self.candidates.iter().cloned());
        Ok(known.find(|built| built.elements == length && built.last_id == last))
    }
}

fn refusal(answer: &keyhaul_client::ServerError) -> String {
    if answer.is_forbidden() {
        return format!(
            "the target does not let it be built in pieces: {answer}; grant the key pattern ~{}* and the commands in docs/guide/permissions.md",
            staging::PREFIX
        );
    }
    if answer.mentions("maximum allowed size") {
        return format!(
            "the target takes no string of this length: {answer}; raise proto-max-bulk-len there"
        );
    }
    format!("the target refused it: {answer}")
}
