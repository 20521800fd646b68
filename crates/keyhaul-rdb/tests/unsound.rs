//! Values that can be walked over and are not sound all the same.

mod common;

use common::records;
use keyhaul_rdb::{
    ElementReader, FieldExpiry, Flaw, Form, KeyType, Modules, Reader, Refusal, STRING_BYTES_MAX,
    StreamDetail, canonical, check_value,
};

#[track_caller]
fn check(form: Form, value: &[u8], flaw: &Flaw) {
    let error = check_value(form, value).expect_err("it is not sound");
    assert_eq!(error.flaw, *flaw, "{form:?} {}", value.escape_ascii());
}

#[test]
fn what_stands_twice() {
    let member = Flaw::Value("a member stands twice");
    let field = Flaw::Value("a field stands twice");
    check(Form::Set, b"\x02\x01a\x01a", &member);
    // The same number as text and as an integer.
    check(Form::Set, b"\x02\x0212\xc0\x0c", &member);
    check(
        Form::SetListpack,
        b"\x0d\x0d\0\0\0\x02\0\x81a\x02\x81a\x02\xff",
        &member,
    );
    check(Form::Hash, b"\x02\x01a\x01x\x01a\x01y", &field);
    let valkey = [
        &b"\x02\x01a\x01x"[..],
        &[0xff; 8],
        b"\x01a\x01y",
        &[0xff; 8],
    ]
    .concat();
    check(Form::HashExpiringValkey, &valkey, &field);
    let score = 1f64.to_le_bytes();
    let zset = [b"\x02\x01a", &score[..], b"\x01a", &score].concat();
    check(Form::Zset, &zset, &member);
    check_value(Form::List, b"\x02\x01a\x01a").unwrap();
    check_value(Form::Set, b"\x02\x01a\x01b").unwrap();
}

#[test]
fn scores() {
    let zset = |score: f64| [&b"\x01\x01a"[..], &score.to_le_bytes()].concat();
    let nan = Flaw::Value("a score is not a number");
    check(Form::Zset, &zset(f64::NAN), &nan);
    check(Form::ZsetText, b"\x01\x01a\xfd", &nan);
    check(Form::ZsetText, b"\x01\x01a\x01x", &nan);
    for sound in [b"\x01\x01a\xfe", b"\x01\x01a\xff"] {
        check_value(Form::ZsetText, sound).unwrap();
    }
    check_value(Form::Zset, &zset(f64::NEG_INFINITY)).unwrap();
    let unsorted = b"\x11\x11\0\0\0\x04\0\x81a\x02\x02\x01\x81b\x02\x01\x01\xff";
    check(
        Form::ZsetListpack,
        unsorted,
        &Flaw::Value("a sorted set is not sorted"),
    );
}

/// Of all values but strings nothing is told in parts, and an element that cannot be held is refused:
/// told in parts it would not count for any digest.
#[test]
fn elements_that_cannot_be_held() {
    let huge = |head: &[u8]| [head, b"\x81", &(STRING_BYTES_MAX + 1).to_be_bytes(), b"x"].concat();
    let flaw = Flaw::TooLarge(STRING_BYTES_MAX + 10);
    for (form, head) in [
        (Form::List, &b"\x01"[..]),
        (Form::Set, b"\x01"),
        (Form::Zset, b"\x01"),
        (Form::Hash, b"\x01\x01f"),
        (Form::HashExpiringValkey, b"\x01"),
        (Form::HashListpack, b""),
        (Form::ListQuicklist2, b"\x01\x01"),
    ] {
        let value = huge(head);
        check(form, &value, &flaw);
        let digest = canonical(form, &value, 1, StreamDetail::Basic);
        assert_eq!(digest.unwrap_err().flaw, flaw, "{form:?}");
        let mut told = 0;
        let mut reader = ElementReader::new(form).unwrap();
        let read = reader.push(&value, usize::MAX, &mut |_| told += 1);
        assert_eq!((read.unwrap_err().0, told), (flaw.clone(), 0), "{form:?}");
    }
    // A string comes in parts; there it is only the rest that is missing.
    check(Form::String, &huge(b""), &Flaw::Truncated);
}

/// What is not complete, or more than a value, is nothing to vouch for: modules' values neither.
#[test]
fn no_prefix_of_a_value_is_sound() {
    let mut modules = 0;
    for (name, version, record, value) in records().iter().filter(|one| one.3.len() < 400) {
        for end in 0..value.len() {
            assert!(
                check_value(record.form, &value[..end]).is_err(),
                "{name} cut to {end}"
            );
        }
        let longer = [&value[..], b"\0"].concat();
        let error = check_value(record.form, &longer).unwrap_err();
        assert_eq!(
            (error.offset, error.flaw),
            (value.len() as u64, Flaw::Trailing),
            "{name}"
        );
        if record.form.key_type() == KeyType::Module {
            modules += 1;
            let payload = common::payload_of(record.form.type_byte(), &longer, *version);
            let reader = Reader {
                rdb_version: 9,
                modules: Modules::Any,
                field_expiry: FieldExpiry::Refuse,
            };
            let result = reader.convert(&payload, &mut Vec::new());
            assert!(
                matches!(result, Err(Refusal::Damaged(_))),
                "{name}: {result:?}"
            );
        }
    }
    assert!(modules > 3, "only {modules} values of modules");
}
