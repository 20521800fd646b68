//! Drives the decoder over a file, in portions of any size.

use bytes::Bytes;
use keyhaul_rdb::{Checksum, Decoder, Event, Flaw, RawValue, RdbError, Record};

/// What to do with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taking {
    Skip,
    /// Take them raw, whole up to so many bytes.
    Raw(usize),
    /// Take the first part of each and leave the rest; whole up to so many bytes.
    Begin(usize),
    /// Take records with values up to so many bytes the fast way, all others raw in parts.
    Small(usize),
}

/// What came out, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// And how far the decoder was behind it.
    Event(Event, u64),
    Value(Vec<u8>),
}

/// The sizes of the portions that the input comes in.
pub(crate) type Portions<'a> = &'a mut dyn FnMut() -> usize;

/// All that comes out of `bytes`, and how it ended: the input ended where it may, or an error.
pub(crate) fn run(
    bytes: &[u8],
    portions: Portions<'_>,
    taking: Taking,
) -> (Vec<Seen>, Result<(), RdbError>) {
    let mut seen = Vec::new();
    let result = drive(bytes, portions, taking, &mut |one| seen.push(one));
    // Bytes behind the end are told after the end, or instead of it when they came together.
    let is_trailing = matches!(&result, Err(error) if error.flaw == Flaw::Trailing);
    let is_end = |one: &Seen| matches!(one, Seen::Event(Event::End { .. }, _));
    if is_trailing && seen.last().is_some_and(is_end) {
        seen.pop();
    }
    (seen, result)
}

fn drive(
    bytes: &[u8],
    portions: Portions<'_>,
    taking: Taking,
    sink: &mut dyn FnMut(Seen),
) -> Result<(), RdbError> {
    let mut decoder = Decoder::new(Checksum::Verify);
    let mut rest = bytes;
    let mut feed = |decoder: &mut Decoder| -> bool {
        let (portion, behind) = rest.split_at(portions().max(1).min(rest.len()));
        decoder.input().extend_from_slice(portion);
        rest = behind;
        !portion.is_empty()
    };
    loop {
        if let Taking::Small(value_max) = taking {
            take_small(&mut decoder, value_max, sink)?;
        }
        let Some(event) = decoder.next_event()? else {
            if feed(&mut decoder) {
                continue;
            }
            assert!(decoder.offset() <= bytes.len() as u64);
            return decoder.end_of_input();
        };
        let is_record = matches!(event, Event::Record(_));
        sink(Seen::Event(event, decoder.offset()));
        if !is_record {
            continue;
        }
        let value = match taking {
            Taking::Skip => continue,
            Taking::Begin(whole_max) => {
                while decoder.raw_value(whole_max)?.is_none() {
                    if !feed(&mut decoder) {
                        return decoder.end_of_input();
                    }
                }
                continue;
            }
            Taking::Raw(whole_max) => take_raw(&mut decoder, whole_max, &mut feed)?,
            Taking::Small(_) => take_raw(&mut decoder, 0, &mut feed)?,
        };
        match value {
            Some(value) => sink(Seen::Value(value)),
            None => return decoder.end_of_input(),
        }
    }
}

/// A value; `None`: there is no more input.
fn take_raw(
    decoder: &mut Decoder,
    whole_max: usize,
    feed: &mut dyn FnMut(&mut Decoder) -> bool,
) -> Result<Option<Vec<u8>>, RdbError> {
    let mut value = Vec::new();
    loop {
        match decoder.raw_value(whole_max)? {
            Some(RawValue::Whole(whole)) => {
                assert!(
                    whole.len() <= whole_max && value.is_empty(),
                    "not whole or too long"
                );
                return Ok(Some(whole.to_vec()));
            }
            Some(RawValue::Last(last)) => {
                let is_first = value.is_empty();
                value.extend_from_slice(&last);
                let sum = value.len();
                assert!(sum > whole_max || !is_first, "{sum} bytes could come whole");
                return Ok(Some(value));
            }
            Some(RawValue::Part(part)) => {
                assert!(!part.is_empty(), "a part of no bytes");
                value.extend_from_slice(&part);
            }
            None if !feed(decoder) => return Ok(None),
            None => {}
        }
    }
}

/// All records that come the fast way now, told as the others are.
fn take_small(
    decoder: &mut Decoder,
    value_max: usize,
    sink: &mut dyn FnMut(Seen),
) -> Result<(), RdbError> {
    loop {
        let Some(small) = decoder.small_record(value_max)? else {
            return Ok(());
        };
        let record = Record {
            db: small.db,
            key: Bytes::copy_from_slice(small.key),
            form: small.form,
            expire_at_ms: small.expire_at_ms,
            idle_s: small.idle_s,
            freq: small.freq,
            offset: small.offset,
        };
        let value = small.value.to_vec();
        assert!(
            value.len() <= value_max,
            "{} bytes are not small",
            value.len()
        );
        let begin = decoder.offset() - value.len() as u64;
        sink(Seen::Event(Event::Record(record), begin));
        sink(Seen::Value(value));
    }
}

/// A file, taken apart.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) version: u16,
    pub(crate) aux: Vec<(Bytes, Bytes)>,
    pub(crate) functions: Vec<Bytes>,
    pub(crate) module_aux: Vec<String>,
    pub(crate) records: Vec<(Record, Vec<u8>)>,
    pub(crate) has_checksum: Option<bool>,
}

/// The whole file, fed in portions of one size.
pub(crate) fn decode(bytes: &[u8], portion: usize, whole_max: usize) -> Result<File, RdbError> {
    let (seen, result) = run(bytes, &mut || portion, Taking::Raw(whole_max));
    result?;
    let mut file = File::default();
    let mut last = None;
    for one in seen {
        match one {
            Seen::Value(value) => file.records.push((last.take().unwrap(), value)),
            Seen::Event(Event::Header(header), _) => file.version = header.version,
            Seen::Event(Event::Aux { name, value }, _) => file.aux.push((name, value)),
            Seen::Event(Event::Function(code), _) => file.functions.push(code),
            Seen::Event(Event::ModuleAux { module }, _) => file.module_aux.push(module),
            Seen::Event(Event::Record(record), _) => last = Some(record),
            Seen::Event(Event::End { has_checksum }, _) => file.has_checksum = Some(has_checksum),
            Seen::Event(_, _) => {}
        }
    }
    Ok(file)
}
