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
use crate::key_type::KeyType;
use crate::stream_id::StreamId;
use crate::walk::{Kind, Walker, Wholes};

/// Elements of a value that are remembered to find what stands twice. In a larger value that is not
/// looked for: memory must not depend on it, and its damage would have to leave everything else whole.
const REMEMBERED_MAX: usize = 1 << 18;

/// Checks one value while its bytes arrive.
#[derive(Debug)]
pub struct ValueChecker {
    inside: Inside,
    state: State,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is not moved about"
)]
enum Inside {
    Elements(ElementReader),
    /// What its items mean the module alone knows; where they end can be told.
    Module(Walker),
}

#[derive(Debug, Default)]
struct State {
    form: Option<Form>,
    elements: u64,
    /// Digests of names that must differ, and what is wrong if two do not.
    seen: Vec<u128>,
    twice: &'static str,
    forgot: bool,
    last_score: Option<(f64, Vec<u8>)>,
    last_id: Option<StreamId>,
    /// Of a packed hash: when the field at hand expires, ms; the greatest number: it does not.
    last_expiry: u64,
    /// Of the group at hand: which entries are pending, and whether a consumer has them.
    pending: HashMap<StreamId, bool>,
    unowned: usize,
    /// There were too many of them.
    forgot_pending: bool,
    owned: HashSet<StreamId>,
    flaw: Option<&'static str>,
}

impl ValueChecker {
    /// At the start of a value.
    ///
    /// # Errors
    /// [`Flaw::OldModule`].
    pub fn new(form: Form) -> Result<Self, Flaw> {
        let inside = match form {
            Form::Module => Inside::Module(Walker::new(form, Wholes::NONE)?),
            _ => Inside::Elements(ElementReader::new(form)?),
        };
        let state = State {
            form: Some(form),
            ..State::default()
        };
        Ok(Self { inside, state })
    }

    /// Takes in what begins in `input` and returns how many bytes were used; what is left belongs in
    /// front of the next input.
    ///
    /// # Errors
    /// [`Flaw`], and how far into `input` it lies.
    pub fn push(&mut self, input: &[u8]) -> Result<usize, (Flaw, usize)> {
        let Self { inside, state } = self;
        let reader = match inside {
            Inside::Elements(reader) => reader,
            Inside::Module(walker) => return pass_over(walker, input),
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
        let is_done = match &mut self.inside {
            Inside::Elements(reader) => reader.is_done(),
            Inside::Module(walker) => {
                matches!(walker.step(&[])?, Some(step) if step.kind == Kind::End)
            }
        };
        if !is_done {
            return Err(Flaw::Truncated);
        }
        self.state.end_of_group();
        self.state.compare();
        // Servers delete a key with its last element. Redis 6.0 divides by their number
        // (SRANDMEMBER); later ones refuse such a value.
        let may_be_empty = matches!(
            self.state.form.map(Form::key_type),
            Some(KeyType::String | KeyType::Stream | KeyType::Module)
        );
        if self.state.elements == 0 && !may_be_empty {
            return Err(Flaw::Value("it holds nothing"));
        }
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

/// Walks to the end of a value, or of the input.
fn pass_over(walker: &mut Walker, input: &[u8]) -> Result<usize, (Flaw, usize)> {
    let mut used = 0;
    loop {
        let rest = input.get(used..).unwrap_or_default();
        match walker.step(rest).map_err(|flaw| (flaw, used))? {
            None => return Ok(used),
            Some(step) if step.kind == Kind::End => return Ok(used),
            Some(step) => used += step.bytes,
        }
    }
}

impl State {
    fn look(&mut self, element: Element<'_>) {
        self.elements += 1;
        match element {
            Element::String(_) | Element::Item(_) => {}
            Element::Member(member) => self.once(member, "a member stands twice"),
            Element::Field {
                field,
                expire_at_ms,
                ..
            } => {
                self.once(field, "a field stands twice");
                self.soonest_first(expire_at_ms);
            }
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
                // All elements so far were entries, and this. Servers look for entries until they
                // have found so many, and end when there are none left (XSETID, XREADGROUP).
                if facts.length != self.elements - 1 {
                    self.flaw = Some("a stream's length is not that of its entries");
                }
            }
            Element::Group { name, .. } => {
                self.end_of_group();
                self.compare();
                // Groups come sorted, as they lie in the server's tree.
                let last = self.last_score.take();
                if last.is_some_and(|(_, last)| last.as_slice() >= name) {
                    self.flaw = Some("a group stands twice");
                }
                self.last_score = Some((0.0, name.to_vec()));
            }
            Element::Pending { id, .. } => {
                if self.pending.len() >= REMEMBERED_MAX {
                    self.forgot_pending = true;
                    return;
                }
                if self.pending.insert(id, false).is_some() {
                    self.flaw = Some("an entry is pending twice");
                }
                self.unowned += 1;
            }
            Element::Consumer { name, .. } => {
                self.owned.clear();
                self.once(name, "a consumer stands twice");
            }
            Element::Owned(_) if self.forgot_pending => {}
            Element::Owned(id) => match self.pending.get_mut(&id) {
                Some(is_owned) if self.owned.insert(id) => {
                    self.unowned -= usize::from(!std::mem::replace(is_owned, true));
                }
                Some(_) => self.flaw = Some("a consumer has an entry twice"),
                None => self.flaw = Some("a consumer has an entry that is not pending"),
            },
        }
    }

    /// Remembers a name that may stand once; [`State::compare`] tells.
    fn once(&mut self, name: &[u8], flaw: &'static str) {
        if self.forgot {
            return;
        }
        if self.seen.len() >= REMEMBERED_MAX {
            self.forgot = true;
            self.seen = Vec::new();
            return;
        }
        self.twice = flaw;
        self.seen.push(xxh3_128(name));
    }

    /// Holds the remembered names against one another.
    fn compare(&mut self) {
        self.seen.sort_unstable();
        let are_single = self.seen.is_sorted_by(|one, next| one < next);
        if !are_single {
            self.flaw = Some(self.twice);
        }
        self.seen.clear();
        self.forgot = false;
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

    /// Packed hashes have the field that expires first at their start, and those that do not expire at
    /// their end: Redis (seen: 8.0, 8.2) counts those that have expired up to the first that has not,
    /// and ends when it then finds others.
    fn soonest_first(&mut self, expire_at_ms: Option<u64>) {
        if !matches!(
            self.form,
            Some(Form::HashListpackExpiring | Form::HashListpackExpiringOld)
        ) {
            return;
        }
        let expiry = expire_at_ms.unwrap_or(u64::MAX);
        if expiry < self.last_expiry {
            self.flaw = Some("a hash is not in the order in which its fields expire");
        }
        self.last_expiry = expiry;
    }

    fn end_of_group(&mut self) {
        if self.unowned > 0 && !self.forgot_pending {
            self.flaw = Some("a pending entry has no consumer");
        }
        self.pending.clear();
        self.forgot_pending = false;
        self.unowned = 0;
    }
}
