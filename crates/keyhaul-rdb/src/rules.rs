//! Who reads what: the one table of RDB versions, the forms that came with them, and what a form becomes
//! where it cannot be read.

use crate::form::{Form, VALKEY_VERSION_FIRST};

/// The RDB version with which a form came. A reader knows those of its own version and of all before it;
/// Valkey's versions build on 11 and know nothing of Redis's 12.
///
/// Seen on real servers: a test restores every form on every server that is at hand.
fn new_in(form: Form) -> u16 {
    match form {
        Form::String | Form::List | Form::Set | Form::ZsetText | Form::Hash => 1,
        Form::HashZipmap | Form::ListZiplist | Form::SetIntset | Form::ZsetZiplist => 2,
        Form::HashZiplist => 4,
        Form::ListQuicklist => 7,
        Form::Zset | Form::Module => 8,
        // Release candidates of 4.0 alone: nobody reads it.
        Form::ModuleOld => u16::MAX,
        Form::Stream => 9,
        Form::HashListpack | Form::ZsetListpack | Form::ListQuicklist2 | Form::Stream2 => 10,
        Form::SetListpack | Form::Stream3 => 11,
        Form::HashExpiringOld
        | Form::HashListpackExpiringOld
        | Form::HashExpiring
        | Form::HashListpackExpiring => 12,
        Form::HashExpiringValkey => 80,
    }
}

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
    let since = new_in(form);
    let is_foreign = rdb_version >= VALKEY_VERSION_FIRST
        && (SHARED_VERSION_LAST + 1..VALKEY_VERSION_FIRST).contains(&since);
    since <= rdb_version && !is_foreign
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
