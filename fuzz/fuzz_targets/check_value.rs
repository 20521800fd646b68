//! A value: the first byte is the number of its form, the second what becomes of fields that expire.
#![no_main]

use keyhaul_rdb::{
    ElementReader, FieldExpiry, Form, Reencoder, StreamDetail, canonical, check_value,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [number, policy, value @ ..] = input else {
        return;
    };
    let forms: Vec<Form> = Form::all().collect();
    let form = forms[usize::from(*number) % forms.len()];
    let is_sound = check(form, value);
    let field_expiry = match policy % 2 {
        0 => FieldExpiry::Refuse,
        _ => FieldExpiry::Drop,
    };
    for to in forms {
        let Ok(mut reencoder) = Reencoder::new(form, to, field_expiry) else {
            continue;
        };
        let mut out = Vec::new();
        let is_done = reencoder.push(value, &mut out).is_ok() && reencoder.is_done();
        if !is_sound || !is_done {
            continue;
        }
        check_value(to, &out).expect("a sound value becomes a sound one");
        let detail = StreamDetail::of(form).min(StreamDetail::of(to));
        let before = canonical(form, value, 1, detail).expect("it is sound");
        let after = canonical(to, &out, 1, detail).expect("it is sound");
        assert_eq!(before.elements, after.elements);
        if field_expiry == FieldExpiry::Refuse {
            assert_eq!(before, after, "{form:?} to {to:?}");
        }
    }
});

/// Whether the value is sound. If it is, its elements can be read, one byte at a time.
fn check(form: Form, value: &[u8]) -> bool {
    let sound = check_value(form, value);
    if let Err(error) = &sound {
        assert!(error.offset <= value.len() as u64, "{error}");
    }
    let Ok(mut reader) = ElementReader::new(form) else {
        return sound.is_ok();
    };
    let mut used = 0;
    for known in 0..=value.len().min(4096) {
        match reader.push(&value[used..known], usize::MAX, &mut |_| {}) {
            Ok(bytes) => used += bytes,
            Err((flaw, _)) => {
                assert!(sound.is_err(), "it is sound, and yet: {flaw}");
                return false;
            }
        }
    }
    let is_read = reader.is_done() && used == value.len();
    assert!(is_read || sound.is_err() || value.len() > 4096);
    sound.is_ok()
}
