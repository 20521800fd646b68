//! One ordered stream of commands into a node of the target.
//!
//! Portions are pipelined. A reply that is no success, or that shows that the target lacks what the source had, marks the keys
//! of its command; so does a broken connection with all that was on its way. A portion is settled when its replies were
//! read, or when its keys are marked and the server reads the broken connection no more.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keyhaul_client::{Action, Address, ClientError, ServerError, TargetConnection};
use keyhaul_resp::{Token, Value};
use tokio::sync::{mpsc, oneshot};

use crate::follow::applied::Share;
use crate::follow::command::{Spec, shows_absence};
use crate::follow::marks::{Marks, SourceKey};
use crate::follow::round::Round;
use crate::follow::status::ShardStatus;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::{Site, run_id_of};
use crate::target::graves::{Called, Graves, RunTag, called};

/// Portions on their way.
const WINDOW: usize = 4;
/// Portions between the applier and a lane.
pub(crate) const QUEUE: usize = 2;

/// Commands for one node.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    /// What is sent, in order.
    pub bytes: Vec<Bytes>,
    /// One for each reply.
    pub sent: Vec<Sent>,
    /// The stream is handed out up to there with it.
    pub end: u64,
    /// Settled with it.
    pub share: Option<Share>,
    /// Where the replies go that are asked for by [`Look::Answer`]. Dropped when the connection broke.
    pub answer: Option<oneshot::Sender<Vec<Value>>>,
}

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The keys of the source that are marked when it fails.
    pub keys: Keys,
    /// What its reply is looked at for.
    pub look: Look,
}

/// Keys that a command writes, found out when they are needed.
#[derive(Debug, Clone)]
pub(crate) enum Keys {
    /// None: it writes no key, or it may be repeated.
    None,
    /// Of this command of the stream, in this db.
    Of { command: Bytes, db: u32 },
    /// Of these, which are one transaction.
    OfAll(Vec<(Bytes, u32)>),
    /// These.
    Named(Vec<SourceKey>),
    /// None, and it may be executed twice: it is sent again.
    Again(Bytes),
    /// All: it deletes them, and when that is not certain everything begins again.
    Everything,
}

/// What a reply is looked at for.
#[derive(Debug)]
pub(crate) enum Look {
    /// An error.
    Errors,
    /// An error, or that the key or field was not there.
    Absence(&'static Spec),
    /// Whether this key got an expiry together with its value; it is read again then.
    Expiry,
    /// EXEC: what was executed, command by command.
    Transaction(Vec<&'static Spec>),
    /// SELECT: what follows would go to another db, so the job ends when it is refused.
    Select,
    /// Nothing: it is within a transaction, whose EXEC tells.
    Queued,
    /// An error: a library is not as it is on the source.
    Function,
    /// Nothing; an error is remarked on.
    Nothing,
    /// It goes to [`Portion::answer`].
    Answer,
}

/// Tells the keys that a command of the stream, in a db, writes, and those that it only reads.
pub(crate) type KeysOf = Box<dyn Fn(&Bytes, u32) -> (Vec<SourceKey>, Vec<SourceKey>) + Send + Sync>;

/// What all lanes of a shard have in common.
pub(crate) struct LaneTools {
    pub target: Arc<Site>,
    pub marks: Arc<Marks>,
    pub round: Arc<Round>,
    pub ledger: Arc<Ledger>,
    pub status: Arc<ShardStatus>,
    /// How the keys of a command are found.
    pub keys_of: KeysOf,
    pub retry_for: Duration,
    /// What the connections are called at the target.
    pub tag: RunTag,
}

/// A writer to one node.
pub(crate) struct CommandLane {
    tools: Arc<LaneTools>,
    node_id: String,
    inlet: mpsc::Receiver<Portion>,
    open: Option<Open>,
    /// Where it was last: a node that gave its slots away is told of no more.
    last: Option<Address>,
    /// The process that was written to first; another one may lack what it acknowledged.
    run_id: Option<String>,
    graves: Graves,
    patience: Patience,
    in_flight: VecDeque<Portion>,
    taint: Taint,
}

/// Keys that were marked when commands which read them were on their way already: what those wrote is wrong as well.
#[derive(Debug, Default)]
struct Taint {
    keys: HashSet<SourceKey>,
    /// Commands behind it were put together when the keys were marked.
    until: u64,
}

struct Open {
    connection: TargetConnection,
    address: Address,
    called: Option<Called>,
}

impl CommandLane {
    /// `run_id` is the process that holds what was written so far.
    pub(crate) fn new(
        tools: Arc<LaneTools>,
        node_id: String,
        run_id: Option<String>,
        inlet: mpsc::Receiver<Portion>,
    ) -> Self {
        let patience = Patience::new(tools.retry_for);
        Self {
            tools,
            node_id,
            inlet,
            open: None,
            last: None,
            run_id,
            graves: Graves::default(),
            patience,
            in_flight: VecDeque::new(),
            taint: Taint::default(),
        }
    }

    /// Writes until the applier is gone and all is settled, or everything begins again.
    pub(crate) async fn run(mut self) {
        let round = self.tools.round.clone();
        tokio::select! {
            () = round.ended() => {}
            _ = self.write_all() => {}
        }
    }

    async fn write_all(&mut self) -> Result<(), GaveUp> {
        loop {
            let next = if self.in_flight.is_empty() {
                match self.inlet.recv().await {
                    Some(portion) => Some(portion),
                    None => return Ok(()),
                }
            } else if self.in_flight.len() < WINDOW {
                self.inlet.try_recv().ok()
            } else {
                None
            };
            match next {
                Some(portion) => self.take(portion).await?,
                None => self.settle_oldest().await?,
            }
        }
    }

    async fn take(&mut self, portion: Portion) -> Result<(), GaveUp> {
        // Before the first command, so that nothing of it is uncertain when this fails.
        self.connect().await?;
        let sent = self.send(&portion).await;
        self.in_flight.push_back(portion);
        match sent {
            Ok(()) => Ok(()),
            Err(e) => self.broken(e).await,
        }
    }

    async fn send(&mut self, portion: &Portion) -> Result<(), ClientError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let raw = open.connection.raw();
        for piece in &portion.bytes {
            raw.send(piece).await?;
        }
        raw.flush().await
    }

    async fn settle_oldest(&mut self) -> Result<(), GaveUp> {
        let Some(mut portion) = self.in_flight.pop_front() else {
            return Ok(());
        };
        match self.read_replies(&mut portion).await {
            Ok(()) => {
                self.patience.success(&self.tools.ledger);
                let commands = portion.sent.len() as u64;
                let count = &self.tools.status.commands;
                count.fetch_add(commands, Ordering::Relaxed);
                if let Some(share) = portion.share {
                    share.settle();
                }
                Ok(())
            }
            Err(e) => {
                self.in_flight.push_front(portion);
                self.broken(e).await
            }
        }
    }

    async fn read_replies(&mut self, portion: &mut Portion) -> Result<(), ClientError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let raw = open.connection.raw();
        let mut answers = Vec::new();
        if portion.end > self.taint.until {
            self.taint.keys.clear();
        }
        for sent in &portion.sent {
            let token = loop {
                // Mostly many replies have arrived at once: no await for those.
                match raw.buffered_token()? {
                    Some(token) => break token,
                    None => raw.fill().await?,
                }
            };
            let reply = match token {
                Token::Int(n) => Value::Int(n),
                Token::Simple(text) => Value::Simple(text),
                Token::Error(text) => Value::Error(text),
                Token::Null => Value::Null,
                Token::Bulk(text) => Value::Bulk(text),
                other => raw.reply_shape(other).await?,
            };
            if self.tools.judge(sent, reply, &mut answers) {
                self.tools.mark(&sent.keys, &mut self.taint);
            } else if !self.taint.keys.is_empty() {
                self.tools.spread(&sent.keys, &mut self.taint);
            }
        }
        if let Some(answer) = portion.answer.take() {
            // Who asked may be gone.
            let _ = answer.send(answers);
        }
        Ok(())
    }

    /// The connection is of no use: marks all that was on its way, and settles it once the server reads it no more.
    async fn broken(&mut self, error: ClientError) -> Result<(), GaveUp> {
        if let Some(open) = self.open.take() {
            self.graves.put(&open.address, open.called);
        }
        let mut again = Portion::default();
        for portion in &mut self.in_flight {
            portion.answer = None;
            for sent in &mut portion.sent {
                if let Keys::Again(command) = &sent.keys {
                    again.bytes.push(command.clone());
                    again.sent.push(Sent {
                        keys: sent.keys.clone(),
                        look: std::mem::replace(&mut sent.look, Look::Queued),
                    });
                }
                self.tools.mark(&sent.keys, &mut self.taint);
            }
        }
        let tools = self.tools.clone();
        tools
            .target
            .recover(&error, &mut self.patience, &tools.ledger)
            .await?;
        self.connect().await?;
        let broken = std::mem::take(&mut self.in_flight);
        // Held until what is sent again is settled too.
        let shares: Vec<Share> = broken
            .into_iter()
            .filter_map(|portion| portion.share)
            .collect();
        if !again.sent.is_empty() {
            let sent = self.send(&again).await;
            self.in_flight.push_back(again);
            let settled = match sent {
                Ok(()) => Box::pin(self.settle_oldest()).await,
                Err(e) => Box::pin(self.broken(e)).await,
            };
            settled?;
        }
        for share in shares {
            share.settle();
        }
        Ok(())
    }

    /// Opens the connection if there is none.
    async fn connect(&mut self) -> Result<(), GaveUp> {
        while self.open.is_none() {
            let tools = self.tools.clone();
            match self.try_connect().await {
                Ok(open) => self.open = open,
                Err(e) => {
                    tools
                        .target
                        .recover(&e, &mut self.patience, &tools.ledger)
                        .await?;
                }
            }
            if self.open.is_none() && tools.round.has_ended() {
                return Err(GaveUp);
            }
        }
        Ok(())
    }

    async fn try_connect(&mut self) -> Result<Option<Open>, ClientError> {
        let target = self.tools.target.clone();
        let address = match (target.address_of_node(&self.node_id), &self.last) {
            (Ok(address), _) => address,
            // Whether it is another process now is looked at beside.
            (Err(_), Some(last)) => last.clone(),
            (Err(e), None) => return Err(e),
        };
        self.last = Some(address.clone());
        let connector = target.routing.connector();
        let mut connection = TargetConnection::open(connector, &address, target.expiry).await?;
        let run_id = run_id_of(connection.reads()).await?;
        match (&self.run_id, &run_id) {
            (Some(known), Some(now)) if known != now => {
                let reason =
                    "the target was restarted, or failed over: it may lack what it had taken";
                self.tools.round.begin_again(reason.to_owned());
                return Ok(None);
            }
            (None, Some(_)) => self.run_id = run_id,
            _ => {}
        }
        let called = called(&mut connection, Some(&self.tools.tag)).await?;
        self.graves.close(&address, &mut connection).await?;
        Ok(Some(Open {
            connection,
            address,
            called,
        }))
    }
}

impl LaneTools {
    /// Marks the keys of a command.
    fn mark(&self, keys: &Keys, taint: &mut Taint) {
        match keys {
            Keys::None | Keys::Again(_) => {}
            Keys::Of { command, db } => {
                let (written, _) = (self.keys_of)(command, *db);
                self.mark_all(written, taint);
            }
            Keys::OfAll(commands) => {
                for (command, db) in commands {
                    let (written, _) = (self.keys_of)(command, *db);
                    self.mark_all(written, taint);
                }
            }
            Keys::Everything => {
                let reason = "it is not certain whether the target has deleted all keys";
                self.round.begin_again(reason.to_owned());
            }
            Keys::Named(keys) => self.mark_all(keys.clone(), taint),
        }
    }

    fn mark_all(&self, keys: Vec<SourceKey>, taint: &mut Taint) {
        for key in keys {
            taint.keys.insert(key.clone());
            self.marks.mark(key);
        }
        taint.until = self.marks.composed();
    }

    /// A command that was executed may have read a key that was marked meanwhile.
    fn spread(&self, keys: &Keys, taint: &mut Taint) {
        let of = |command: &Bytes, db: u32| {
            let (written, read) = (self.keys_of)(command, db);
            let is_tainted = (written.len() + read.len() > 1)
                && written
                    .iter()
                    .chain(&read)
                    .any(|key| taint.keys.contains(key));
            (is_tainted, written)
        };
        let (is_tainted, written) = match keys {
            Keys::Of { command, db } => of(command, *db),
            Keys::OfAll(commands) => {
                let all = commands.iter().map(|(command, db)| of(command, *db));
                all.fold(
                    (false, Vec::new()),
                    |(is_tainted, mut keys), (also, more)| {
                        keys.extend(more);
                        (is_tainted || also, keys)
                    },
                )
            }
            Keys::None | Keys::Again(_) | Keys::Named(_) | Keys::Everything => return,
        };
        if is_tainted {
            self.mark_all(written, taint);
        }
    }

    /// Whether the reply shows that the command failed, or that the target lacks what the source had.
    fn judge(&self, sent: &Sent, reply: Value, answers: &mut Vec<Value>) -> bool {
        match (&sent.look, &reply) {
            (Look::Answer, _) => {
                answers.push(reply);
                false
            }
            (Look::Queued, _) => false,
            (Look::Select, Value::Error(text)) => {
                let text = String::from_utf8_lossy(text);
                self.ledger.halt(format!(
                    "the target cannot select a db of the source: {text}"
                ));
                true
            }
            (Look::Function, Value::Error(text)) => {
                let error = ServerError::new(text.clone());
                if error.action() != Action::GiveUp {
                    // Nobody says which libraries it has now; a snapshot brings them all.
                    self.round.begin_again(format!(
                        "the target could not take a change of the function libraries ({error})"
                    ));
                    return false;
                }
                let text = String::from_utf8_lossy(text);
                let is_gone_already = text.contains("not found");
                if !is_gone_already {
                    self.ledger
                        .functions_refused
                        .fetch_add(1, Ordering::Relaxed);
                    self.ledger.remark(format!("the target refused a change of the function libraries ({text}): they are not those of the source"));
                }
                false
            }
            (_, Value::Error(text)) => {
                self.refused(sent, &ServerError::new(text.clone()));
                true
            }
            (Look::Absence(spec), reply) => shows_absence_in(spec, reply),
            (Look::Expiry, Value::Int(n)) => *n >= 0,
            (Look::Transaction(specs), reply) => match holds_error(reply) {
                Some(text) => {
                    self.refused(sent, &ServerError::new(text));
                    true
                }
                // EXEC that was not executed.
                None => match reply.as_list() {
                    None => true,
                    Some(replies) => specs
                        .iter()
                        .zip(replies)
                        .any(|(spec, reply)| shows_absence_in(spec, reply)),
                },
            },
            _ => false,
        }
    }

    fn refused(&self, sent: &Sent, error: &ServerError) {
        match error.action() {
            Action::Moved { slot, announced } => self.target.routing.moved(slot, &announced),
            Action::GiveUp if !matches!(sent.look, Look::Expiry) => {
                let name = match &sent.keys {
                    Keys::Of { command, .. } => command_name(command),
                    _ => "a command".to_owned(),
                };
                let code = String::from_utf8_lossy(error.code()).into_owned();
                let what = match sent.keys {
                    Keys::None => "it is left out",
                    _ => "its keys are read again",
                };
                self.ledger
                    .remark(format!("the target refused {name} ({code}): {what}"));
            }
            _ => {}
        }
    }
}

/// Whether any part of the reply shows that the target lacks what the source had.
fn shows_absence_in(spec: &Spec, reply: &Value) -> bool {
    match reply {
        Value::Int(n) => shows_absence(spec, &Token::Int(*n)),
        Value::Null => shows_absence(spec, &Token::Null),
        Value::Array(replies) => {
            shows_absence(spec, &Token::Array(replies.len() as u64))
                || replies.iter().any(|reply| shows_absence_in(spec, reply))
        }
        _ => false,
    }
}

/// The first error in a reply to EXEC.
fn holds_error(reply: &Value) -> Option<Bytes> {
    let list = reply.as_list()?;
    list.iter().find_map(|value| match value {
        Value::Error(text) => Some(text.clone()),
        _ => None,
    })
}

/// The name of a command of the stream, for people.
fn command_name(command: &Bytes) -> String {
    let mut lines = command.split(|byte| *byte == b'\n').skip(2);
    let name = lines.next().unwrap_or_default();
    let name = name.strip_suffix(b"\r").unwrap_or(name);
    crate::stats::key_text(name)
}

/// Bytes of a portion that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    done: Vec<Bytes>,
    open: BytesMut,
}

/// A piece above this is not copied.
const COPY_MAX: usize = 64 * 1024;

impl Pieces {
    /// Appends bytes.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_MAX {
            return self.open.extend_from_slice(bytes);
        }
        self.close();
        self.done.push(bytes.clone());
    }

    /// Where bytes may be appended.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// All of it.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.close();
        std::mem::take(&mut self.done)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
    }
}
