//! An RDB file that comes together, and the same in portions whose size its length decides.
#![no_main]

use keyhaul_rdb::{Checksum, Decoder, Event, RawValue, RdbError, StreamDetail, canonical};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = decode(input, usize::MAX);
    let parts = decode(input, input.len() % 61 + 1);
    assert_eq!(parts, whole);
    if let Err(error) = whole.1 {
        assert!(error.offset <= input.len() as u64, "{error}");
    }
});

type Ran = (Vec<(Event, Vec<u8>)>, Result<(), RdbError>);

fn decode(input: &[u8], portion: usize) -> Ran {
    let mut events = Vec::new();
    let result = run(input, portion, &mut events);
    // Bytes behind the end are told after the end, or instead of it when they came together.
    if result.is_err() && matches!(events.last(), Some((Event::End { .. }, _))) {
        events.pop();
    }
    (events, result)
}

fn run(input: &[u8], portion: usize, events: &mut Vec<(Event, Vec<u8>)>) -> Result<(), RdbError> {
    // Nearly every checksum is wrong here, which would keep all else from being looked at.
    let mut decoder = Decoder::new(Checksum::Trust);
    let mut portions = input.chunks(portion.min(input.len()).max(1));
    loop {
        let Some(event) = decoder.next_event()? else {
            match portions.next() {
                Some(portion) => decoder.input().extend_from_slice(portion),
                None => return decoder.end_of_input(),
            }
            continue;
        };
        let form = match &event {
            Event::Record(record) => Some(record.form),
            _ => None,
        };
        events.push((event, Vec::new()));
        let Some(form) = form else { continue };
        let mut value = Vec::new();
        loop {
            match decoder.raw_value(portion)? {
                Some(RawValue::Part(part)) => value.extend_from_slice(&part),
                Some(RawValue::Whole(last) | RawValue::Last(last)) => {
                    value.extend_from_slice(&last);
                    break;
                }
                None => match portions.next() {
                    Some(portion) => decoder.input().extend_from_slice(portion),
                    None => return decoder.end_of_input(),
                },
            }
        }
        let _ = canonical(form, &value, 1, StreamDetail::ActiveTimes);
        if let Some((_, place)) = events.last_mut() {
            *place = value;
        }
    }
}
