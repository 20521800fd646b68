//! Keys of the source that become one key on the target: which of them is the one that is written.
//!
//! The rule is that of a copy (`source/sieve.rs`): the one in the lower db, and the one that keeps its name. Here it has
//! to be looked at with each change, as the one may go and the other come.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{KeyLook, ServerError, ToldKey};

use crate::compare::Lookup;
use crate::follow::tracking::dirty::Dirty;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::route::Outlet;
use crate::stats::key_text;
use crate::transform::Origins;

/// Looks rivals up.
pub(super) struct Clash {
    pub origins: Origins,
    pub lookup: Lookup,
    pub outlet: Outlet,
    pub shard: usize,
    pub dirty: Arc<Dirty>,
    pub ledger: Arc<Ledger>,
}

impl Clash {
    /// Keeps the dbs in which the key of this name is to be read. In the others one that goes before it is told, and the key
    /// is listed if it is there.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(super) async fn sift(&mut self, name: &Bytes, dbs: &mut Vec<u32>) -> Result<(), GaveUp> {
        for db in std::mem::take(dbs) {
            let own = (db, name.clone());
            let (target_db, target_name) = self.outlet.target_name(db, name);
            let (mut first, mut is_there) = (None, false);
            for rival in self.origins.keys(target_db, &target_name) {
                if self.is_there(&rival).await? {
                    is_there |= rival == own;
                    first.get_or_insert(rival);
                }
            }
            let Some(first) = first.filter(|first| *first != own) else {
                dbs.push(db);
                continue;
            };
            self.ledger.not_moved.try_again(db, name);
            if is_there {
                let text = key_text(&first.1);
                let reason = format!("becomes the same key as \"{text}\" of db {}", first.0);
                self.ledger.not_moved(db, name, reason);
            }
            self.ledger.tried_again(db, name);
            // Something older may have been written for this one meanwhile.
            let (db, name) = first;
            let db = Some(db);
            self.dirty.tell(self.shard, [ToldKey { db, name }]);
        }
        Ok(())
    }

    async fn is_there(&mut self, (db, name): &(u32, Bytes)) -> Result<bool, GaveUp> {
        let names = std::slice::from_ref(name);
        let looks = self.lookup.look(*db, names, &self.ledger).await?;
        Ok(looks.iter().any(|look| goes_over(&self.origins, look)))
    }
}

/// Whether there is such a key, of a type that goes over. One that may not be looked at is there.
pub(super) fn goes_over(origins: &Origins, look: &Result<KeyLook, ServerError>) -> bool {
    let Ok(look) = look else {
        return true;
    };
    let key_type = std::str::from_utf8(&look.key_type).ok();
    let key_type = key_type.and_then(|name| name.parse().ok());
    !look.is_missing() && origins.filter.takes_type(key_type)
}
