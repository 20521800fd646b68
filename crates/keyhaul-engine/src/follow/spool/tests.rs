//! What comes out is what was put in, over restarts, damaged files, and a disk that takes no more.

use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::progress::Progress;

const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";
const MB: u64 = 1024 * 1024;

/// The bytes of the stream from an offset on: no two places look alike, and they pack to a half or so.
fn stream(first: u64, bytes: u64) -> Bytes {
    let mut all = Vec::new();
    for block in first / 16..=(first + bytes) / 16 {
        all.extend_from_slice(&xxh3_64(&block.to_le_bytes()).to_le_bytes());
        all.extend_from_slice(&[b'.'; 8]);
    }
    let before = usize::try_from(first % 16).unwrap();
    let end = before + usize::try_from(bytes).unwrap();
    Bytes::from(all).slice(before..end)
}

struct Made {
    spool: Arc<Spool<&'static str>>,
    limit: Arc<DiskLimit>,
    ledger: Arc<Ledger>,
    status: Arc<ShardStatus>,
}

impl Made {
    /// Why nothing moves.
    fn waiting(&self) -> Option<String> {
        self.status.snapshot().waiting
    }
}

async fn open(folder: Option<&Path>, bytes_max: u64, wanted: Option<(&str, u64)>) -> Made {
    let progress = Arc::new(Progress::default());
    let ledger = Arc::new(Ledger::new(progress, CancellationToken::new()));
    let (limit, status) = (Arc::new(DiskLimit::new(bytes_max)), Arc::default());
    let options = SpoolOptions {
        folder: folder.map(Path::to_owned),
        limit: limit.clone(),
        status: Arc::clone(&status),
        ledger: ledger.clone(),
    };
    let wanted = wanted.map(|(replid, next)| (replid.to_owned(), next));
    let spool = Arc::new(Spool::new(options));
    spool.open(wanted).await;
    Made {
        spool,
        limit,
        ledger,
        status,
    }
}

/// A new stream whose first byte has this offset.
async fn begun(folder: Option<&Path>, bytes_max: u64, first: u64) -> Made {
    let made = open(folder, bytes_max, None).await;
    assert_eq!(made.spool.position(), None);
    made.spool.begin("begin", REPLID, first);
    assert_eq!(made.spool.next().await, Some(Piece::Begin("begin")));
    made
}

async fn push(spool: &Spool<&'static str>, bytes: u64) {
    let (_, at) = spool.position().expect("it has begun");
    spool.push(stream(at, bytes)).await;
}

/// Takes all up to an offset, which must be there.
async fn read_to(spool: &Spool<&'static str>, end: u64) -> BytesMut {
    let (mut all, mut at) = (BytesMut::new(), None);
    loop {
        let next = timeout(Duration::from_secs(10), spool.next()).await;
        match next.expect("there is more").expect("it is not closed") {
            Piece::Bytes { first, bytes } => {
                assert_eq!(first, *at.get_or_insert(first), "no gap");
                assert!(bytes == stream(first, bytes.len() as u64), "at {first}");
                at = Some(first + bytes.len() as u64);
                all.extend_from_slice(&bytes);
            }
            other => panic!("{other:?}"),
        }
        if at >= Some(end) {
            assert_eq!(at, Some(end));
            return all;
        }
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = timeout(Duration::from_secs(10), waiting).await;
    waited.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test]
async fn what_fits_into_memory_makes_no_file() {
    let folder = TempDir::new().unwrap();
    let Made { spool, status, .. } = begun(Some(folder.path()), u64::MAX, 101).await;
    for _ in 0..500 {
        push(&spool, 14).await;
        push(&spool, 10_000).await;
        let (_, end) = spool.position().unwrap();
        read_to(&spool, end).await;
        assert!(spool.applied(end - 1));
    }
    assert_eq!(files(folder.path()), 0);
    assert_eq!(status.spool_bytes.load(Ordering::Relaxed), 0);
    assert_eq!(
        status.received_offset.load(Ordering::Relaxed),
        100 + 500 * 10_014
    );
}

#[tokio::test]
async fn what_does_not_fit_goes_over_the_disk_and_is_gone_when_applied() {
    let folder = TempDir::new().unwrap();
    let made = begun(Some(folder.path()), u64::MAX, 1).await;
    let spool = &made.spool;
    // Several files, packed.
    while made.limit.used() < 3 * SEGMENT_BYTES {
        push(spool, 100_000).await;
    }
    assert!(files(folder.path()) >= 3);
    let (_, end) = spool.position().unwrap();
    assert!(made.limit.used() < end * 9 / 10, "it is packed");
    read_to(spool, end).await;
    assert!(
        made.limit.used() >= 3 * SEGMENT_BYTES,
        "read is not applied"
    );
    spool.applied(end / 2);
    until("the first files are gone", || {
        made.limit.used() < 3 * SEGMENT_BYTES
    })
    .await;
    spool.applied(end - 1);
    until("nothing is on the disk", || made.limit.used() == 0).await;
    assert_eq!(files(folder.path()), 0);
    push(spool, 1000).await;
    assert_eq!(files(folder.path()), 0, "memory alone is used again");
    read_to(spool, end + 1000).await;
}

#[tokio::test]
async fn a_later_run_goes_on_with_what_is_on_the_disk() {
    let folder = TempDir::new().unwrap();
    let end = {
        let Made { spool, .. } = begun(Some(folder.path()), u64::MAX, 1).await;
        for _ in 0..30 {
            push(&spool, 100_000).await;
        }
        spool.rename(OTHER);
        for _ in 0..30 {
            push(&spool, 100_000).await;
        }
        spool.position().unwrap().1
    };
    assert_eq!(files(folder.path()), 2, "a file is of one history");
    let wanted = Some((REPLID, 1_234_567));
    let Made { spool, limit, .. } = open(Some(folder.path()), u64::MAX, wanted).await;
    let (replid, on_disk) = spool.position().unwrap();
    assert_eq!(replid, OTHER);
    assert!(
        (end - 2 * MB..=end).contains(&on_disk),
        "{on_disk} of {end}"
    );
    assert!(limit.used() > 2 * MB);
    read_to(&spool, 3_000_001).await;
    assert_eq!(spool.next().await, Some(Piece::Replid(OTHER.into())));
    spool.push(stream(on_disk, 2_000_000)).await;
    read_to(&spool, on_disk + 2_000_000).await;
}

#[tokio::test]
async fn what_a_later_run_cannot_use_is_removed() {
    let folder = TempDir::new().unwrap();
    let notes = folder.path().join("notes");
    for wanted in [
        None,
        Some((OTHER, 1_000_000)),
        Some((REPLID, 5)),
        Some((REPLID, 100_000_000)),
    ] {
        let Made { spool, .. } = begun(Some(folder.path()), u64::MAX, 10).await;
        for _ in 0..30 {
            push(&spool, 100_000).await;
        }
        drop(spool);
        std::fs::write(&notes, b"not ours").unwrap();
        std::fs::write(folder.path().join("00000000000000000009.spool"), b"junk").unwrap();
        assert_eq!(files(folder.path()), 3);
        let Made { spool, limit, .. } = open(Some(folder.path()), u64::MAX, wanted).await;
        let position = wanted.map(|(replid, next)| (replid.to_owned(), next));
        assert_eq!(spool.position(), position);
        assert_eq!((files(folder.path()), limit.used()), (1, 0), "{wanted:?}");
        assert!(notes.exists(), "what is not ours stays");
        spool.close();
        assert_eq!(spool.next().await, None);
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_gone_on_behind() {
    let folder = TempDir::new().unwrap();
    {
        let Made { spool, .. } = begun(Some(folder.path()), u64::MAX, 1).await;
        for _ in 0..30 {
            push(&spool, 100_000).await;
        }
    }
    let file = folder.path().join("00000000000000000000.spool");
    assert_eq!(files(folder.path()), 1);
    let whole = std::fs::read(&file).unwrap();
    let mut last = u64::MAX;
    for cut in [
        whole.len(),
        whole.len() - 1,
        whole.len() - 200_000,
        400_000,
        100,
        64,
        63,
        0,
    ] {
        for damage in ["cut", "changed"] {
            let mut bytes = whole.clone();
            match damage {
                "cut" => bytes.truncate(cut),
                _ => bytes[cut.min(whole.len() - 1)] ^= 0x55,
            }
            std::fs::write(&file, &bytes).unwrap();
            let wanted = Some((REPLID, 1000));
            let Made { spool, .. } = open(Some(folder.path()), u64::MAX, wanted).await;
            let (_, end) = spool.position().unwrap();
            assert!(end <= last, "{damage} at {cut}");
            if damage == "cut" {
                last = end;
            }
            // The source sends what is missing.
            spool.push(stream(end, 3_000_000)).await;
            read_to(&spool, end + 3_000_000).await;
            spool.close();
            for (_, path) in Folder::new(Some(folder.path().into())).list().unwrap() {
                segment::remove(&path).unwrap();
            }
        }
    }
    assert_eq!(last, 1000, "without a head it is nothing");
}

#[tokio::test]
async fn damage_that_is_met_while_reading_asks_for_the_bytes_again() {
    let folder = TempDir::new().unwrap();
    let Made { spool, .. } = begun(Some(folder.path()), u64::MAX, 1).await;
    for _ in 0..80 {
        push(&spool, 100_000).await;
    }
    let file = folder.path().join("00000000000000000000.spool");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let reading = {
        let spool = spool.clone();
        tokio::spawn(async move { read_to(&spool, 8_000_001).await.len() })
    };
    let damage = timeout(Duration::from_secs(10), spool.damage()).await;
    assert!(damage.unwrap().contains("damaged"));
    spool.forget_unread();
    let (replid, next) = spool.position().unwrap();
    assert_eq!(replid, REPLID);
    assert!((1_000_000..7_000_000).contains(&next), "{next}");
    while spool.position().unwrap().1 < 8_000_001 {
        let left = 8_000_001 - spool.position().unwrap().1;
        push(&spool, left.min(100_000)).await;
    }
    assert_eq!(reading.await.unwrap(), 8_000_000);
}

#[tokio::test]
async fn at_its_limit_it_waits_and_loses_nothing() {
    for bytes_max in [0, 100_000, 2 * MB] {
        let folder = TempDir::new().unwrap();
        let made = begun(Some(folder.path()), bytes_max, 1).await;
        let (spool, limit) = (made.spool.clone(), made.limit.clone());
        let pushing = tokio::spawn(async move {
            for _ in 0..100 {
                push(&spool, 100_000).await;
                assert!(limit.used() <= bytes_max);
            }
        });
        let reason = || made.waiting();
        until("it says why it waits", || reason().is_some()).await;
        assert!(reason().unwrap().contains("limit"), "{:?}", reason());
        let held = made.spool.position().unwrap().1;
        assert!(held < 3 * bytes_max + 2 * MB, "{held}");
        assert!(!pushing.is_finished());
        // Nothing is applied: one long command may need all of it.
        read_to(&made.spool, 10_000_001).await;
        pushing.await.unwrap();
        assert_eq!(reason(), None);
        let remarks = made.ledger.remarks();
        assert!(
            remarks.len() == 1 && remarks[0].contains("--spool-limit"),
            "{remarks:?}"
        );
        assert!(made.spool.applied(10_000_000));
        until("the disk is free", || made.limit.used() == 0).await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_waited_for() {
    let folder = TempDir::new().unwrap();
    // A file where the folder is to be.
    let place = folder.path().join("spool");
    std::fs::write(&place, b"").unwrap();
    let made = begun(Some(&place), u64::MAX, 1).await;
    let spool = made.spool.clone();
    let pushing = tokio::spawn(async move {
        for _ in 0..60 {
            push(&spool, 100_000).await;
        }
    });
    until("it says why it waits", || made.waiting().is_some()).await;
    std::fs::remove_file(&place).unwrap();
    let all = timeout(Duration::from_secs(10), pushing).await;
    all.expect("it goes on when the disk does").unwrap();
    assert!(made.limit.used() > 0);
    read_to(&made.spool, 6_000_001).await;
}

/// Reads, writes and applies at random, with restarts, against the bytes that must come.
#[tokio::test]
async fn at_random() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = TempDir::new().unwrap();
        let bytes_max = [u64::MAX, 4 * MB][random.random_range(0..2)];
        let mut made = begun(Some(folder.path()), bytes_max, 1000).await;
        let (mut read, mut applied) = (1000, 999);
        for step in 0..250 {
            let context = format!("seed {seed}, step {step}");
            match random.random_range(0..100) {
                0..50 => {
                    let (_, end) = made.spool.position().unwrap();
                    // The limit would be waited for.
                    if end - read < 3 * MB || bytes_max == u64::MAX {
                        let bytes = [20, 3000, 150_000, 400_000][random.random_range(0..4)];
                        made.spool.push(stream(end, bytes)).await;
                    }
                }
                50..80 => {
                    let (_, end) = made.spool.position().unwrap();
                    for _ in 0..random.random_range(1..8) {
                        if read == end {
                            break;
                        }
                        match made.spool.next().await {
                            Some(Piece::Bytes { first, bytes }) => {
                                assert_eq!(first, read, "{context}");
                                assert!(bytes == stream(first, bytes.len() as u64), "{context}");
                                read += bytes.len() as u64;
                            }
                            other => panic!("{context}: {other:?}"),
                        }
                    }
                }
                80..97 => {
                    applied = random.random_range(applied..read);
                    assert!(made.spool.applied(applied), "{context}");
                    assert!(!made.spool.applied(read), "{context}: not read");
                }
                _ => {
                    let wanted = Some((REPLID, applied + 1));
                    drop(made);
                    made = open(Some(folder.path()), bytes_max, wanted).await;
                    read = applied + 1;
                    let (replid, end) = made.spool.position().unwrap();
                    assert!(replid == REPLID && end >= read, "{context}");
                }
            }
        }
    }
}
