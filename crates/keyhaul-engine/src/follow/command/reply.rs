//! What the target's reply to a command says about whether it holds what the source held.

use keyhaul_resp::Token;

use super::table::{Does, Spec, find};

impl Spec {
    /// What replies are held against by [`shows_absence`] that answer commands which were written for this one: its parts, or the same in another
    /// form.
    pub(crate) fn of_written(&'static self) -> &'static Self {
        let other = match self.does {
            // HSET says 0 of what was there, SADD too: a name whose replies show nothing.
            Does::MoveMember | Does::FieldsSetExpire => find(b"HSET"),
            _ => None,
        };
        other.unwrap_or(self)
    }
}

/// One token of the reply to a command out of a stream shows that the target did not do what the source has done: the key or the
/// field was not there, or a condition was not met. The key has to be read again.
///
/// A reply of several tokens shows it by any of them. Deleting what is not there is no difference afterwards and shows nothing.
/// Errors are not looked at.
pub(crate) fn shows_absence(spec: &Spec, reply: &Token) -> bool {
    let zero = matches!(reply, Token::Int(0));
    match spec.does {
        Does::Expire(_) | Does::Persist | Does::Copy | Does::Move | Does::MoveMember => zero,
        Does::Rename => zero,
        // NX, XX or IFEQ was not met. The old value of SET GET looks the same, and no stream has it: seen, 6.2 to 9.1.
        Does::Set => *reply == Token::Null,
        // MSETNX; MSET never says 0.
        Does::SetMany | Does::SetManyExpire => zero,
        // No such field (of an array, one of them). The source may not have had it either: HPERSIST, and all that Valkey sends, names
        // fields that were not there (seen); then the key is read again in vain. 0 is a condition that was not met.
        Does::FieldsExpire(_) | Does::FieldsPersist => matches!(reply, Token::Int(-2)),
        // FNX or FXX was not met.
        Does::FieldsSetExpire => zero,
        Does::SetAbsent | Does::PushPresent | Does::SetFieldAbsent => zero,
        Does::Insert => zero || matches!(reply, Token::Int(-1)),
        Does::PopFirst | Does::PopLast | Does::MoveElement | Does::MoveElementFrom => {
            *reply == Token::Null
        }
        Does::PopScored => matches!(reply, Token::Array(0)),
        // The entry was deleted. Redis before 7.0 lets it be pending all the same; newer servers only do so if it is restored (seen).
        Does::Claim => matches!(reply, Token::Array(0)),
        _ => false,
    }
}
