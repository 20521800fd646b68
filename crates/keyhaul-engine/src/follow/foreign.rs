//! Keys that the target held and the source did not when the job began: they are somebody's, and stay.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::sorted::key_digest;

/// So many are known; of more nobody can tell them from those of the source, 16 bytes each.
const COUNT_MAX: usize = 1_000_000;

/// Their names on the target, as digests.
#[derive(Debug, Default)]
pub(crate) struct Foreign(HashSet<u128>);

impl Foreign {
    /// What was noted when the job began; `None`: nothing was.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn load(path: &Path) -> io::Result<Option<Self>> {
        let rows = match std::fs::read(path) {
            Ok(rows) => rows,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let digests = rows.as_chunks::<16>().0.iter();
        Ok(Some(Self(
            digests.map(|row| u128::from_le_bytes(*row)).collect(),
        )))
    }

    /// Notes them for later runs.
    ///
    /// # Errors
    /// Those of the file, which is whole or not there.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("foreign-new");
        let mut file = io::BufWriter::new(File::create(&new)?);
        for digest in &self.0 {
            file.write_all(&digest.to_le_bytes())?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(new, path)
    }

    /// One more; `false`: there are too many.
    pub(crate) fn add(&mut self, db: u32, name: &[u8]) -> bool {
        self.0.insert(key_digest(0, db, name));
        self.0.len() <= COUNT_MAX
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this key of the target is one.
    pub(crate) fn contains(&self, db: u32, name: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains(&key_digest(0, db, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.foreign");
        assert!(Foreign::load(&path).unwrap().is_none());
        let mut foreign = Foreign::default();
        assert!(foreign.add(3, b"theirs"));
        foreign.save(&path).unwrap();
        let again = Foreign::load(&path).unwrap().unwrap();
        assert_eq!(again.len(), 1);
        assert!(again.contains(3, b"theirs"));
        assert!(!again.contains(0, b"theirs") && !again.contains(3, b"ours"));
    }
}
