//! Values in a form in which equal means equal, and the first place where two differ.

use std::collections::HashMap;

use super::DiffOptions;
use super::stream::Stream;

/// How much is shown of a string before the byte that differs.
const BYTES_BEFORE: usize = 20;

/// A value as its type's command shows it.
pub(super) enum Value {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    /// Sorted.
    Set(Vec<Vec<u8>>),
    /// Sorted by name.
    Hash(Vec<Field>),
    /// In the server's order: by score, then by member.
    Zset(Vec<(Vec<u8>, Vec<u8>)>),
    Stream(Stream),
    /// Sorted by member; vector and attributes as text.
    Vectors(Vec<(Vec<u8>, String)>),
    /// Of a type that no command shows.
    Unreadable,
}

/// A hash field.
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    value: Vec<u8>,
    pub(super) expire_at_ms: Option<i64>,
}

impl Value {
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Value::Unreadable)
    }

    /// From the reply to the command that reads this type.
    pub(super) fn decode(kind: &str, reply: redis::Value) -> Value {
        match kind {
            "string" => Value::String(bytes(reply)),
            "list" => Value::List(list(reply)),
            "set" => {
                let mut members = list(reply);
                members.sort_unstable();
                Value::Set(members)
            }
            "hash" => {
                let mut fields: Vec<Field> = pairs(list(reply))
                    .map(|(name, value)| Field {
                        name,
                        value,
                        expire_at_ms: None,
                    })
                    .collect();
                fields.sort_by(|a, b| a.name.cmp(&b.name));
                Value::Hash(fields)
            }
            "zset" => Value::Zset(pairs(list(reply)).collect()),
            "stream" => Value::Stream(Stream::decode(reply)),
            "vectorset" => {
                let mut members = list(reply);
                members.sort_unstable();
                let members = members.into_iter().map(|member| (member, String::new()));
                Value::Vectors(members.collect())
            }
            _ => panic!("no command reads a {kind}"),
        }
    }

    /// The first parts that differ, as text: what this one has and what the other has. None if
    /// equal.
    pub(super) fn first_difference(
        &self,
        other: &Value,
        options: &DiffOptions,
    ) -> Option<(String, String)> {
        match (self, other) {
            (Value::String(a), Value::String(b)) => string_difference(a, b),
            (Value::List(a), Value::List(b)) | (Value::Set(a), Value::Set(b)) => {
                sequence_difference(a, b, |a, b| a == b, |element| show(element))
            }
            (Value::Hash(a), Value::Hash(b)) => {
                let equal = |a: &Field, b: &Field| a.equals(b, options.ignore_expiry_tolerance_ms);
                sequence_difference(a, b, equal, Field::show)
            }
            (Value::Zset(a), Value::Zset(b)) => {
                let show = |(member, score): &(Vec<u8>, Vec<u8>)| {
                    format!("{} score {}", show(member), score.escape_ascii())
                };
                sequence_difference(a, b, |a, b| a.0 == b.0 && same_score(&a.1, &b.1), show)
            }
            (Value::Vectors(a), Value::Vectors(b)) => {
                let show_vector =
                    |(member, vector): &(Vec<u8>, String)| format!("{} {vector}", show(member));
                sequence_difference(a, b, |a, b| a == b, show_vector)
            }
            (Value::Stream(a), Value::Stream(b)) => a.first_difference(b, options),
            _ => Some((
                "a value of one type".into(),
                "a value of another type".into(),
            )),
        }
    }
}

impl Field {
    fn equals(&self, other: &Field, tolerance_ms: u64) -> bool {
        let same_expiry = match (self.expire_at_ms, other.expire_at_ms) {
            (Some(a), Some(b)) => a.abs_diff(b) <= tolerance_ms,
            (a, b) => a == b,
        };
        same_expiry && self.name == other.name && self.value == other.value
    }

    fn show(&self) -> String {
        let expiry = match self.expire_at_ms {
            Some(at_ms) => format!(" expires at {at_ms}"),
            None => String::new(),
        };
        format!("{} = {}{expiry}", show(&self.name), show(&self.value))
    }
}

/// The first index where two sequences differ, both sides as text.
pub(super) fn sequence_difference<T>(
    a: &[T],
    b: &[T],
    equal: impl Fn(&T, &T) -> bool,
    show: impl Fn(&T) -> String,
) -> Option<(String, String)> {
    let common = a.iter().zip(b).take_while(|(a, b)| equal(a, b)).count();
    if common == a.len() && common == b.len() {
        return None;
    }
    let side = |items: &[T]| {
        let item = items.get(common).map_or_else(|| "the end".into(), &show);
        format!("[{common} of {}] {item}", items.len())
    };
    Some((side(a), side(b)))
}

/// The same double, bit by bit. Texts may differ: servers print the shortest or 17 digits.
fn same_score(a: &[u8], b: &[u8]) -> bool {
    let bits = |text: &[u8]| {
        let text = std::str::from_utf8(text).expect("scores are text");
        text.parse::<f64>()
            .unwrap_or_else(|_| panic!("not a score: {text}"))
            .to_bits()
    };
    a == b || bits(a) == bits(b)
}

fn string_difference(a: &[u8], b: &[u8]) -> Option<(String, String)> {
    if a == b {
        return None;
    }
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let start = common.saturating_sub(BYTES_BEFORE);
    let side = |bytes: &[u8]| {
        // What follows is cut anyway; a long string need not be escaped whole.
        let end = bytes.len().min(common + 200);
        format!(
            "[{start}.. of {} bytes] {}",
            bytes.len(),
            show(&bytes[start..end])
        )
    };
    Some((side(a), side(b)))
}

/// Bytes as text in quotes.
pub(super) fn show(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// The bytes of a scalar reply.
pub(super) fn bytes(reply: redis::Value) -> Vec<u8> {
    match reply {
        redis::Value::BulkString(bytes) => bytes,
        redis::Value::SimpleString(text) => text.into_bytes(),
        redis::Value::Okay => b"OK".to_vec(),
        redis::Value::Int(number) => number.to_string().into_bytes(),
        redis::Value::Nil => b"nil".to_vec(),
        other => panic!("not a scalar: {other:?}"),
    }
}

/// The elements of an array reply.
pub(super) fn elements(reply: redis::Value) -> Vec<redis::Value> {
    match reply {
        redis::Value::Array(elements) => elements,
        redis::Value::Nil => Vec::new(),
        other => panic!("not an array: {other:?}"),
    }
}

/// The named fields of a reply that is a flat array of names and values.
pub(super) fn fields(reply: redis::Value) -> HashMap<String, redis::Value> {
    let mut fields = HashMap::new();
    let mut items = elements(reply).into_iter();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        fields.insert(
            String::from_utf8(bytes(name)).expect("names are text"),
            value,
        );
    }
    fields
}

fn list(reply: redis::Value) -> Vec<Vec<u8>> {
    elements(reply).into_iter().map(bytes).collect()
}

fn pairs(items: Vec<Vec<u8>>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || Some((items.next()?, items.next()?)))
}
