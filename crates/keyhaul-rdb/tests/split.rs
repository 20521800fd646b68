//! However the bytes of a file are cut, what comes out of the decoder is the same.

mod common;

use common::{Fixture, Seen, Taking, fixtures, run};
use keyhaul_rdb::{Event, Flaw, RdbError};

/// Files up to so many bytes are cut at every byte.
const SMALL_BYTES: usize = 2048;

type Ran = (Vec<Seen>, Result<(), RdbError>);

fn small() -> Vec<Fixture> {
    let small = |fixture: &Fixture| fixture.bytes.len() <= SMALL_BYTES;
    let small: Vec<Fixture> = fixtures().into_iter().filter(small).collect();
    assert!(small.len() >= 30, "only {} small files", small.len());
    small
}

fn in_two(bytes: &[u8], at: usize, taking: Taking) -> Ran {
    let mut first = Some(at);
    run(bytes, &mut || first.take().unwrap_or(usize::MAX), taking)
}

/// Events alone; how they come to be must not depend on whether values are taken.
fn events(ran: &Ran) -> Vec<&Seen> {
    let is_event = |seen: &&Seen| matches!(seen, Seen::Event(..));
    ran.0.iter().filter(is_event).collect()
}

#[test]
fn split_at_every_byte() {
    for fixture in small() {
        for taking in [
            Taking::Raw(usize::MAX),
            Taking::Raw(10),
            Taking::Small(100),
            Taking::Skip,
        ] {
            let whole = run(&fixture.bytes, &mut || usize::MAX, taking);
            for at in 1..fixture.bytes.len() {
                let parts = in_two(&fixture.bytes, at, taking);
                assert_eq!(parts, whole, "{} cut at {at}, {taking:?}", fixture.name);
            }
        }
    }
}

#[test]
fn every_size_of_portions() {
    for fixture in small() {
        let whole = run(&fixture.bytes, &mut || usize::MAX, Taking::Raw(usize::MAX));
        for size in 1..=64 {
            for whole_max in [0, 1, 10, 100, usize::MAX] {
                let taking = Taking::Raw(whole_max);
                let parts = run(&fixture.bytes, &mut || size, taking);
                assert_eq!(
                    parts, whole,
                    "{}: {size} at a time, {taking:?}",
                    fixture.name
                );
            }
            for taking in [Taking::Skip, Taking::Begin(0), Taking::Begin(10)] {
                let other = run(&fixture.bytes, &mut || size, taking);
                let case = format!("{}: {size} at a time, {taking:?}", fixture.name);
                assert_eq!(events(&other), events(&whole), "{case}");
                assert_eq!(other.1, whole.1, "{case}");
            }
        }
    }
}

/// The bound on what comes whole is kept to the byte.
#[test]
fn every_bound_on_values() {
    for fixture in small() {
        let whole = run(&fixture.bytes, &mut || usize::MAX, Taking::Raw(usize::MAX));
        for max in 0..128 {
            for taking in [Taking::Raw(max), Taking::Small(max)] {
                let other = run(&fixture.bytes, &mut || usize::MAX, taking);
                assert_eq!(other, whole, "{}: {taking:?}", fixture.name);
            }
        }
    }
}

/// The large files too, at fewer sizes.
#[test]
fn large_files_in_portions() {
    for fixture in fixtures()
        .iter()
        .filter(|fixture| fixture.bytes.len() > SMALL_BYTES)
    {
        let whole = run(&fixture.bytes, &mut || usize::MAX, Taking::Raw(usize::MAX));
        for size in [1, 13, 512, 8191] {
            for whole_max in [0, 10, 1000, usize::MAX] {
                let parts = run(&fixture.bytes, &mut || size, Taking::Raw(whole_max));
                let is_same = parts == whole;
                assert!(
                    is_same,
                    "{}: {size} at a time, whole up to {whole_max}",
                    fixture.name
                );
            }
            let skipped = run(&fixture.bytes, &mut || size, Taking::Skip);
            assert!(
                events(&skipped) == events(&whole),
                "{}: {size} skipped",
                fixture.name
            );
        }
    }
}

/// A file that was cut off is never taken for a whole one.
#[test]
fn every_prefix_is_incomplete() {
    for fixture in small() {
        let (whole, result) = run(&fixture.bytes, &mut || usize::MAX, Taking::Raw(usize::MAX));
        if result.is_err() {
            continue;
        }
        for taking in [
            Taking::Raw(usize::MAX),
            Taking::Raw(0),
            Taking::Small(50),
            Taking::Skip,
        ] {
            for end in 0..fixture.bytes.len() {
                let case = format!("{} cut off at {end}, {taking:?}", fixture.name);
                let prefix = &fixture.bytes[..end];
                let (seen, result) = run(prefix, &mut || 7, taking);
                let expected = match end {
                    0..9 => (0, Flaw::Magic),
                    _ => (end as u64, Flaw::Truncated),
                };
                let error = result.expect_err(&case);
                assert_eq!((error.offset, error.flaw), expected, "{case}");
                let is_end = |seen: &Seen| matches!(seen, Seen::Event(Event::End { .. }, _));
                assert!(!seen.iter().any(is_end), "{case}");
                if taking == Taking::Raw(usize::MAX) {
                    assert_eq!(seen, whole[..seen.len()], "{case}");
                }
            }
        }
    }
}
