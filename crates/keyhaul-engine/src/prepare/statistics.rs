//! Finds out everything that a pass for statistics depends on. The source is only read.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ClientError, FactsAsked, ScanOptions, ServerError, ValueKind};

use crate::place::Place;
use crate::plan::{PlanError, SideName, SidePlan};
use crate::prepare::{CheckedFile, Probed, dbs, files, files_side, probe, refuse, rights};
use crate::site::Site;
use crate::source::scan::scan_options;
use crate::stats::{StatsOptions, Wanted};
use crate::transform::KeyFilter;

/// A pass that may begin.
#[derive(Debug)]
pub(crate) struct PreparedStatistics {
    pub end: StatisticsEnd,
    pub plan: SidePlan,
    /// The dbs that are read, in their order.
    pub dbs: Vec<u32>,
    /// Keys that they hold, as far as that is known.
    pub keys: u64,
    pub options: StatsOptions,
}

/// What is read.
#[derive(Debug)]
pub(crate) enum StatisticsEnd {
    Servers {
        site: Arc<Site>,
        scan: ScanOptions,
        asked: FactsAsked,
    },
    Files(Vec<CheckedFile>),
}

/// Probes the source.
///
/// # Errors
/// [`PlanError`].
pub(crate) async fn prepare(
    source: Place,
    mut options: StatsOptions,
    filter: &KeyFilter,
) -> Result<PreparedStatistics, PlanError> {
    let (end, plan, found) = match source {
        Place::Servers(endpoint) => {
            let db = endpoint.db;
            let mut probed = probe::side(SideName::Source, endpoint, &options.copy).await?;
            refuse::uncovered(&probed)?;
            let scan = scan_options(filter, &probed.plan.primaries, options.copy.scan_count);
            let everything = options.wanted == Wanted::Everything;
            let asked = FactsAsked {
                samples: options.samples,
                key_type: everything || (!filter.takes_every_type() && scan.key_type.is_none()),
                encoding: everything,
                expiry: everything,
            };
            rights::check_scan(&mut probed).await?;
            check_facts(&mut probed, asked).await?;
            if everything {
                check_lengths(&mut probed).await?;
            }
            let found = dbs::found(&mut probed, db, &options.copy).await?;
            let site = Arc::new(probed.site);
            (
                StatisticsEnd::Servers { site, scan, asked },
                probed.plan,
                found,
            )
        }
        Place::Files(paths) => {
            let files = files::check(&paths, options.copy.allow_partial).await?;
            let found = dbs::found_in_files(&files, &options.copy);
            let plan = files_side(&paths, &files);
            (StatisticsEnd::Files(files), plan, found)
        }
    };
    let found = dbs::as_they_are(found, &mut options.copy);
    Ok(PreparedStatistics {
        end,
        plan,
        dbs: found.iter().map(|db| db.source_db).collect(),
        keys: found.iter().filter_map(|db| db.keys).sum(),
        options,
    })
}

/// Tries each question by itself, on a key that nobody has, to say which right is missing.
async fn check_facts(source: &mut Probed, asked: FactsAsked) -> Result<(), PlanError> {
    let none = FactsAsked::default();
    let questions = [
        (true, none, "MEMORY USAGE", "+memory|usage"),
        (
            asked.key_type,
            FactsAsked {
                key_type: true,
                ..none
            },
            "TYPE",
            "+type",
        ),
        (
            asked.encoding,
            FactsAsked {
                encoding: true,
                ..none
            },
            "OBJECT ENCODING",
            "+object|encoding",
        ),
        (
            asked.expiry,
            FactsAsked {
                expiry: true,
                ..none
            },
            "PEXPIRETIME (or PTTL and TIME)",
            "+pexpiretime",
        ),
    ];
    let key = Bytes::from_static(rights::NO_KEY);
    for (_, question, what, grant) in questions.into_iter().filter(|(is_asked, ..)| *is_asked) {
        let tried = async {
            let connection = &mut source.connection;
            connection.ask_facts(std::slice::from_ref(&key), question);
            connection.send_asked().await?;
            connection.next_facts(1, question).await
        };
        let tried: Result<_, ClientError> = tried.await;
        let answers = tried.map_err(|e| source.error(e))?;
        if let Some(Err(error)) = answers.into_iter().next() {
            demand(source, what, grant, error)?;
        }
    }
    Ok(())
}

async fn check_lengths(source: &mut Probed) -> Result<(), PlanError> {
    const KINDS: [ValueKind; 6] = [
        ValueKind::String,
        ValueKind::List,
        ValueKind::Set,
        ValueKind::SortedSet,
        ValueKind::Hash,
        ValueKind::Stream,
    ];
    let key = Bytes::from_static(rights::NO_KEY);
    for kind in KINDS {
        let tried = async {
            let connection = &mut source.connection;
            connection.ask_lengths([(&key, kind)].into_iter());
            connection.send_asked().await?;
            connection.next_length().await
        };
        let tried: Result<_, ClientError> = tried.await;
        if let Err(error) = tried.map_err(|e| source.error(e))? {
            let name = String::from_utf8_lossy(kind.length_command()).into_owned();
            let grant = format!("+{}", name.to_ascii_lowercase());
            demand(source, &name, &grant, error)?;
        }
    }
    Ok(())
}

/// Refuses where the command itself is refused, and not the one key.
fn demand(source: &Probed, what: &str, grant: &str, error: ServerError) -> Result<(), PlanError> {
    if !rights::forbids_command(&error) {
        return Ok(());
    }
    let (side, endpoint) = (source.site.side, &source.plan.endpoint);
    Err(PlanError::Refused(match error.is_unknown_command() {
        true => format!(
            "statistics need {what}, which the {side} {endpoint} does not have, it answers: {error}; read an RDB file of it instead"
        ),
        false => format!(
            "statistics need {what} on the {side}, but {endpoint} answers: {error}; grant {grant} to the user"
        ),
    }))
}
