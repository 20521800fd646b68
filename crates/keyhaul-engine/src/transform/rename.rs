//! Other names for keys: one prefix for another.

use bytes::Bytes;

/// `OLD:NEW` of `--rename-prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixRename {
    old: Bytes,
    new: Bytes,
}

/// Why a text is no renaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use OLD:NEW, or OLD=NEW where a prefix itself holds a colon; one of them may be empty")]
pub struct BadRename;

impl PrefixRename {
    /// A renaming of the keys that begin with `old`; an empty `old` puts `new` before every key.
    pub fn new(old: &[u8], new: &[u8]) -> Self {
        Self {
            old: Bytes::copy_from_slice(old),
            new: Bytes::copy_from_slice(new),
        }
    }

    /// Parses `OLD=NEW` (prefixes may hold colons) or `OLD:NEW` (each holds none but at its end).
    ///
    /// With colons, `user::person:` is the prefix `user:` becoming `person:`, and `a:b` is `a`
    /// becoming `b`: the text is cut at `::` if there is one, else at its only colon.
    ///
    /// # Errors
    /// [`BadRename`] when it is not clear where to cut, or both sides are empty.
    pub fn parse(text: &str) -> Result<Self, BadRename> {
        let (old, new) = if let Some(pair) = text.split_once('=') {
            pair
        } else if let Some(cut) = text.find("::") {
            text.split_at(cut + 1)
        } else {
            text.split_once(':').ok_or(BadRename)?
        };
        let new = if text.contains('=') {
            new
        } else {
            new.strip_prefix(':').unwrap_or(new)
        };
        let is_unclear = !text.contains('=') && !text.contains("::") && new.contains(':');
        if is_unclear || (old.is_empty() && new.is_empty()) {
            return Err(BadRename);
        }
        Ok(Self::new(old.as_bytes(), new.as_bytes()))
    }

    /// The prefix that is replaced.
    pub fn old(&self) -> &[u8] {
        &self.old
    }

    /// The prefix that replaces it.
    pub fn replacement(&self) -> &[u8] {
        &self.new
    }
}

/// The new name of a key, if one of the renamings fits; the first that does counts.
pub fn renamed(renames: &[PrefixRename], key: &[u8]) -> Option<Bytes> {
    renames.iter().find_map(|rename| {
        let rest = key.strip_prefix(rename.old.as_ref())?;
        Some([rename.new.as_ref(), rest].concat().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed() {
        let rows = [
            ("a:b", Some(("a", "b"))),
            ("a=b", Some(("a", "b"))),
            ("user:=person:", Some(("user:", "person:"))),
            ("user::person:", Some(("user:", "person:"))),
            ("old:", Some(("old", ""))),
            (":new", Some(("", "new"))),
            ("=new:", Some(("", "new:"))),
            ("a:b:c", None),
            ("user:person:", None),
            ("a", None),
            ("", None),
            (":", None),
            ("=", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|(o, n)| PrefixRename::new(o.as_bytes(), n.as_bytes()));
            assert_eq!(PrefixRename::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn names() {
        let renames = [
            PrefixRename::new(b"a:", b"b:"),
            PrefixRename::new(b"", b"x"),
        ];
        assert_eq!(renamed(&renames, b"a:1").as_deref(), Some(&b"b:1"[..]));
        assert_eq!(renamed(&renames, b"c").as_deref(), Some(&b"xc"[..]));
        assert_eq!(renamed(&renames[..1], b"c"), None);
    }
}
