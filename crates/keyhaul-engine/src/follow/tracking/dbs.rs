//! In which dbs a key is looked for whose db was not told.

use std::collections::BTreeSet;

use keyhaul_client::{ClientError, ReadConnection};

/// The dbs of the source that go over.
#[derive(Debug, Clone)]
pub(super) enum Dbs {
    /// These.
    Fixed(BTreeSet<u32>),
    /// All; these held keys when they were looked at. One that holds none any more still counts: keys of it are gone.
    All(BTreeSet<u32>),
}

impl Dbs {
    /// Finds out which hold keys now. To be done behind what was told, and before it is read.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn refresh(
        &mut self,
        connection: &mut ReadConnection,
    ) -> Result<(), ClientError> {
        if let Self::All(found) = self {
            found.extend(connection.dbs_with_keys().await?);
        }
        Ok(())
    }

    /// Counts a db that was told by its number.
    pub(super) fn told(&mut self, db: Option<u32>) {
        if let Self::All(found) = self {
            found.extend(db);
        }
    }

    pub(super) fn get(&self) -> &BTreeSet<u32> {
        match self {
            Self::Fixed(dbs) | Self::All(dbs) => dbs,
        }
    }
}
