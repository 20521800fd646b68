//! Walks over the items of one value while its bytes arrive. Holds no bytes itself, so its memory does
//! not depend on the value.

use crate::error::Flaw;
use crate::form::{Form, Op, Role};
use crate::length::decode_number;
use crate::text::{STRING_BYTES_MAX, TextHead};

/// Counts within counts: a stream's groups have consumers, and these have entries.
const DEPTH_MAX: usize = 4;

/// Up to which length items come as a whole, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wholes {
    /// Strings; longer ones come in parts.
    pub text_bytes: u64,
    /// Packed values; longer ones come in parts too.
    pub packed_bytes: u64,
}

impl Wholes {
    /// For walks on which nothing is looked at.
    pub(crate) const NONE: Self = Self {
        text_bytes: 0,
        packed_bytes: 0,
    };
    /// For walks on which every item is looked at.
    pub(crate) const ALL: Self = Self {
        text_bytes: STRING_BYTES_MAX,
        packed_bytes: STRING_BYTES_MAX,
    };
}

/// One step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// What was stepped over.
    pub kind: Kind,
    /// What it is in the value.
    pub role: Role,
    /// How many bytes of the input it takes.
    pub bytes: usize,
}

/// What a step went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number, or how often what follows is repeated.
    Number(u64),
    /// Bytes of a length that the form has fixed, a score as text, or an item of a module.
    Fixed,
    /// A whole string, its head included.
    Text,
    /// The head of a string that comes in parts.
    TextHead(TextHead),
    /// A part of it, and whether it is the last.
    TextPart { is_last: bool },
    /// The value is complete.
    End,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    ops: &'static [Op],
    next: usize,
    /// Times still to go, this one included.
    rounds: u64,
}

/// What of a module's value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModuleState {
    Id,
    Opcode,
    Number,
    Bytes(usize),
    Text,
}

/// Where the walk over one value stands.
#[derive(Debug, Clone)]
pub(crate) struct Walker {
    frames: [Frame; DEPTH_MAX],
    depth: usize,
    /// Bytes to come of a string that comes in parts, and its role.
    part: Option<(u64, Role)>,
    module: ModuleState,
    /// The node of a quicklist that comes next holds one plain item.
    is_plain: bool,
    wholes: Wholes,
}

impl Walker {
    /// At the start of a value.
    ///
    /// # Errors
    /// [`Flaw::OldModule`].
    pub(crate) fn new(form: Form, wholes: Wholes) -> Result<Self, Flaw> {
        if form == Form::ModuleOld {
            return Err(Flaw::OldModule);
        }
        let frame = Frame {
            ops: form.grammar(),
            next: 0,
            rounds: 1,
        };
        Ok(Self {
            frames: [frame; DEPTH_MAX],
            depth: 1,
            part: None,
            module: ModuleState::Id,
            is_plain: false,
            wholes,
        })
    }

    /// The next step; `None`: more input is needed. The caller takes the step's bytes off the input.
    ///
    /// # Errors
    /// [`Flaw`] of the item that begins here.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Option<Step>, Flaw> {
        if let Some((left, role)) = self.part {
            return Ok(self.part_step(left, role, input.len()));
        }
        let Some(op) = self.next_op() else {
            return Ok(Some(Step {
                kind: Kind::End,
                role: Role::Value,
                bytes: 0,
            }));
        };
        let step = match op {
            Op::Number(Role::Container) => self.container(input)?,
            Op::Number(role) => number(role, input)?,
            Op::Each(body) => {
                let step = number(Role::Count, input)?;
                if let Some(Step {
                    kind: Kind::Number(rounds),
                    ..
                }) = step
                {
                    self.advance();
                    self.repeat(body, rounds);
                    return Ok(step);
                }
                None
            }
            Op::Fixed(role, bytes) => fixed(role, bytes, input),
            Op::ScoreText => {
                let bytes = match input.first() {
                    None => return Ok(None),
                    Some(253..) => 1,
                    Some(bytes) => 1 + usize::from(*bytes),
                };
                fixed(Role::ScoreText, bytes, input)
            }
            Op::Text(role) => self.text(role, self.wholes.text_bytes, input)?,
            Op::Packed if self.is_plain => self.text(Role::Item, self.wholes.text_bytes, input)?,
            Op::Packed => self.text(Role::Packed, self.wholes.packed_bytes, input)?,
            Op::Module => return self.module_step(input),
        };
        if step.is_some() {
            self.advance();
        }
        Ok(step)
    }

    /// The operation that is due; takes finished rounds off.
    fn next_op(&mut self) -> Option<Op> {
        loop {
            let frame = self.frames.get_mut(self.depth.checked_sub(1)?)?;
            if let Some(op) = frame.ops.get(frame.next) {
                return Some(*op);
            }
            frame.rounds -= 1;
            frame.next = 0;
            if frame.rounds == 0 {
                self.depth -= 1;
            }
        }
    }

    fn advance(&mut self) {
        if let Some(frame) = self.frames.get_mut(self.depth.wrapping_sub(1)) {
            frame.next += 1;
        }
    }

    fn repeat(&mut self, ops: &'static [Op], rounds: u64) {
        if rounds == 0 {
            return;
        }
        // No grammar goes deeper: a test walks all of them.
        let frame = self
            .frames
            .get_mut(self.depth)
            .expect("a grammar within its depth");
        *frame = Frame {
            ops,
            next: 0,
            rounds,
        };
        self.depth += 1;
    }

    fn container(&mut self, input: &[u8]) -> Result<Option<Step>, Flaw> {
        let step = number(Role::Container, input)?;
        match step.map(|step| step.kind) {
            None => {}
            Some(Kind::Number(1)) => self.is_plain = true,
            Some(Kind::Number(2)) => self.is_plain = false,
            Some(_) => return Err(Flaw::Value("a list's node is neither plain nor packed")),
        }
        Ok(step)
    }

    fn text(&mut self, role: Role, whole_max: u64, input: &[u8]) -> Result<Option<Step>, Flaw> {
        let Some(head) = TextHead::decode(input)? else {
            return Ok(None);
        };
        let whole = head.whole_bytes();
        if whole <= whole_max || head.body_bytes == 0 {
            let bytes = usize::try_from(whole).map_err(|_| Flaw::TooLarge(whole))?;
            let kind = Kind::Text;
            return Ok((input.len() >= bytes).then_some(Step { kind, role, bytes }));
        }
        self.part = Some((head.body_bytes, role));
        Ok(Some(Step {
            kind: Kind::TextHead(head),
            role,
            bytes: head.head_bytes,
        }))
    }

    fn part_step(&mut self, left: u64, role: Role, available: usize) -> Option<Step> {
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(available);
        if bytes == 0 {
            return None;
        }
        let left = left - bytes as u64;
        self.part = (left > 0).then_some((left, role));
        let kind = Kind::TextPart { is_last: left == 0 };
        Some(Step { kind, role, bytes })
    }

    /// A module's value (RDB 8): each item is told by a number in front of it, 0 ends the value.
    fn module_step(&mut self, input: &[u8]) -> Result<Option<Step>, Flaw> {
        let role = Role::Module;
        let step = match self.module {
            ModuleState::Text => self.text(role, self.wholes.text_bytes, input)?,
            ModuleState::Bytes(bytes) => fixed(role, bytes, input),
            _ => number(role, input)?,
        };
        let Some(Step { kind, .. }) = step else {
            return Ok(None);
        };
        self.module = match (self.module, kind) {
            (ModuleState::Opcode, Kind::Number(opcode)) => match opcode {
                0 => {
                    self.advance();
                    ModuleState::Id
                }
                1 | 2 => ModuleState::Number,
                3 => ModuleState::Bytes(4),
                4 => ModuleState::Bytes(8),
                5 => ModuleState::Text,
                _ => return Err(Flaw::Value("an item of a module's value of unknown kind")),
            },
            _ => ModuleState::Opcode,
        };
        Ok(step)
    }
}

fn number(role: Role, input: &[u8]) -> Result<Option<Step>, Flaw> {
    Ok(decode_number(input)?.map(|(number, bytes)| Step {
        kind: Kind::Number(number),
        role,
        bytes,
    }))
}

fn fixed(role: Role, bytes: usize, input: &[u8]) -> Option<Step> {
    let kind = Kind::Fixed;
    (input.len() >= bytes).then_some(Step { kind, role, bytes })
}
