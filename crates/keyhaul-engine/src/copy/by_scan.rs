//! Keys of servers by SCAN and DUMP.

use std::sync::Arc;

use keyhaul_client::ScanOptions;
use keyhaul_rdb::KeyType;
use tokio::sync::Mutex;

use crate::compare::Lookup;
use crate::copy::Job;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::NodePlan;
use crate::prepare::{self, SourceEnd};
use crate::route::Outlet;
use crate::site::{Site, SourceLink};
use crate::source::reader::Reader;
use crate::source::rounds::Pass;
use crate::source::scan::ScanJob;
use crate::source::sieve::{Collisions, Sieve};
use crate::source::stray::StrayReader;

impl Job {
    /// Copies all keys of the source's servers.
    pub(super) async fn copy_by_scan(
        &self,
        site: &Arc<Site>,
        outlet: Outlet,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let options = &self.prepared.options;
        let pass = self.pass(site, ledger, self.copy_sieve(site, ledger));
        pass.run(|node_id, queue, tasks| {
            for _ in 0..options.read_threads {
                let link = SourceLink::new(site.clone(), node_id.to_owned(), options.retry_for);
                let stray = StrayReader::new(site.clone(), options.retry_for, ledger.clone());
                let reader =
                    Reader::new(link, stray, queue.clone(), outlet.clone(), ledger.clone());
                tasks.spawn(reader.run());
            }
        })
        .await
    }

    /// A pass over all keys that the filters take.
    pub(super) fn pass(&self, site: &Arc<Site>, ledger: &Arc<Ledger>, sieve: Sieve) -> Pass {
        let (options, plan) = (&self.prepared.options, &self.prepared.plan);
        let knows_type =
            |node: &NodePlan| node.facts.version.is_some_and(|version| version.major >= 6);
        let key_type = self.filter.server_type().map(KeyType::name);
        let key_type = key_type.filter(|_| plan.source.primaries.iter().all(knows_type));
        let pattern = self
            .filter
            .server_pattern()
            .map(bytes::Bytes::copy_from_slice);
        let scan = ScanOptions {
            pattern,
            key_type,
            count: options.scan_count,
        };
        let dbs = plan.dbs.iter().map(|db| db.source_db).collect();
        Pass {
            site: site.clone(),
            job: ScanJob {
                dbs,
                options: scan,
                slots: None,
            },
            sieve,
            retry_for: options.retry_for,
            ledger: ledger.clone(),
        }
    }

    fn copy_sieve(&self, site: &Arc<Site>, ledger: &Arc<Ledger>) -> Sieve {
        let options = &self.prepared.options;
        let mem_limit = match &self.prepared.source {
            SourceEnd::Servers { mem_limit, .. } => *mem_limit,
            SourceEnd::Files(_) => None,
        };
        let dbs = self.prepared.plan.dbs.iter();
        let collisions = Collisions {
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
            dbs: dbs.map(|db| db.source_db).collect(),
            site: site.clone(),
            lookup: Mutex::new(Lookup::new(site.clone(), options.retry_for)),
        };
        let is_possible = prepare::collisions_are_possible(options, &collisions.dbs);
        let collisions = is_possible.then(|| Arc::new(collisions));
        let (filter, ledger) = (self.filter.clone(), ledger.clone());
        Sieve {
            filter,
            mem_limit,
            collisions,
            ledger,
        }
    }
}
