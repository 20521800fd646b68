//! What the target reads, and what the source writes.

use keyhaul_client::{Family, ServerFacts, Version};
use keyhaul_rdb::{FieldExpiry, Modules, Reader, WRITABLE_VERSIONS, rdb_version};

use crate::bigkey::Abilities;
use crate::options::CopyOptions;
use crate::plan::{Plan, PlanError, SideKind, SidePlan};
use crate::prepare::Probed;

/// What is assumed of a server that does not tell its version: what all of them read.
const VERSION_UNKNOWN: u16 = 9;

/// What the target's servers read; the oldest of a mixed cluster decides.
pub(super) async fn of_server(
    target: &mut Probed,
    options: &CopyOptions,
) -> Result<Reader, PlanError> {
    let versions = target.plan.primaries.iter();
    let versions = versions.map(|node| server_version(&node.facts).unwrap_or(VERSION_UNKNOWN));
    let version = versions.min().unwrap_or(VERSION_UNKNOWN);
    Ok(Reader {
        rdb_version: version,
        modules: modules(target).await?,
        field_expiry: field_expiry(options),
    })
}

/// What a file of the version that was asked for, or of the source's own, may hold.
pub(super) fn of_file(source: &SidePlan, options: &CopyOptions) -> Result<Reader, PlanError> {
    let versions = source_versions(source);
    let known = |version: u16| {
        let mut versions = WRITABLE_VERSIONS.into_iter().rev();
        versions.find(|known| *known <= version)
    };
    let rdb_version = match options.rdb_version {
        Some(version) if WRITABLE_VERSIONS.contains(&version) => version,
        Some(version) => {
            let versions = WRITABLE_VERSIONS
                .map(|version| version.to_string())
                .join(", ");
            return Err(PlanError::Refused(format!(
                "--rdb-version {version} cannot be written: choose one of {versions}"
            )));
        }
        None => known(source_version(source)).unwrap_or(VERSION_UNKNOWN),
    };
    // A server does not start with a value whose module it lacks. One like all sources has their
    // modules; of another nothing is known but that Redis 8 has vector sets built in.
    let is_like =
        |version| !versions.is_empty() && versions.iter().all(|source| *source == version);
    let modules = match rdb_version {
        version if is_like(version) => Modules::Any,
        12 => Modules::VectorSets,
        _ => Modules::None,
    };
    Ok(Reader {
        rdb_version,
        modules,
        field_expiry: field_expiry(options),
    })
}

/// What both ends know of values that go over by element.
pub(super) fn abilities(plan: &Plan, reader: &Reader, options: &CopyOptions) -> Abilities {
    /// XGROUP CREATECONSUMER.
    const CREATES_CONSUMERS: Version = Version {
        major: 6,
        minor: 2,
        patch: 0,
    };
    // RDB 12: Redis 7.4; RDB 80: Valkey 9.0.
    let knows_field_expiry = |version: u16| (12..79).contains(&version) || version >= 80;
    let versions = plan.target.primaries.iter().map(|node| node.facts.version);
    Abilities {
        source_field_expiry: knows_field_expiry(source_version(&plan.source)),
        target_field_expiry: knows_field_expiry(reader.rdb_version),
        may_drop_field_expiry: options.accepted_losses.field_ttl,
        stream_offsets: reader.rdb_version >= 10,
        creates_consumers: versions
            .flatten()
            .all(|version| version >= CREATES_CONSUMERS),
    }
}

fn field_expiry(options: &CopyOptions) -> FieldExpiry {
    match options.accepted_losses.field_ttl {
        true => FieldExpiry::Drop,
        false => FieldExpiry::Refuse,
    }
}

/// The RDB version that a server reads and writes; `None`: it does not tell what it is.
pub(crate) fn server_version(facts: &ServerFacts) -> Option<u16> {
    let version = facts.version?;
    let is_valkey = facts.family == Some(Family::Valkey);
    Some(rdb_version(is_valkey, version.major, version.minor))
}

/// The RDB version of what the source gives; of several the highest.
pub(crate) fn source_version(side: &SidePlan) -> u16 {
    let versions = source_versions(side).into_iter();
    versions.max().unwrap_or(VERSION_UNKNOWN)
}

fn source_versions(side: &SidePlan) -> Vec<u16> {
    match &side.kind {
        SideKind::Files(files) => files
            .iter()
            .filter_map(|file| file.header.map(|header| header.version))
            .collect(),
        _ => side
            .primaries
            .iter()
            .filter_map(|node| server_version(&node.facts))
            .collect(),
    }
}

/// Which modules' values the target may be sent. Redis before 6.2 exits over one that it lacks.
async fn modules(target: &mut Probed) -> Result<Modules, PlanError> {
    const SURVIVES: Version = Version {
        major: 6,
        minor: 2,
        patch: 0,
    };
    const HAS_VECTOR_SETS: Version = Version {
        major: 8,
        minor: 0,
        patch: 0,
    };
    let facts = crate::prepare::first_facts(&target.plan);
    let is_redis = facts.family == Some(Family::Redis);
    let version = facts.version.unwrap_or(Version {
        major: 0,
        minor: 0,
        patch: 0,
    });
    let loaded = target
        .connection
        .has_modules()
        .await
        .map_err(|e| target.error(e))?;
    Ok(match loaded {
        Some(true) if version >= SURVIVES => Modules::Any,
        None if version >= SURVIVES => Modules::Any,
        _ if is_redis && version >= HAS_VECTOR_SETS => Modules::VectorSets,
        _ => Modules::None,
    })
}
