//! Values that are too large for DUMP: a digest of all their elements, read page by page in bounded memory, and
//! the first differences where two digests differ.
//!
//! What is read is of one state of the value: WATCH holds from the first page to the last, and what WATCH does not
//! tell of a stream, its groups, is read before its entries and after them. How a value is read, and why so, is as in
//! [`crate::bigkey`].
//!
//! - [`page`] asks for pages of one value and takes them in, a long element in parts.
//! - [`hash`] makes one number of elements.
//! - [`members`], [`ordered`] and [`stream`] read one kind of value each.
//! - [`differences`] finds out where two values differ.

mod cursor;
mod differences;
mod hash;
mod lookups;
mod members;
mod ordered;
mod page;
mod pending;
mod stream;

use bytes::Bytes;
use keyhaul_client::{ClientError, KeyExpiry, ReadConnection, ValueKind};
use keyhaul_rdb::StreamDetail;
use tokio_util::sync::CancellationToken;

use crate::progress::BigKeyProgress;
use crate::throttle::Throttle;

pub(crate) use differences::{BigSide, differences};
use page::{Halt, Pace, PageReader};

/// How often a value is read of which more elements came than there are.
const READS_MAX: u32 = 3;

/// What a value is, read by element. Two of the same seed and detail can be compared, whatever servers they are
/// of; not with [`keyhaul_rdb::Canonical`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BigDigest {
    pub kind: ValueKind,
    /// Elements that were told; bytes of a string.
    pub elements: u64,
    /// 128 bits over all of them.
    pub digest: u128,
    pub expiry: KeyExpiry,
}

/// What came of reading a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BigRead {
    /// There is no such key.
    Missing,
    /// It was read.
    Digest(BigDigest),
    /// It was written while it was read.
    Written,
    /// A type without elements: what TYPE calls it.
    NoElements(Bytes),
    /// The job is to stop. The connection is of no further use.
    Stopped,
}

/// What is to be read, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BigAsk<'a> {
    pub key: &'a [u8],
    /// The same for both sides, and not known beforehand.
    pub seed: u64,
    /// What both sides know of a stream.
    pub detail: StreamDetail,
    /// Fields of this server's hashes may expire (Redis >= 7.4, Valkey >= 9.0).
    pub has_field_expiry: bool,
    /// Told how far it has come.
    pub progress: &'a BigKeyProgress,
    pub throttle: &'a Throttle,
    pub stop: &'a CancellationToken,
}

/// Reads a value of the current db from its first element to its last.
///
/// # Errors
/// Any; the connection is of no further use then.
pub(crate) async fn digest(
    connection: &mut ReadConnection,
    ask: BigAsk<'_>,
) -> Result<BigRead, ClientError> {
    for _ in 0..READS_MAX {
        match read(connection, ask).await {
            Ok(Some(read)) => return Ok(read),
            Ok(None) => {}
            Err(Halt::Written) => {
                connection.unwatch().await?;
                return Ok(BigRead::Written);
            }
            Err(Halt::Stopped) => return Ok(BigRead::Stopped),
            Err(Halt::Client(error)) => return Err(error),
        }
    }
    Ok(BigRead::Written)
}

/// One reading; `None`: elements came twice.
async fn read(connection: &mut ReadConnection, ask: BigAsk<'_>) -> Result<Option<BigRead>, Halt> {
    let key = ask.key;
    let name = connection.watch(key).await?;
    let Some(kind) = ValueKind::of_type_name(&name) else {
        connection.unwatch().await?;
        return Ok(Some(match name == "none" {
            true => BigRead::Missing,
            false => BigRead::NoElements(name),
        }));
    };
    let length = connection.length(kind, key).await?;
    ask.progress.describe(kind.type_name(), length);
    let pace = Pace {
        progress: ask.progress,
        throttle: ask.throttle,
        stop: ask.stop,
    };
    let mut reader = PageReader::begin(connection, key, kind, length).await?;
    reader.pace = Some(pace);
    let done = match kind {
        ValueKind::Hash | ValueKind::Set => members::scanned(&mut reader, ask, kind).await,
        ValueKind::SortedSet => members::ranked(&mut reader, ask).await,
        ValueKind::List => ordered::list(&mut reader, ask).await,
        ValueKind::String => ordered::string(&mut reader, ask).await,
        ValueKind::Stream => stream::digest(&mut reader, ask).await,
    };
    if let Err(Halt::Written) = &done {
        reader.drain().await?;
    }
    let (digest, elements) = (done?, reader.elements());
    let expiry = connection.key_expiry(key).await?;
    let Some(length) = connection.unchanged_length(kind, key).await? else {
        return Ok(Some(BigRead::Written));
    };
    // Fields whose time is over are counted by a server until it finds them, and not told.
    let may_hide = kind == ValueKind::Hash && ask.has_field_expiry;
    if expiry == KeyExpiry::Gone {
        return Ok(Some(BigRead::Written));
    }
    if elements > length || (elements < length && !may_hide) {
        return Ok(None);
    }
    Ok(Some(BigRead::Digest(BigDigest {
        kind,
        elements,
        digest,
        expiry,
    })))
}

#[cfg(test)]
mod tests;
