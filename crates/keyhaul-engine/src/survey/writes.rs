//! How much is written on the source while nobody copies.

use std::time::{Duration, Instant};

use keyhaul_client::{ClientError, ReadConnection, Traffic};

/// How long it is measured.
const WINDOW: Duration = Duration::from_millis(500);

/// What is written on the source, bytes per second.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteRate {
    /// Of all primaries.
    pub bytes_per_second: u64,
    /// Of the busiest primary.
    pub busiest: u64,
    /// What was measured.
    pub basis: WriteBasis,
    /// For how long.
    pub measured: Duration,
}

/// What a rate of writes was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBasis {
    /// The offset of the replication stream: writes and nothing else.
    ReplicationStream,
    /// All that clients sent, for there is no replication stream: an upper bound.
    ClientInput,
}

/// Measures over these connections, one for each primary; `None`: the servers do not tell.
///
/// # Errors
/// Those of the connections.
pub(super) async fn measure(
    connections: &mut [ReadConnection],
) -> Result<Option<WriteRate>, ClientError> {
    let before = traffic(connections).await?;
    let began = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let after = traffic(connections).await?;
    Ok(rate(&before, &after, began.elapsed()))
}

async fn traffic(connections: &mut [ReadConnection]) -> Result<Vec<Traffic>, ClientError> {
    let mut all = Vec::with_capacity(connections.len());
    for connection in connections {
        all.push(connection.traffic().await?);
    }
    Ok(all)
}

/// The rate of all nodes by one measure: the better one only where all nodes have it.
fn rate(before: &[Traffic], after: &[Traffic], measured: Duration) -> Option<WriteRate> {
    let grown = |of: fn(&Traffic) -> Option<u64>| -> Option<Vec<u64>> {
        let pairs = before.iter().zip(after);
        // A server that was started anew counts from zero.
        pairs
            .map(|(before, after)| Some(of(after)?.saturating_sub(of(before)?)))
            .collect()
    };
    let (grown, basis) = match grown(|traffic| traffic.repl_offset) {
        Some(grown) => (grown, WriteBasis::ReplicationStream),
        None => (
            grown(|traffic| traffic.input_bytes)?,
            WriteBasis::ClientInput,
        ),
    };
    let per_second = |bytes: u64| (bytes as f64 / measured.as_secs_f64().max(0.001)) as u64;
    Some(WriteRate {
        bytes_per_second: per_second(grown.iter().sum()),
        busiest: per_second(grown.iter().copied().max()?),
        basis,
        measured,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_measure_where_all_nodes_have_it() {
        let at = |repl_offset, input| Traffic {
            repl_offset,
            input_bytes: Some(input),
        };
        let second = Duration::from_secs(1);
        let of = |before: &[Traffic], after: &[Traffic]| {
            let rate = rate(before, after, 2 * second)?;
            Some((rate.bytes_per_second, rate.busiest, rate.basis))
        };
        let (stream, input) = (WriteBasis::ReplicationStream, WriteBasis::ClientInput);
        let (a, b) = (at(Some(100), 5), at(Some(900), 9));
        assert_eq!(of(&[a], &[b]), Some((400, 400, stream)));
        assert_eq!(of(&[a, a], &[b, a]), Some((400, 400, stream)));
        let none = at(None, 1001);
        assert_eq!(of(&[a, at(None, 1)], &[b, none]), Some((502, 500, input)));
        assert_eq!(of(&[b], &[a]), Some((0, 0, stream)));
        let silent = Traffic::default();
        assert_eq!(of(&[a, silent], &[b, silent]), None);
        assert_eq!(of(&[], &[]), None);
    }
}
