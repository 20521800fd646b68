//! A payload, whose checksum is made right, for every version that can be written.
#![no_main]

use keyhaul_rdb::{
    Converted, FieldExpiry, Modules, Reader, StreamDetail, WRITABLE_VERSIONS, canonical,
    check_value, crc64, open, reads_form, same_value, verify_checksum,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut payload = input.to_vec();
    if let Some((covered, checksum)) = payload.split_last_chunk_mut::<8>() {
        *checksum = crc64(covered).to_le_bytes();
    }
    for rdb_version in WRITABLE_VERSIONS {
        for modules in [Modules::None, Modules::VectorSets, Modules::Any] {
            for field_expiry in [FieldExpiry::Refuse, FieldExpiry::Drop] {
                convert(
                    &payload,
                    Reader {
                        rdb_version,
                        modules,
                        field_expiry,
                    },
                );
            }
        }
    }
});

fn convert(payload: &[u8], reader: Reader) {
    let mut out = Vec::new();
    match reader.convert(payload, &mut out) {
        Err(_) => assert!(out.is_empty()),
        Ok(Converted::Unchanged) => {
            let (form, _, _) = open(payload).expect("it was converted");
            assert!(out.is_empty() && reads_form(reader.rdb_version, form));
        }
        Ok(Converted::Written) => {
            let (from, _, before) = open(payload).expect("it was converted");
            let (form, version, value) = open(&out).expect("it was written");
            assert_eq!(version, reader.rdb_version);
            assert!(
                reads_form(version, form),
                "{form:?} is not known in {version}"
            );
            verify_checksum(&out).expect("it was written with a checksum");
            check_value(form, value).expect("a sound value becomes a sound one");
            let detail = StreamDetail::of(from).min(StreamDetail::of(form));
            let digest = |form, value| canonical(form, value, 1, detail);
            if reader.field_expiry == FieldExpiry::Refuse {
                assert_eq!(digest(from, before), digest(form, value));
                assert!(same_value(payload, &out));
            }
        }
    }
}
