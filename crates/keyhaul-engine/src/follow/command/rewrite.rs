//! The same command for keys of other names.

use std::borrow::Cow;

use super::{Args, KeyAt, Written};

/// The command with its keys, as [`super::keys`] has found them, under the names that `name` gives them. `None`: it would be
/// longer than a command may be.
pub(crate) fn rewrite<'a>(
    args: &Args<'a>,
    keys: &[KeyAt],
    name: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
) -> Option<Written> {
    let mut renamed: Vec<_> = args.iter().map(Cow::Borrowed).collect();
    for key in keys {
        if let (Some(place), Some(old)) = (renamed.get_mut(key.index), args.get(key.index)) {
            *place = name(old);
        }
    }
    Written::new(renamed.iter().map(|arg| &**arg))
}
