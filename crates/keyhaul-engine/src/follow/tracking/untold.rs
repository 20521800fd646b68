//! What no server tells by itself: that dbs were swapped, that functions changed, and what became of the groups of streams
//! (XREADGROUP, XACK and others; seen on Redis 6.2 to 8.2 and Valkey 8.0). A server counts its commands, though, so it
//! is asked again and again whether it has executed any of those.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keyhaul_client::{Action, ClientError, ScanOptions, ToldKey};
use tokio_util::sync::CancellationToken;

use crate::follow::tracking::dbs::Dbs;
use crate::follow::tracking::dirty::Dirty;
use crate::follow::tracking::listener::KnownUpTo;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::site::SourceLink;

/// How often the counts are asked for.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// All streams are read again so often at most, and for one part in [`SWEEP_PART`] of the time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_PART: u32 = 10;
/// Keys that a step of the search for streams looks at.
const SCAN_COUNT: u32 = 1000;
/// Commands on streams that are told, or change nothing. Any other may change a group.
const TOLD: [&str; 10] = [
    "xadd",
    "xdel",
    "xtrim",
    "xlen",
    "xrange",
    "xrevrange",
    "xread",
    "xinfo",
    "xpending",
    "xdelex",
];
/// Commands that change functions.
const FUNCTIONS: [&str; 4] = [
    "function|load",
    "function|delete",
    "function|flush",
    "function|restore",
];

/// How often a server has executed commands of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    groups: u64,
    swaps: u64,
    functions: u64,
    flushes: u64,
}

/// Asks one primary.
pub(super) struct Asker {
    pub link: SourceLink,
    pub shard: usize,
    pub dirty: Arc<Dirty>,
    pub dbs: Dbs,
    pub ledger: Arc<Ledger>,
    /// As they were before the keys were copied; `None`: it does not tell.
    pub counts: Option<Counts>,
    /// FLUSHALL is told.
    pub tells_flushes: bool,
    /// All that was done up to there is known, as far as this is about.
    pub known: KnownUpTo,
    /// Set when functions changed.
    pub functions: Arc<AtomicBool>,
}

/// Asks for the counts; `None`: the server does not tell.
///
/// # Errors
/// [`GaveUp`].
pub(super) async fn counts(
    link: &mut SourceLink,
    ledger: &Ledger,
) -> Result<Option<Counts>, GaveUp> {
    loop {
        match counts_once(link).await {
            Ok(counts) => {
                link.success(ledger);
                return Ok(counts);
            }
            Err(e) => link.failed(&e, ledger).await?,
        }
    }
}

async fn counts_once(link: &mut SourceLink) -> Result<Option<Counts>, ClientError> {
    match link.get().await?.info(Some("commandstats")).await {
        Ok(info) => Ok(Some(Counts::of(&info))),
        Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => Ok(None),
        Err(e) => Err(e),
    }
}

impl Counts {
    /// From INFO commandstats: `cmdstat_xgroup|create:calls=1,usec=..`.
    fn of(info: &str) -> Self {
        let mut counts = Self::default();
        for line in info.lines() {
            let calls = line
                .strip_prefix("cmdstat_")
                .and_then(|line| line.split_once(":calls="));
            let Some((name, rest)) = calls else {
                continue;
            };
            let calls = rest.split(',').next().and_then(|calls| calls.parse().ok());
            let name = name.to_ascii_lowercase();
            let command = name.split('|').next().unwrap_or_default();
            let count = match command {
                "swapdb" => &mut counts.swaps,
                "flushall" | "flushdb" => &mut counts.flushes,
                _ if FUNCTIONS.contains(&name.as_str()) => &mut counts.functions,
                _ if command.starts_with('x') && !TOLD.contains(&command) => &mut counts.groups,
                _ => continue,
            };
            *count = count.wrapping_add(calls.unwrap_or(0_u64));
        }
        counts
    }
}

impl Asker {
    /// Asks until `closing`.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        let _ = closing.run_until_cancelled(self.ask()).await;
    }

    async fn ask(&mut self) -> Result<(), GaveUp> {
        let mut next_sweep = Instant::now();
        loop {
            let asked = Instant::now();
            match counts_once(&mut self.link).await {
                Ok(now) => {
                    self.link.success(&self.ledger);
                    if self.judge(now, asked, &mut next_sweep).await? {
                        self.known.set(asked);
                    }
                }
                Err(e) => self.failed(&e).await?,
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.ledger.stop.cancelled(), if !self.ledger.stop.is_cancelled() => {}
            }
        }
    }

    /// Whether all is known that was done when the counts were asked for.
    async fn judge(
        &mut self,
        now: Option<Counts>,
        asked: Instant,
        next_sweep: &mut Instant,
    ) -> Result<bool, GaveUp> {
        let (Some(before), Some(now)) = (&mut self.counts, now) else {
            return Ok(true);
        };
        if before.swaps != now.swaps || (before.flushes != now.flushes && !self.tells_flushes) {
            let what = match before.swaps == now.swaps {
                true => "a db of the source was emptied (FLUSHALL or FLUSHDB)",
                false => "dbs of the source were swapped (SWAPDB)",
            };
            self.dirty.everything(what.to_owned());
            return Ok(false);
        }
        if before.functions != now.functions {
            before.functions = now.functions;
            self.functions.store(true, Ordering::Release);
        }
        if before.groups == now.groups {
            return Ok(true);
        }
        if asked < *next_sweep && !self.ledger.stop.is_cancelled() {
            return Ok(false);
        }
        before.groups = now.groups;
        self.sweep().await?;
        *next_sweep = Instant::now() + SWEEP_EVERY.max(asked.elapsed() * SWEEP_PART);
        Ok(true)
    }

    /// Tells all streams.
    async fn sweep(&mut self) -> Result<(), GaveUp> {
        let options = ScanOptions {
            pattern: None,
            key_type: Some("stream"),
            count: SCAN_COUNT,
        };
        while let Err(e) = self.find_dbs().await {
            self.failed(&e).await?;
        }
        for db in self.dbs.get().clone() {
            let mut cursor = 0;
            loop {
                let scanned = async {
                    let connection = self.link.get().await?;
                    connection.select(db).await?;
                    connection.scan(cursor, &options).await
                };
                match scanned.await {
                    Ok(page) => {
                        let told = |name: Bytes| ToldKey { db: Some(db), name };
                        let keys = page.keys.into_iter().map(told).collect();
                        self.dirty.tell_slowly(self.shard, keys).await;
                        cursor = page.cursor;
                        if cursor == 0 {
                            break;
                        }
                    }
                    // Where the server is another one then, the link that tells breaks too.
                    Err(e) => self.failed(&e).await?,
                }
            }
        }
        Ok(())
    }

    async fn find_dbs(&mut self) -> Result<(), ClientError> {
        self.dbs.refresh(self.link.get().await?).await
    }

    async fn failed(&mut self, error: &ClientError) -> Result<(), GaveUp> {
        self.link.failed(error, &self.ledger).await?;
        if !self.link.node_is_primary() {
            self.dirty
                .everything("a node of the source is no primary any more".to_owned());
            return Err(GaveUp);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_by_kind() {
        let info = "# Commandstats\r\ncmdstat_xadd:calls=9,usec=1\r\n\
                    cmdstat_xgroup|create:calls=1,usec=5,rejected_calls=0\r\n\
                    cmdstat_xinfo|groups:calls=7,usec=5\r\ncmdstat_XACK:calls=2,usec=1\r\n\
                    cmdstat_xreadgroup:calls=4\r\ncmdstat_swapdb:calls=3,usec=1\r\n\
                    cmdstat_function|load:calls=1,usec=1\r\ncmdstat_function|list:calls=6,usec=1\r\n\
                    cmdstat_flushdb:calls=8,usec=1\r\ncmdstat_get:calls=x\r\njunk\r\n";
        let expected = Counts {
            groups: 7,
            swaps: 3,
            functions: 1,
            flushes: 8,
        };
        assert_eq!(Counts::of(info), expected);
        assert_eq!(Counts::of(""), Counts::default());
    }
}
