//! A payload that is too large to be held, from a live source: it passes on while it arrives.
//!
//! What passes on is what the target reads: the same bytes, or the same with a new footer. Where the value
//! must be encoded anew its new length has to be known before the first byte goes out, so it lies in a
//! nameless temporary file meanwhile.

use bytes::{Bytes, BytesMut};
use keyhaul_client::{ClientError, ReadConnection};
use keyhaul_rdb::{Crc64, FOOTER_BYTES, Form, Refusal, Route, is_valkey_version};
use tokio::sync::{mpsc, oneshot};

use crate::entry::{Entry, Part, Parts, Payload, Usage, Verdict};
use crate::route::Outlet;
use crate::source::stored::{Spool, StoredKey};

/// Parts of a large payload between the two connections.
const PARTS_MAX: usize = 2;

/// A key whose payload is too large to be held.
pub(crate) struct LargeKey<'a> {
    pub db: u32,
    pub key: &'a Bytes,
    pub payload_bytes: u64,
    pub expire_at_ms: Option<i64>,
}

/// The way of one payload to its lane.
pub(crate) struct Passage {
    /// `None`: the lane has its verdict already.
    lane: Option<mpsc::Sender<Part>>,
    answer: oneshot::Receiver<Verdict>,
}

impl Passage {
    /// Announces a payload of `payload_bytes` bytes to the lane of its key.
    pub(crate) async fn open(
        outlet: &Outlet,
        entry: impl FnOnce(Payload) -> Entry,
        form: Form,
        payload_bytes: u64,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        let (verdict, answer) = oneshot::channel();
        let payload = Payload::Parts(Parts {
            form,
            payload_bytes,
            parts,
            verdict,
        });
        outlet.send(vec![entry(payload)]).await;
        Self {
            lane: Some(sender),
            answer,
        }
    }

    /// Hands on the next bytes. `false`: nobody wants them any more.
    pub(crate) async fn part(&mut self, bytes: Bytes) -> bool {
        if let Some(lane) = &self.lane
            && !bytes.is_empty()
            && lane.send(Part::Bytes(bytes)).await.is_err()
        {
            self.lane = None;
        }
        self.lane.is_some()
    }

    /// Says that all bytes went over and belong together, and waits for what becomes of them.
    pub(crate) async fn commit(mut self) -> Verdict {
        if let Some(lane) = self.lane.take() {
            // A lane that is gone says so by its verdict.
            let _ = lane.send(Part::Commit).await;
        }
        self.answer.await.unwrap_or(Verdict::Again)
    }

    /// Nothing must be written.
    pub(crate) async fn abort(mut self) -> Verdict {
        self.lane = None;
        self.answer.await.unwrap_or(Verdict::Again)
    }
}

/// Passes one payload on to its lane while it arrives, and waits for what becomes of it.
///
/// # Errors
/// Those of the source's connection; the lane drops the half key then.
pub(crate) async fn pass_through(
    connection: &mut ReadConnection,
    outlet: &mut Outlet,
    large: LargeKey<'_>,
) -> Result<Verdict, ClientError> {
    let Some(first) = connection.next_part().await? else {
        connection.finish_large().await?;
        return Ok(Verdict::Again);
    };
    // The first byte of a payload is its type.
    let type_byte = first.first().copied().unwrap_or_default();
    if !outlet.takes_type(&first) {
        drain(connection).await?;
        if let Some(entry) = outlet.absent(large.db, large.key) {
            outlet.send_and_settle(vec![entry]).await;
        }
        return Ok(Verdict::Settled);
    }
    let conversion = outlet.conversion.clone();
    let version = outlet.source_version();
    let form = Form::of(type_byte, version);
    let admitted = match form {
        Some(form) => conversion
            .reader
            .admit(form, version, first.get(1..).unwrap_or_default())
            .map(|to| (form, to)),
        None => Err(Refusal::UnknownType { type_byte, version }),
    };
    let (form, to) = match admitted {
        Ok(forms) => forms,
        Err(refusal) => {
            drain(connection).await?;
            outlet.list(large.db, large.key, refusal.to_string());
            return Ok(Verdict::Settled);
        }
    };
    if to != form {
        return reencode(connection, outlet, &large, (form, version), first).await;
    }
    let restamps = conversion.reader.route(form, version) != Route::Pass;
    let mut footer = Footer::new(conversion.reader.rdb_version, version, restamps);
    let entry = |payload| {
        outlet.entry(
            large.db,
            large.key.clone(),
            payload,
            large.expire_at_ms,
            Usage::default(),
        )
    };
    let mut passage = Passage::open(outlet, entry, form, large.payload_bytes).await;
    let mut next = Some(first);
    while let Some(part) = next {
        for part in footer.push(part) {
            passage.part(part).await;
        }
        next = connection.next_part().await?;
    }
    let is_settled = connection.finish_large().await?;
    let last = footer.finish();
    let is_sound = last.is_some();
    passage.part(last.unwrap_or_default()).await;
    match is_settled && is_sound {
        true => Ok(passage.commit().await),
        false => Ok(passage.abort().await),
    }
}

/// Reads a payload to its end and drops it.
pub(crate) async fn drain(connection: &mut ReadConnection) -> Result<bool, ClientError> {
    while connection.next_part().await?.is_some() {}
    connection.finish_large().await
}

/// Keeps the payload in a file until all of it is there, and sends it from there.
async fn reencode(
    connection: &mut ReadConnection,
    outlet: &mut Outlet,
    large: &LargeKey<'_>,
    (form, version): (Form, u16),
    first: Bytes,
) -> Result<Verdict, ClientError> {
    let mut spool = Spool::new();
    let mut footer = Footer::new(version, version, true);
    let mut next = Some(first.slice(1..));
    footer.crc.update(first.get(..1).unwrap_or_default());
    footer.original.update(first.get(..1).unwrap_or_default());
    while let Some(part) = next {
        for part in footer.push(part) {
            spool.write(part).await;
        }
        next = connection.next_part().await?;
    }
    let is_settled = connection.finish_large().await?;
    let is_sound = footer.finish().is_some();
    let stored = match spool.finish().await {
        Ok(stored) => stored,
        Err(reason) => {
            outlet.list(large.db, large.key, reason);
            return Ok(Verdict::Settled);
        }
    };
    if !is_settled || !is_sound {
        return Ok(Verdict::Again);
    }
    let record = StoredKey {
        db: large.db,
        key: large.key.clone(),
        expire_at_ms: large.expire_at_ms,
        usage: Usage::default(),
        form,
        version,
    };
    Ok(stored.send(outlet, &record).await)
}

/// Keeps the last bytes of a payload back, to put another footer in their place.
struct Footer {
    /// Of what goes out.
    crc: Crc64,
    /// Of what came in.
    original: Crc64,
    held: BytesMut,
    version: u16,
    /// Of what comes in, as it was taken for.
    assumed: u16,
    replaces: bool,
}

impl Footer {
    fn new(version: u16, assumed: u16, replaces: bool) -> Self {
        Self {
            crc: Crc64::default(),
            original: Crc64::default(),
            held: BytesMut::new(),
            version,
            assumed,
            replaces,
        }
    }

    /// What can go out now.
    fn push(&mut self, part: Bytes) -> [Bytes; 2] {
        if !self.replaces {
            return [part, Bytes::new()];
        }
        let out = match part.len().checked_sub(FOOTER_BYTES) {
            Some(upto) => {
                let held = self.held.split().freeze();
                self.held
                    .extend_from_slice(part.get(upto..).unwrap_or_default());
                [held, part.slice(..upto)]
            }
            None => {
                self.held.extend_from_slice(&part);
                let upto = self.held.len().saturating_sub(FOOTER_BYTES);
                [self.held.split_to(upto).freeze(), Bytes::new()]
            }
        };
        for part in &out {
            self.crc.update(part);
            self.original.update(part);
        }
        out
    }

    /// The new footer; `None`: the payload did not have the checksum that it should have, or is of the
    /// other family than its source was taken for, which gives its type another meaning.
    fn finish(&mut self) -> Option<Bytes> {
        if !self.replaces {
            return Some(Bytes::new());
        }
        let (version, checksum) = self.held.split_first_chunk::<2>()?;
        let came = u16::from_le_bytes(*version);
        if is_valkey_version(came) != is_valkey_version(self.assumed) {
            return None;
        }
        self.original.update(version);
        let expected = u64::from_le_bytes(*checksum.first_chunk()?);
        if expected != 0 && expected != self.original.value() {
            return None;
        }
        let version = self.version.to_le_bytes();
        self.crc.update(&version);
        let mut footer = BytesMut::with_capacity(FOOTER_BYTES);
        footer.extend_from_slice(&version);
        footer.extend_from_slice(&self.crc.value().to_le_bytes());
        Some(footer.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DUMP of SET k v on Redis 7.0.
    const PAYLOAD: &[u8] = b"\x00\x01v\x0a\x00\x32\xfa\x1f\xb5\x4e\x2f\x8c\x11";

    #[test]
    fn another_footer_wherever_the_parts_end() {
        let whole = {
            let mut whole = PAYLOAD[..3].to_vec();
            whole.extend_from_slice(&9u16.to_le_bytes());
            whole.extend_from_slice(&keyhaul_rdb::crc64(&whole).to_le_bytes());
            whole
        };
        let mut original = PAYLOAD.to_vec();
        let checksum = keyhaul_rdb::crc64(&original[..5]).to_le_bytes();
        original[5..].copy_from_slice(&checksum);
        for n in 1..original.len() {
            let mut footer = Footer::new(9, 10, true);
            let mut out = Vec::new();
            for part in original.chunks(n) {
                for part in footer.push(Bytes::copy_from_slice(part)) {
                    out.extend_from_slice(&part);
                }
            }
            out.extend_from_slice(&footer.finish().expect("sound"));
            assert_eq!(out, whole, "parts of {n} bytes");
        }
        let mut footer = Footer::new(9, 80, true);
        footer.push(Bytes::from(original.clone()));
        assert_eq!(footer.finish(), None, "of the other family");
        original[1] ^= 1;
        let mut footer = Footer::new(9, 10, true);
        footer.push(Bytes::from(original));
        assert_eq!(footer.finish(), None);
    }
}
