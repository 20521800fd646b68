//! Looks into a value for damage that a server would not survive.
//!
//! Servers trust what is inside of a payload whose checksum is right: Redis 6.0 exits over a field that
//! stands twice in a hash, later ones over some packed values (`sanitize-dump-payload` is off by
//! default). Whoever computes a checksum vouches for what it covers, so that is looked at before.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_128;

use crate::elements::{Element, ElementReader};
use crate::error::{Flaw, RdbError};
use crate::form::Form;
use crate::stream_id::StreamId;

/// Elements of a value that are remembered to find what stands twice. In a larger value that is not
/// looked for: memory must not depend on it, and its damage would have to leave everything else whole.
const REMEMBERED_MAX: usize = 1 << 18;

/// Checks one value while its bytes arrive.
#[derive(Debug)]
pub struct ValueChecker {
    /// `None`: a module's value, of which only the outside can be checked.
    elements: Option<ElementReader>,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    form: Option<Form>,
    elements: u64,
    seen: HashSet<u128>,
    forgot: bool,
    last_score: Option<(f64, Vec<u8>)>,
    last_id: Option<StreamId>,
    /// Of the group at hand: which entries are pending, and whether a consumer has them.
    pending: HashMap<StreamId, bool>,
    unowned: usize,
    owned: HashSet<StreamId>,
    flaw: Option<&'static str>,
}

impl ValueChecker {
    /// At the start of a value.
    ///
    /// # Errors
    /// [`Flaw::OldModule`].
    pub fn new(form: Form) -> Result<Self, Flaw> {
        let elements = match form {
            Form::Module => None,
            _ => Some(ElementReader::new(form)?),
        };
        let state = State {
            form: Some(form),
            ..State::default()
        };
        Ok(Self { elements, state })
    }

    /// Takes in what begins in `input` and returns how many bytes were used; what is left belongs in
    /// front of the next input.
    ///
    /// # Errors
    /// [`Flaw`], and how far into `input` it lies.
    pub fn push(&mut self, input: &[u8]) -> Result<usize, (Flaw, usize)> {
        let Self { elements, state } = self;
        let Some(reader) = elements else {
            return Ok(input.len());
        };
        let used = reader.push(input, usize::MAX, &mut |element| state.look(element))?;
        match state.flaw {
            Some(flaw) => Err((Flaw::Value(flaw), 0)),
            None => Ok(used),
        }
    }

    /// Says whether the value is complete and sound.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn finish(mut self) -> Result<(), Flaw> {
        if self
            .elements
            .as_ref()
            .is_some_and(|reader| !reader.is_done())
        {
            return Err(Flaw::Truncated);
        }
        self.state.end_of_group();
        match self.state.flaw {
            Some(flaw) => Err(Flaw::Value(flaw)),
            None => Ok(()),
        }
    }
}

/// Checks a value that lies together, as it stands in a payload behind the type byte.
///
/// # Errors
/// [`RdbError`] with the offset into `value`.
pub fn check_value(form: Form, value: &[u8]) -> Result<(), RdbError> {
    let mut checker = ValueChecker::new(form).map_err(|flaw| flaw.at(0))?;
    let used = checker
        .push(value)
        .map_err(|(flaw, offset)| flaw.at(offset as u64))?;
    checker.finish().map_err(|flaw| flaw.at(used as u64))?;
    match used == value.len() {
        true => Ok(()),
        false => Err(Flaw::Trailing.at(used as u64)),
    }
}

impl State {
    fn look(&mut self, element: Element<'_>) {
        self.elements += 1;
        match element {
            Element::String(_) | Element::Item(_) => {}
            Element::Member(member) => self.once(member, "a member stands twice"),
            Element::Field { field, .. } => self.once(field, "a field stands twice"),
            Element::Scored { member, score } => {
                self.once(member, "a member stands twice");
                self.in_order(member, score);
            }
            Element::Entry { id, .. } => {
                if self.last_id.is_some_and(|last| id <= last) {
                    self.flaw = Some("a stream's entries are not in order");
                }
                self.last_id = Some(id);
            }
            Element::Stream(facts) => {
                if self.last_id.is_some_and(|last| last > facts.last_id) {
                    self.flaw = Some("a stream's last id is not its last");
                }
                self.seen.clear();
            }
            Element::Group { name, .. } => {
                self.end_of_group();
                self.seen.clear();
                // Groups come sorted, as they lie in the server's tree.
                let last = self.last_score.take();
                if last.is_some_and(|(_, last)| last.as_slice() >= name) {
                    self.flaw = Some("a group stands twice");
                }
                self.last_score = Some((0.0, name.to_vec()));
            }
            Element::Pending { id, .. } => {
                if self.pending.insert(id, false).is_some() {
                    self.flaw = Some("an entry is pending twice");
                }
                self.unowned += 1;
            }
            Element::Consumer { name, .. } => {
                self.owned.clear();
                self.once(name, "a consumer stands twice");
            }
            Element::Owned(id) => match self.pending.get_mut(&id) {
                Some(is_owned) if self.owned.insert(id) => {
                    self.unowned -= usize::from(!std::mem::replace(is_owned, true));
                }
                Some(_) => self.flaw = Some("a consumer has an entry twice"),
                None => self.flaw = Some("a consumer has an entry that is not pending"),
            },
        }
    }

    fn once(&mut self, name: &[u8], flaw: &'static str) {
        if self.forgot {
            return;
        }
        if self.seen.len() >= REMEMBERED_MAX {
            self.forgot = true;
            self.seen = HashSet::new();
            return;
        }
        if !self.seen.insert(xxh3_128(name)) {
            self.flaw = Some(flaw);
        }
    }

    /// Packed sorted sets lie in the order of their scores, and names within a score.
    fn in_order(&mut self, member: &[u8], score: f64) {
        if !matches!(self.form, Some(Form::ZsetZiplist | Form::ZsetListpack)) {
            return;
        }
        if let Some((last, name)) = &self.last_score
            && (*last, name.as_slice()) >= (score, member)
        {
            self.flaw = Some("a sorted set is not sorted");
        }
        let mut name = self
            .last_score
            .take()
            .map(|(_, name)| name)
            .unwrap_or_default();
        name.clear();
        name.extend_from_slice(member);
        self.last_score = Some((score, name));
    }

    fn end_of_group(&mut self) {
        if self.unowned > 0 {
            self.flaw = Some("a pending entry has no consumer");
        }
        self.pending.clear();
        self.unowned = 0;
    }
}
