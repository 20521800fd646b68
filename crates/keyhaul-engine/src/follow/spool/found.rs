//! What an earlier run has left on the disk: which of it this run can go on with.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::segment::{Folder, Segment, remove};

/// Files that go on from each other, and the number for the next one.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub segments: VecDeque<Segment>,
    pub next_number: u64,
}

/// Looks for the bytes from an offset on, in a history that goes by this name at some place of them. What is of no use is
/// removed.
pub(super) fn find(folder: &Folder, wanted: Option<(&str, u64)>) -> io::Result<Found> {
    let mut files = folder.list()?;
    let next_number = files
        .last()
        .map_or(0, |(number, _)| number.saturating_add(1));
    let mut found = Found {
        segments: VecDeque::new(),
        next_number,
    };
    if let Some((replid, next)) = wanted {
        forget_applied(&mut files, next);
        found.segments = chain(&files, next);
        if !found.segments.iter().any(|part| *part.replid == *replid) {
            found.segments.clear();
        }
    }
    for (number, path) in folder.list()? {
        if !found.segments.iter().any(|part| part.number == number) {
            remove(&path)?;
        }
    }
    Ok(found)
}

/// Leaves out files, unread, behind which another one begins that does not lie behind the wanted byte either.
fn forget_applied(files: &mut Vec<(u64, PathBuf)>, next: u64) {
    for index in (1..files.len()).rev() {
        let first = files.get(index).and_then(|(_, path)| {
            let first = Segment::first_of(path);
            usable(path, first)
        });
        if first.is_some_and(|first| first <= next) {
            files.drain(..index);
            break;
        }
    }
}

/// The first files without a gap that reach to the byte.
fn chain(files: &[(u64, PathBuf)], next: u64) -> VecDeque<Segment> {
    let mut chain: VecDeque<Segment> = VecDeque::new();
    for (number, path) in files {
        let opened = Segment::open(*number, path.clone());
        let Some(segment) = usable(path, opened) else {
            continue;
        };
        if chain.back().is_some_and(|last| last.end != segment.first) {
            if reaches(&chain, next) {
                break;
            }
            chain.clear();
        }
        chain.push_back(segment);
    }
    if !reaches(&chain, next) {
        chain.clear();
    }
    chain
}

/// A file that cannot be read is one that is not there.
fn usable<T>(path: &Path, read: io::Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|e| {
        tracing::warn!("{}: {e}", path.display());
        None
    })
}

fn reaches(chain: &VecDeque<Segment>, next: u64) -> bool {
    match (chain.front(), chain.back()) {
        (Some(first), Some(last)) => first.first <= next && next < last.end,
        _ => false,
    }
}
