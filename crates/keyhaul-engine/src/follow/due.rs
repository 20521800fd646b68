//! Sets expiry times on the target whose time has come: held back, or what they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::ExpiryCommand;
use keyhaul_resp::Value;

use crate::follow::compose::Composer;
use crate::follow::deadlines::{Record, Work};
use crate::follow::guard::{Guard, halt};
use crate::follow::marks::Marks;
use crate::ledger::Ledger;
use crate::patience::GaveUp;

/// Keys that are looked at before the stream goes on.
const KEYS_AT_ONCE: usize = 2000;
/// How long the stream waits for what is due, at a time.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How much further off than the time between question and answer a remaining time may tell an expiry, where a server does
/// not tell it by itself, ms.
const RELATIVE_TOLERANCE_MS: i64 = 5;
/// How often what is held is tried to be set to what it is, when the connection breaks.
const RELEASE_TRIES: u32 = 20;

/// Works off what is due, as long as that does not hold the stream up.
///
/// # Errors
/// [`GaveUp`]: the job was halted.
pub(crate) async fn work_off(
    composer: &mut Composer,
    guard: &Guard,
    marks: &Marks,
    applied_ms: Option<i64>,
    ledger: &Ledger,
) -> Result<(), GaveUp> {
    let began = std::time::Instant::now();
    while began.elapsed() < PAUSE_MAX {
        let work = guard
            .deadlines
            .step(guard.target_now_ms(), applied_ms, KEYS_AT_ONCE)
            .map_err(|e| {
                halt(ledger, &e);
                GaveUp
            })?;
        let is_done = match work {
            None => return Ok(()),
            Some(Work::Hold(records)) => {
                change(composer, guard, marks, &records, Change::Hold).await
            }
            Some(Work::Settle(records)) => {
                change(composer, guard, marks, &records, Change::Settle).await
            }
        };
        // Else it comes again.
        if !is_done {
            return Ok(());
        }
        done(guard, ledger)?;
    }
    Ok(())
}

/// Sets all that is held to what it is: the run ends.
///
/// # Errors
/// [`GaveUp`]: the job was halted.
pub(crate) async fn release(
    composer: &mut Composer,
    guard: &Guard,
    marks: &Marks,
    ledger: &Ledger,
    steps: &AtomicU64,
) -> Result<(), GaveUp> {
    loop {
        let records = guard.deadlines.release(KEYS_AT_ONCE).map_err(|e| {
            halt(ledger, &e);
            GaveUp
        })?;
        let Some(records) = records else {
            return Ok(());
        };
        let mut is_done = false;
        for _ in 0..RELEASE_TRIES {
            is_done = change(composer, guard, marks, &records, Change::Settle).await;
            if is_done || ledger.has_halted() {
                break;
            }
        }
        steps.fetch_add(1, Ordering::Relaxed);
        if !is_done {
            ledger.halt("the target was lost while expiry times were set to what they are: the same command sets them".into());
            return Err(GaveUp);
        }
        done(guard, ledger)?;
    }
}

fn done(guard: &Guard, ledger: &Ledger) -> Result<(), GaveUp> {
    guard.deadlines.done().map_err(|e| {
        halt(ledger, &e);
        GaveUp
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// From what it is to what it is held at.
    Hold,
    /// Back.
    Settle,
}

/// Changes the expiry of those keys whose expiry is the expected one; others were written since. `false`: that is not
/// certain.
async fn change(
    composer: &mut Composer,
    guard: &Guard,
    marks: &Marks,
    records: &[Record],
    change: Change,
) -> bool {
    if records.is_empty() {
        return true;
    }
    // Nobody else may write between the look and the change: the stream waits for us, the keys that are read again now.
    marks.pause().await;
    let done = change_paused(composer, guard, records, change).await;
    marks.resume();
    done.is_some()
}

async fn change_paused(
    composer: &mut Composer,
    guard: &Guard,
    records: &[Record],
    change: Change,
) -> Option<()> {
    let mut groups: Vec<((usize, u32), Vec<&Record>)> = Vec::new();
    for record in records {
        let place = (composer.lane_of(&record.key), record.db);
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, group)) => group.push(record),
            None => groups.push((place, vec![record])),
        }
    }
    let expiry = composer.target_expiry();
    for ((lane, db), group) in groups {
        let look = match expiry {
            ExpiryCommand::Absolute => &b"PEXPIRETIME"[..],
            ExpiryCommand::Relative => b"PTTL",
        };
        let looks = group
            .iter()
            .map(|record| vec![Bytes::from_static(look), record.key.clone()]);
        let asked_ms = guard.target_now_ms();
        let replies = composer.ask(lane, db, looks.collect()).await?;
        let told_ms = guard.target_now_ms();
        let mut commands = Vec::new();
        for (record, reply) in group.iter().zip(replies) {
            let (from, to) = match change {
                Change::Hold => (record.at_ms, record.held_ms),
                Change::Settle => (record.held_ms, record.at_ms),
            };
            let Value::Int(told) = reply else { continue };
            let to = match expiry {
                _ if told < 0 => None,
                ExpiryCommand::Absolute => (told == from).then_some(to),
                ExpiryCommand::Relative => {
                    let earliest = asked_ms.saturating_add(told) - RELATIVE_TOLERANCE_MS;
                    let latest = told_ms.saturating_add(told) + RELATIVE_TOLERANCE_MS;
                    let is_expected = (earliest..=latest).contains(&from);
                    // It may be another one, of a renewal shortly after: that must not end now.
                    let spared = if to <= told_ms {
                        (latest - from).max(0)
                    } else {
                        0
                    };
                    is_expected.then_some(to.saturating_add(spared))
                }
            };
            if let Some(to) = to {
                let at = Bytes::from(to.to_string());
                commands.push(vec![
                    Bytes::from_static(b"PEXPIREAT"),
                    record.key.clone(),
                    at,
                ]);
            }
        }
        if !commands.is_empty() {
            composer.ask(lane, db, commands).await?;
        }
    }
    Some(())
}
