//! The kinds of values that the source gives, and what becomes of each on the target.

use keyhaul_rdb::{Form, Route, written_forms};

use crate::plan::SideKind;
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
pub(super) fn warnings(prepared: &Prepared) -> Vec<String> {
    let mut lines = Vec::new();
    let (source, target) = (&prepared.plan.source, &prepared.plan.target);
    let (source_facts, target_facts) = (first_facts(source), first_facts(target));
    if source_facts.family != target_facts.family
        && source_facts.family.is_some()
        && target_facts.family.is_some()
    {
        lines.push(format!(
            "from {} to {}",
            source_facts.product(),
            target_facts.product()
        ));
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
        lines.push(match prepared.options.accepted_losses.field_ttl {
            true => "the target does not know fields that expire: they are kept for ever".into(),
            false => "the target does not know fields that expire: hashes with such fields are listed; --accept-loss field-ttl keeps the fields for ever".into(),
        });
    }
    lines
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
