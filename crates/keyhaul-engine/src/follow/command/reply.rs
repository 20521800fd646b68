//! What the target's reply to a command says about whether it holds what the source held.

use keyhaul_resp::Token;

use super::table::{Does, Spec};

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
        // No such field (of an array, one of them). 0 is a condition that was not met: Valkey names such fields too.
        Does::FieldsExpire(_) | Does::FieldsPersist => matches!(reply, Token::Int(-2)),
        // FNX or FXX was not met.
        Does::FieldsSetExpire => zero,
        Does::Replace if spec.name == "SETNX" => zero,
        Does::Change => match spec.name {
            "LPUSHX" | "RPUSHX" | "HSETNX" => zero,
            "LINSERT" => zero || matches!(reply, Token::Int(-1)),
            "LPOP" | "RPOP" | "RPOPLPUSH" | "LMOVE" => *reply == Token::Null,
            // An entry that was deleted: Redis 7.0 and newer do not keep it pending, older ones do (seen).
            "ZPOPMIN" | "ZPOPMAX" | "XCLAIM" => matches!(reply, Token::Array(0)),
            _ => false,
        },
        _ => false,
    }
}
