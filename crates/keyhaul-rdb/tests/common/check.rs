//! What must hold of any bytes at all: no panic, no hang, errors within the input, and the same whether
//! they come in portions or together.

use keyhaul_rdb::{
    Canonical, Converted, Event, FieldExpiry, Flaw, Form, Modules, RdbError, Reader, Reencoder,
    Refusal, StreamDetail, WRITABLE_VERSIONS, canonical, check_value, open, payload_kind,
    payload_rdb_version, reads_form, same_value, verify_checksum,
};
use rand::RngExt;
use rand::rngs::StdRng;

use super::file::{Seen, Taking, run};
use super::value::{Limit, lines_in_portions};

/// Values that become more bytes than this are not compared line by line.
const LINES_MAX: Limit = Limit(1 << 20);

/// A file, and the values in it.
pub(crate) fn check_file(bytes: &[u8], random: &mut StdRng) {
    let taking = Taking::Raw(usize::MAX);
    let whole = run(bytes, &mut || usize::MAX, taking);
    check_offset(&whole.1, bytes);
    // Header and end; between them no event without a byte of its own.
    assert!(
        whole.0.len() <= 2 * bytes.len() + 2,
        "{} events",
        whole.0.len()
    );
    let taking = match random.random_range(0..4) {
        0 => Taking::Small(random.random_range(0..1000)),
        1 => Taking::Raw(random.random_range(0..100)),
        2 => Taking::Begin(random.random_range(0..100)),
        _ => Taking::Skip,
    };
    let mut portions = portions(random.random());
    let other = run(bytes, &mut portions, taking);
    let events = |seen: &[Seen]| -> Vec<Seen> {
        let is_event = |seen: &&Seen| matches!(seen, Seen::Event(..));
        seen.iter().filter(is_event).cloned().collect()
    };
    assert_eq!(events(&other.0), events(&whole.0), "{taking:?}");
    // A wrong checksum is only found when the bytes behind it were not there before.
    let is_wrong_end = |result: &Result<(), RdbError>| {
        let flaw = result.as_ref().err().map(|error| &error.flaw);
        matches!(flaw, Some(Flaw::Trailing | Flaw::Checksum { .. }))
    };
    assert!(
        other.1 == whole.1 || is_wrong_end(&other.1) && is_wrong_end(&whole.1),
        "{taking:?}"
    );
    if matches!(taking, Taking::Raw(_) | Taking::Small(_)) {
        assert_eq!(other.0, whole.0);
    }
    let (mut form, mut last_offset) = (None, 0);
    for seen in &whole.0 {
        match seen {
            Seen::Event(event, offset) => {
                assert!(*offset >= last_offset && *offset <= bytes.len() as u64);
                last_offset = *offset;
                if let Event::Record(record) = event {
                    assert!(record.offset < *offset);
                    form = Some(record.form);
                }
            }
            Seen::Value(value) => check_any_value(form.take().unwrap(), value, random),
        }
    }
}

/// A value, sound or not.
pub(crate) fn check_any_value(form: Form, value: &[u8], random: &mut StdRng) {
    let sound = check_value(form, value);
    check_offset(&sound, value);
    let mut portions = portions(random.random());
    let whole = lines_in_portions(form, value, &mut || usize::MAX, LINES_MAX);
    let parts = lines_in_portions(form, value, &mut portions, LINES_MAX);
    check_offset(&whole, value);
    match (form, &whole, &parts) {
        // The offset is that of the part, when one is so long that it comes in parts.
        (Form::String, Err(one), Err(other)) => assert_eq!(one.flaw, other.flaw),
        _ => assert_eq!(whole, parts, "{form:?}"),
    }
    let digest = digest(form, value, StreamDetail::ActiveTimes);
    if form != Form::Module {
        assert_eq!(digest.as_ref().err(), whole.as_ref().err(), "{form:?}");
        assert!(
            whole.is_ok() || sound.is_err(),
            "{form:?}: sound, yet {whole:?}"
        );
    }
    let field_expiry = match random.random_range(0..2) {
        0 => FieldExpiry::Refuse,
        _ => FieldExpiry::Drop,
    };
    for to in Form::all() {
        reencode(form, to, value, field_expiry, sound.is_ok());
    }
}

fn digest(form: Form, value: &[u8], detail: StreamDetail) -> Result<Canonical, RdbError> {
    canonical(form, value, 7, detail)
}

/// Whatever a sound value becomes is sound too, and holds the same.
fn reencode(from: Form, to: Form, value: &[u8], field_expiry: FieldExpiry, is_sound: bool) {
    let Ok(mut reencoder) = Reencoder::new(from, to, field_expiry) else {
        return;
    };
    let mut out = Vec::new();
    let Ok(used) = reencoder.push(value, &mut out) else {
        return;
    };
    assert!(used <= value.len());
    if !is_sound {
        return;
    }
    assert!(
        reencoder.is_done() && used == value.len(),
        "{from:?} to {to:?}"
    );
    if let Err(e) = check_value(to, &out) {
        panic!("{from:?} to {to:?} of a sound value is not sound: {e}");
    }
    let detail = StreamDetail::of(to).min(StreamDetail::of(from));
    let (before, after) = (digest(from, value, detail), digest(to, &out, detail));
    if field_expiry == FieldExpiry::Refuse {
        assert_eq!(before, after, "{from:?} to {to:?}");
    } else {
        let elements = |digest: Result<Canonical, RdbError>| digest.map(|all| all.elements);
        assert_eq!(elements(before), elements(after), "{from:?} to {to:?}");
    }
}

/// A payload, for every version that can be written.
pub(crate) fn check_payload(payload: &[u8], original: &[u8], random: &mut StdRng) {
    let is_right = verify_checksum(payload).is_ok();
    assert_eq!(payload_rdb_version(payload).is_some(), payload.len() > 10);
    let _ = payload_kind(payload);
    assert!(same_value(payload, payload));
    assert_eq!(same_value(payload, original), same_value(original, payload));
    if let Ok((form, _, value)) = open(payload) {
        check_any_value(form, value, random);
    }
    for rdb_version in WRITABLE_VERSIONS {
        for modules in [Modules::None, Modules::VectorSets, Modules::Any] {
            let reader = Reader {
                rdb_version,
                modules,
                field_expiry: FieldExpiry::Refuse,
            };
            convert(&reader, payload, is_right);
        }
    }
}

fn convert(reader: &Reader, payload: &[u8], is_right: bool) {
    let mut out = vec![1, 2, 3];
    let result = reader.convert(payload, &mut out);
    assert_eq!(out.get(..3), Some(&[1, 2, 3][..]));
    let (_, written) = out.split_at(3);
    match result {
        Ok(Converted::Written) => {
            assert!(is_right, "the checksum was wrong and is right now");
            let (from, _, before) = open(payload).unwrap();
            let (form, version, value) = open(written).unwrap();
            assert_eq!(version, reader.rdb_version);
            assert!(
                reads_form(version, form),
                "{form:?} is not known in {version}"
            );
            verify_checksum(written).unwrap();
            check_value(form, value).unwrap();
            let detail = StreamDetail::of(form);
            assert_eq!(digest(from, before, detail), digest(form, value, detail));
        }
        Ok(Converted::Unchanged) => {
            let (form, _, _) = open(payload).unwrap();
            assert!(written.is_empty() && reads_form(reader.rdb_version, form));
        }
        Err(refusal) => {
            assert!(written.is_empty(), "{refusal}");
            if let Refusal::Damaged(error) = refusal {
                check_offset(&Err::<(), _>(error), payload);
            }
        }
    }
}

fn check_offset<T>(result: &Result<T, RdbError>, input: &[u8]) {
    if let Err(error) = result {
        assert!(
            error.offset <= input.len() as u64,
            "{error} of {}",
            input.len()
        );
    }
}

/// Portions of sizes that differ.
fn portions(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed | 1;
    move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        match state >> 62 {
            0 => 1,
            1 => (state >> 58 & 15) as usize + 1,
            _ => (state >> 52 & 1023) as usize + 1,
        }
    }
}
