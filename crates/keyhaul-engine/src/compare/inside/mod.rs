//! What differs inside a value, for whoever has to find out why: the first few differences, a line each.
//!
//! Here two payloads are taken apart; values that are too large for that are in [`crate::compare::big`], which
//! says the same in the same words. Whether two values differ at all is not decided here.

mod ordered;
pub(crate) mod stream;
pub(crate) mod text;
mod unordered;

use keyhaul_rdb::{Element, ElementReader, Flaw, Form, KeyType, StreamDetail, open};

use text::Lines;

/// What differs between two payloads with their footers: at most `most` lines, and one that says how many more
/// there are. Nothing when all that differs is when a consumer was last seen or active.
pub(crate) fn differences(source: &[u8], target: &[u8], most: usize) -> Vec<String> {
    let undecoded = || {
        vec![format!(
            "the bytes differ: {} on the source, {} on the target",
            source.len(),
            target.len()
        )]
    };
    let (Ok((form, _, value)), Ok((other_form, _, other_value))) = (open(source), open(target))
    else {
        return undecoded();
    };
    let mut lines = Lines::new(most);
    let (source, target) = (Part { form, value }, Part::new(other_form, other_value));
    let done = match form.key_type() {
        KeyType::String => ordered::string(source, target, &mut lines),
        KeyType::List => ordered::list(source, target, &mut lines),
        KeyType::Set | KeyType::SortedSet | KeyType::Hash => {
            unordered::compare(source, target, &mut lines)
        }
        KeyType::Stream => {
            let detail = StreamDetail::of(form).min(StreamDetail::of(other_form));
            stream::compare(source, target, detail, &mut lines)
        }
        _ => return undecoded(),
    };
    match done {
        Ok(()) => lines.finish(),
        Err(_) => undecoded(),
    }
}

/// A value as it stands in a payload.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    form: Form,
    value: &'a [u8],
}

impl<'a> Part<'a> {
    fn new(form: Form, value: &'a [u8]) -> Self {
        Self { form, value }
    }

    /// Tells every element.
    fn for_each(self, mut sink: impl FnMut(Element<'_>)) -> Result<(), Flaw> {
        let mut reader = ElementReader::new(self.form)?;
        let pushed = reader.push(self.value, usize::MAX, &mut sink);
        pushed.map_err(|(flaw, _)| flaw)?;
        match reader.is_done() {
            true => Ok(()),
            false => Err(Flaw::Truncated),
        }
    }
}

/// Goes through a value a few elements at a time, so that two can be gone through in step.
struct Steps<'a, T> {
    reader: ElementReader,
    rest: &'a [u8],
    /// What an element is kept as; `None`: it is of no interest.
    keep: fn(Element<'_>) -> Option<T>,
    ahead: std::collections::VecDeque<T>,
}

impl<'a, T> Steps<'a, T> {
    fn new(part: Part<'a>, keep: fn(Element<'_>) -> Option<T>) -> Result<Self, Flaw> {
        Ok(Self {
            reader: ElementReader::new(part.form)?,
            rest: part.value,
            keep,
            ahead: std::collections::VecDeque::new(),
        })
    }

    /// The next element, which stays the next one.
    fn peek(&mut self) -> Result<Option<&T>, Flaw> {
        while self.ahead.is_empty() && !self.reader.is_done() {
            let (keep, ahead) = (self.keep, &mut self.ahead);
            let pushed = self.reader.push(self.rest, 1, &mut |element| {
                ahead.extend(keep(element));
            });
            let used = pushed.map_err(|(flaw, _)| flaw)?;
            if used == 0 && !self.reader.is_done() {
                return Err(Flaw::Truncated);
            }
            self.rest = self.rest.get(used..).unwrap_or_default();
        }
        Ok(self.ahead.front())
    }

    fn next(&mut self) -> Result<Option<T>, Flaw> {
        self.peek()?;
        Ok(self.ahead.pop_front())
    }
}

#[cfg(test)]
mod tests;
