//! The kinds of values that the source gives, and what becomes of each on the target.

use keyhaul_rdb::{Form, Route, written_forms};

use crate::plan::{SideKind, Warning};
use crate::prepare::{Prepared, first_facts};

/// What becomes of the kinds.
#[derive(Debug, Default)]
struct Kinds {
    pass: u64,
    restamped: u64,
    reencoded: Vec<String>,
    refused: Vec<String>,
}

/// One line about all kinds; `None`: it is all the same to them.
pub(super) fn step(prepared: &Prepared) -> Option<String> {
    let kinds = sort(prepared);
    let mut parts = Vec::new();
    if kinds.pass > 0 {
        parts.push(format!("{} pass through", kinds.pass));
    }
    if kinds.restamped > 0 {
        parts.push(format!("{} get another footer", kinds.restamped));
    }
    if !kinds.reencoded.is_empty() {
        let names = kinds.reencoded.join("; ");
        parts.push(format!(
            "{} are encoded anew ({names})",
            kinds.reencoded.len()
        ));
    }
    if !kinds.refused.is_empty() {
        let names = kinds.refused.join("; ");
        parts.push(format!("{} cannot go ({names})", kinds.refused.len()));
    }
    match parts.is_empty() {
        true => None,
        false => Some(format!("kinds of values: {}", parts.join(", "))),
    }
}

/// What may be lost.
pub(super) fn warnings(prepared: &Prepared) -> Vec<Warning> {
    let mut found = Vec::new();
    let (source, target) = (&prepared.plan.source, &prepared.plan.target);
    let (source_facts, target_facts) = (first_facts(source), first_facts(target));
    if source_facts.family != target_facts.family
        && source_facts.family.is_some()
        && target_facts.family.is_some()
    {
        let (source, target) = (source_facts.product(), target_facts.product());
        let text = format!("from {source} to {target}");
        found.push(Warning::new("other-family", text));
    }
    if is_older(prepared.reader.rdb_version, prepared.source_version) {
        let text = format!(
            "the target is older: it reads RDB version {} and the source writes {}; values are converted, and what it cannot hold is listed",
            prepared.reader.rdb_version, prepared.source_version
        );
        found.push(Warning::new("target-older", text));
    }
    let forms = forms(prepared);
    let has_expiring = forms.iter().any(|form| expires(*form));
    let keeps_expiring = forms.iter().filter(|form| expires(**form)).all(|form| {
        match prepared.reader.route(*form, prepared.source_version) {
            Route::Pass | Route::Restamp => true,
            Route::Reencode(to) => to != Form::Hash,
            Route::Refuse => false,
        }
    });
    if has_expiring && !keeps_expiring {
        let text = match prepared.options.accepted_losses.field_ttl {
            true => "the target does not know fields that expire: they are kept for ever",
            false => {
                "the target does not know fields that expire: hashes with such fields are listed; --accept-loss field-ttl keeps the fields for ever"
            }
        };
        found.push(Warning::new("field-ttl", text));
    }
    found
}

/// Whether a reader of one RDB version is older than what another one writes. Those of Valkey (80 and above) and of Redis from
/// 12 on are apart: neither is older than the other.
fn is_older(reader: u16, source_version: u16) -> bool {
    let is_of_redis = |version: u16| (12..80).contains(&version);
    reader < source_version && !(is_of_redis(reader) && source_version >= 80)
}

fn expires(form: Form) -> bool {
    matches!(
        form,
        Form::HashExpiring
            | Form::HashListpackExpiring
            | Form::HashExpiringOld
            | Form::HashListpackExpiringOld
            | Form::HashExpiringValkey
    )
}

/// The forms that are there, or that servers of the source's version write.
fn forms(prepared: &Prepared) -> Vec<Form> {
    match &prepared.plan.source.kind {
        SideKind::Files(files) => {
            let mut forms: Vec<Form> = Vec::new();
            for (form, _) in files.iter().flat_map(|file| file.forms.values()) {
                if !forms.contains(form) {
                    forms.push(*form);
                }
            }
            forms
        }
        _ => written_forms(prepared.source_version).collect(),
    }
}

fn sort(prepared: &Prepared) -> Kinds {
    let mut kinds = Kinds::default();
    for form in forms(prepared) {
        let route = prepared.reader.route(form, prepared.source_version);
        match route {
            // A file has no footers.
            Route::Pass => kinds.pass += 1,
            Route::Restamp if matches!(prepared.plan.target.kind, SideKind::NewFile { .. }) => {
                kinds.pass += 1;
            }
            Route::Restamp => kinds.restamped += 1,
            Route::Reencode(_) => kinds.reencoded.push(form.name().to_owned()),
            Route::Refuse => kinds.refused.push(form.name().to_owned()),
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_target_is_older() {
        for (reader, source_version, expected) in [
            (10, 10, false),
            (11, 10, false),
            (10, 11, true),
            (11, 12, true),
            (12, 80, false),
            (80, 12, false),
            (11, 80, true),
        ] {
            let found = is_older(reader, source_version);
            assert_eq!(found, expected, "{reader} {source_version}");
        }
    }
}
