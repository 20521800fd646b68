//! The function libraries of a file: a server refuses to start with a file in which a library's
//! name stands twice, and all nodes of a cluster have the same ones.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

/// Names of the libraries that were written, with digests of their code.
#[derive(Debug, Default)]
pub(super) struct Libraries(HashMap<Vec<u8>, u128>);

/// What to do with a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its name is new.
    Write,
    /// The same code is there.
    Same,
    /// Its name is there with other code.
    Other,
}

impl Libraries {
    /// Takes note of a library that is to be written if its name is new.
    pub(super) fn note(&mut self, code: &[u8]) -> Verdict {
        // Code whose name cannot be told is known by itself.
        let name = library_name(code).unwrap_or(code.into());
        let digest = xxh3_128(code);
        match self.0.get(&name) {
            None => {
                self.0.insert(name, digest);
                Verdict::Write
            }
            Some(known) if *known == digest => Verdict::Same,
            Some(_) => Verdict::Other,
        }
    }
}

/// The name in the first line, `#!ENGINE name=NAME` (Redis >= 7.0). Words may stand in quotes,
/// "name" in capitals; the name itself is made of ASCII letters, digits and underscores, and case
/// matters.
pub(crate) fn library_name(code: &[u8]) -> Option<Vec<u8>> {
    let end = code.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = code
        .get(..end)?
        .strip_prefix(b"#!")?
        .iter()
        .copied()
        .filter(|byte| !b"'\"".contains(byte))
        .collect();
    let words = line.split(u8::is_ascii_whitespace).skip(1);
    let mut names = words.filter_map(|word| {
        let (label, name) = word.split_at_checked(b"name=".len())?;
        label.eq_ignore_ascii_case(b"name=").then_some(name)
    });
    let (Some(name), None) = (names.next(), names.next()) else {
        return None;
    };
    let is_name = !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_name.then(|| name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |code: &str, expected: Option<&str>| {
            let found = library_name(code.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{code:?}");
        };
        check("#!lua name=a_1\nx", Some("a_1"));
        check("#!lua   NAME=Lib  \r\nx", Some("Lib"));
        check("#!js name='lib'\nx", Some("lib"));
        check("#!lua \"name=lib\"\nx", Some("lib"));
        check("#!lua name=a name=b\nx", None);
        check("#!lua name=\nx", None);
        check("#!lua name=a-b\nx", None);
        check("#!lua n\nx name=b", None);
        check("#!name=a\nx", None);
        check("#!lua name=a", None);
        check("lua name=a\n", None);
        check("", None);
    }

    #[test]
    fn a_name_is_written_once() {
        let mut libraries = Libraries::default();
        let steps: [(&[u8], Verdict); 6] = [
            (b"#!lua name=a\n1", Verdict::Write),
            (b"#!lua name=b\n1", Verdict::Write),
            (b"#!lua name=a\n1", Verdict::Same),
            (b"#!lua name=a\n2", Verdict::Other),
            (b"nameless", Verdict::Write),
            (b"nameless", Verdict::Same),
        ];
        for (code, expected) in steps {
            assert_eq!(libraries.note(code), expected, "{}", code.escape_ascii());
        }
    }
}
