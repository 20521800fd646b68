//! Who reads what: the one table of RDB versions, the forms that came with them, and what a form becomes
//! where it cannot be read.

use crate::form::{Form, VALKEY_VERSION_FIRST};

/// The RDB versions and the forms that are new in each. A reader knows those of its own version and of
/// all before it; Valkey's versions build on 11 and know nothing of Redis's 12.
///
/// Seen on real servers: a test restores every form on every server that is at hand.
const NEW_IN: &[(u16, &[Form])] = &[
    (
        1,
        &[
            Form::String,
            Form::List,
            Form::Set,
            Form::ZsetText,
            Form::Hash,
        ],
    ),
    (
        2,
        &[
            Form::HashZipmap,
            Form::ListZiplist,
            Form::SetIntset,
            Form::ZsetZiplist,
        ],
    ),
    (4, &[Form::HashZiplist]),
    (7, &[Form::ListQuicklist]),
    (8, &[Form::Zset, Form::Module]),
    (9, &[Form::Stream]),
    (
        10,
        &[
            Form::HashListpack,
            Form::ZsetListpack,
            Form::ListQuicklist2,
            Form::Stream2,
        ],
    ),
    (11, &[Form::SetListpack, Form::Stream3]),
    (
        12,
        &[
            Form::HashExpiringOld,
            Form::HashListpackExpiringOld,
            Form::HashExpiring,
            Form::HashListpackExpiring,
        ],
    ),
    (80, &[Form::HashExpiringValkey]),
];

/// The last version that both families share.
const SHARED_VERSION_LAST: u16 = 11;

/// What a form may become, the first that the reader knows. From the servers' own older formats.
const INSTEAD: &[(Form, &[Form])] = &[
    (Form::HashListpack, &[Form::Hash]),
    (Form::ZsetListpack, &[Form::Zset]),
    (Form::ListQuicklist2, &[Form::ListQuicklist]),
    (Form::SetListpack, &[Form::Set]),
    (Form::Stream3, &[Form::Stream2, Form::Stream]),
    (Form::Stream2, &[Form::Stream]),
    (Form::HashExpiring, &[Form::HashExpiringValkey, Form::Hash]),
    (
        Form::HashListpackExpiring,
        &[Form::HashExpiringValkey, Form::Hash],
    ),
    (
        Form::HashExpiringOld,
        &[Form::HashExpiringValkey, Form::Hash],
    ),
    (
        Form::HashListpackExpiringOld,
        &[Form::HashExpiringValkey, Form::Hash],
    ),
    (Form::HashExpiringValkey, &[Form::HashExpiring, Form::Hash]),
];

/// The oldest version that values can be converted to: Redis 5.0, the first with RESTORE ABSTTL.
pub const WRITABLE_VERSION_FIRST: u16 = 9;

/// The RDB versions that files and payloads can be written in.
pub const WRITABLE_VERSIONS: [u16; 5] = [9, 10, 11, 12, 80];

/// Whether a reader of this RDB version knows a form.
pub fn reads_form(rdb_version: u16, form: Form) -> bool {
    let is_valkey = rdb_version >= VALKEY_VERSION_FIRST;
    NEW_IN
        .iter()
        .filter(|(since, _)| match is_valkey {
            true => *since <= SHARED_VERSION_LAST || *since >= VALKEY_VERSION_FIRST,
            false => *since < VALKEY_VERSION_FIRST,
        })
        .filter(|(since, _)| *since <= rdb_version)
        .any(|(_, forms)| forms.contains(&form))
}

/// Whether a reader of `rdb_version` takes a payload whose footer names `version`.
pub fn reads_version(rdb_version: u16, version: u16) -> bool {
    let is_foreign = (SHARED_VERSION_LAST + 1..VALKEY_VERSION_FIRST).contains(&version);
    version <= rdb_version && !(rdb_version >= VALKEY_VERSION_FIRST && is_foreign)
}

/// The forms that servers which write this version use for new values.
pub fn written_forms(rdb_version: u16) -> impl Iterator<Item = Form> {
    let since = |version| rdb_version >= version;
    let is_redis_12 = since(12) && !since(VALKEY_VERSION_FIRST);
    let rows = [
        (Form::String, true),
        (Form::ListQuicklist, !since(10)),
        (Form::ListQuicklist2, since(10)),
        (Form::Set, true),
        (Form::SetIntset, true),
        (Form::SetListpack, since(11)),
        (Form::Zset, since(8)),
        (Form::ZsetZiplist, !since(10)),
        (Form::ZsetListpack, since(10)),
        (Form::Hash, true),
        (Form::HashZiplist, !since(10)),
        (Form::HashListpack, since(10)),
        (Form::HashExpiring, is_redis_12),
        (Form::HashListpackExpiring, is_redis_12),
        (Form::HashExpiringValkey, since(VALKEY_VERSION_FIRST)),
        (Form::Stream, since(9) && !since(10)),
        (Form::Stream2, since(10) && !since(11)),
        (Form::Stream3, since(11)),
        (Form::Module, since(8)),
    ];
    rows.into_iter()
        .filter(|(_, is_written)| *is_written)
        .map(|(form, _)| form)
}

/// What becomes of values of one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// They can be read as they are.
    Pass,
    /// The value can be read, the version in the footer cannot.
    Restamp,
    /// They are encoded anew in this form.
    Reencode(Form),
    /// There is no form in which they could be read.
    Refuse,
}

/// The way from a payload of `version` to a reader of `rdb_version`.
pub fn route(form: Form, version: u16, rdb_version: u16) -> Route {
    if reads_form(rdb_version, form) {
        return match reads_version(rdb_version, version) {
            true => Route::Pass,
            false => Route::Restamp,
        };
    }
    let instead = INSTEAD.iter().find(|(of, _)| *of == form);
    let known = instead.and_then(|(_, forms)| {
        let mut forms = forms.iter();
        forms.find(|form| reads_form(rdb_version, **form))
    });
    known.map_or(Route::Refuse, |form| Route::Reencode(*form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_first_version() {
        for form in Form::all().filter(|form| *form != Form::ModuleOld) {
            let rows = NEW_IN.iter().filter(|(_, forms)| forms.contains(&form));
            assert_eq!(rows.count(), 1, "{form:?}");
        }
    }

    #[test]
    fn nothing_leads_to_a_form_that_is_not_known() {
        for target in WRITABLE_VERSIONS {
            for form in Form::all() {
                match route(form, 12, target) {
                    Route::Reencode(to) => assert!(reads_form(target, to), "{form:?} {target}"),
                    Route::Pass | Route::Restamp => assert!(reads_form(target, form)),
                    Route::Refuse => assert_eq!(form, Form::ModuleOld),
                }
            }
        }
    }

    #[test]
    fn routes() {
        use Form::*;
        for (form, version, target, expected) in [
            (String, 12, 11, Route::Restamp),
            (String, 9, 12, Route::Pass),
            (String, 80, 12, Route::Restamp),
            (String, 12, 80, Route::Restamp),
            (String, 11, 80, Route::Pass),
            (HashListpack, 10, 9, Route::Reencode(Hash)),
            (Stream3, 12, 10, Route::Reencode(Stream2)),
            (Stream3, 12, 9, Route::Reencode(Stream)),
            (
                HashListpackExpiring,
                12,
                80,
                Route::Reencode(HashExpiringValkey),
            ),
            (HashExpiringValkey, 80, 12, Route::Reencode(HashExpiring)),
            (HashExpiring, 12, 11, Route::Reencode(Hash)),
            (ZsetText, 6, 12, Route::Pass),
        ] {
            assert_eq!(
                route(form, version, target),
                expected,
                "{form:?} {version} -> {target}"
            );
        }
    }
}
