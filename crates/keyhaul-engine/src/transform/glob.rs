//! The patterns of `KEYS` and `SCAN MATCH`, matched here as a server matches them.
//!
//! A pattern that chooses keys on one side must choose the same keys on the other, and in the stream,
//! where no server filters. Corner cases follow `stringmatchlen` of Redis, oddities included.

/// A compiled pattern. Bytes, case sensitive.
///
/// `*` any bytes, `?` any byte, `[ab]` `[^ab]` `[a-z]` one byte of a set, `\x` the byte x itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: Vec<u8>,
    elements: Vec<Element>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    /// `*`; never twice in a row.
    AnyBytes,
    /// `?`
    AnyByte,
    Byte(u8),
    Set(Box<ByteSet>),
}

/// One bit for each byte value.
type ByteSet = [bool; 256];

impl Glob {
    /// Compiles a pattern. There are no bad patterns: what is unfinished has a meaning, as on a server.
    pub fn new(pattern: &[u8]) -> Glob {
        let mut elements = Vec::new();
        let mut rest = pattern;
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            elements.push(match (first, behind) {
                (b'*', _) if elements.last() == Some(&Element::AnyBytes) => continue,
                (b'*', _) => Element::AnyBytes,
                (b'?', _) => Element::AnyByte,
                (b'[', _) => {
                    let (set, behind) = byte_set(behind);
                    rest = behind;
                    Element::Set(Box::new(set))
                }
                (b'\\', [escaped, behind @ ..]) => {
                    rest = behind;
                    Element::Byte(*escaped)
                }
                // A backslash at the end is itself.
                (byte, _) => Element::Byte(byte),
            });
        }
        Glob {
            pattern: pattern.to_vec(),
            elements,
        }
    }

    /// The pattern as it was given, for `SCAN MATCH`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.pattern
    }

    /// The pattern chooses every key. `**` is not among these: servers do not match it with the empty key.
    pub fn is_match_all(&self) -> bool {
        self.pattern == b"*"
    }

    /// A server would choose `key` for this pattern.
    ///
    /// Takes at most pattern length times key length steps: since `*` matches any bytes, only the last
    /// one met ever needs another try.
    pub fn matches(&self, key: &[u8]) -> bool {
        if key.is_empty() {
            // `stringmatchlen` looks at no element when there are no bytes. Commands take `*` as all keys.
            return self.pattern.is_empty() || self.is_match_all();
        }
        let (mut element_index, mut byte_index) = (0, 0);
        // Where to go on when what follows the last `*` does not fit: the element behind it, and the
        // first byte that it has not taken yet.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(&byte) = key.get(byte_index) {
            let element = self.elements.get(element_index);
            if element == Some(&Element::AnyBytes) {
                element_index += 1;
                retry = Some((element_index, byte_index));
            } else if element.is_some_and(|element| element.takes(byte)) {
                element_index += 1;
                byte_index += 1;
            } else if let Some((behind_star, untaken)) = retry {
                element_index = behind_star;
                byte_index = untaken + 1;
                retry = Some((behind_star, byte_index));
            } else {
                return false;
            }
        }
        matches!(
            self.elements.get(element_index..),
            Some([] | [Element::AnyBytes])
        )
    }
}

impl Element {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Element::AnyBytes | Element::AnyByte => true,
            Element::Byte(expected) => *expected == byte,
            Element::Set(set) => set[usize::from(byte)],
        }
    }
}

/// Compiles what stands behind a `[`, and gives what stands behind its `]`.
///
/// As on a server: `]` ends the set even as its first byte; the end of a range is any byte, `]` and `\`
/// too; the end of the pattern ends the set.
fn byte_set(pattern: &[u8]) -> (ByteSet, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut set = [negated; 256];
    loop {
        rest = match rest {
            [] => return (set, rest),
            [b'\\', escaped, behind @ ..] => {
                set[usize::from(*escaped)] = !negated;
                behind
            }
            [b']', behind @ ..] => return (set, behind),
            [start, b'-', end, behind @ ..] => {
                for byte in signed_range(*start, *end) {
                    set[usize::from(byte)] = !negated;
                }
                behind
            }
            [byte, behind @ ..] => {
                set[usize::from(*byte)] = !negated;
                behind
            }
        };
    }
}

/// The bytes between two, in either order. Servers compare them as C's `char`, which on x86 is signed:
/// 0x80 to 0xff come before 0x00.
fn signed_range(start: u8, end: u8) -> impl Iterator<Item = u8> {
    let (start, end) = (start.cast_signed(), end.cast_signed());
    (start.min(end)..=start.max(end)).map(i8::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row was answered the same by Redis 6.0, 7.0, 8.2 and Valkey 9.1 on x86-64.
    const CASES: &[(&[u8], &[u8], bool)] = &[
        (b"", b"", true),
        (b"", b"a", false),
        (b"a", b"", false),
        (b"abc", b"abc", true),
        (b"abc", b"ABC", false),
        (b"abc", b"abcd", false),
        (b"abc", b"ab", false),
        (b"\0\xff", b"\0\xff", true),
        (b"a\0b", b"a", false),
        // `?` is one byte, also of a character of several.
        (b"?", b"\xff", true),
        (b"?", b"\xc3\xa9", false),
        (b"??", b"\xc3\xa9", true),
        (b"?", b"", false),
        // `*` is any bytes, and only alone is it the empty key too.
        (b"*", b"", true),
        (b"*", b"a\r\n\0", true),
        (b"**", b"", false),
        (b"**", b"a", true),
        (b"a*", b"a", true),
        (b"a**", b"a", true),
        (b"a*?", b"a", false),
        (b"*a", b"baa", true),
        (b"*a", b"aab", false),
        (b"a*b*c", b"a-b-b-c", true),
        (b"a*b*c", b"a-c-b", false),
        (b"*ab", b"aab", true),
        (b"*aab", b"aaab", true),
        (b"user:*:name", b"user:1:name", true),
        (b"user:*:name", b"user:1:names", false),
        // Sets.
        (b"[ab]", b"b", true),
        (b"[ab]", b"c", false),
        (b"[ab]", b"", false),
        (b"[^ab]", b"c", true),
        (b"[^ab]", b"a", false),
        (b"[a^]", b"^", true),
        (b"[!a]", b"!", true),
        (b"[!a]", b"b", false),
        (b"[*?]", b"*", true),
        (b"[*?]", b"a", false),
        (b"[[]", b"[", true),
        (b"*[ab]", b"xxb", true),
        // Ranges, in either order; a dash at an edge is a dash.
        (b"[a-c]", b"b", true),
        (b"[c-a]", b"b", true),
        (b"[a-c]", b"-", false),
        (b"[a-a]", b"a", true),
        (b"[-a]", b"-", true),
        (b"[a-c-e]", b"d", false),
        (b"[a-c-e]", b"-", true),
        (b"[^a-c]", b"b", false),
        (b"[^c-a]", b"d", true),
        // `]` ends a set at once, except as the end of a range.
        (b"[]", b"]", false),
        (b"[]a]", b"a", false),
        (b"[]a]", b"]a]", false),
        (b"[^]", b"x", true),
        (b"[^]a]", b"xa]", true),
        (b"[^]a]", b"x", false),
        (b"[a-]", b"-", false),
        (b"[a-]", b"^", true),
        (b"[a-]]", b"^", true),
        (b"[a-]]", b"^]", false),
        // A set without an end reaches to the end of the pattern.
        (b"[", b"[", false),
        (b"[^", b"a", true),
        (b"[^", b"ab", false),
        (b"[ab", b"b", true),
        (b"[ab", b"[ab", false),
        (b"[^ab", b"b", false),
        (b"[a-", b"-", true),
        (b"[a*", b"a*", false),
        (b"[a*", b"*", true),
        // Bytes are signed when they are compared.
        (b"[\x01-\xff]", b"a", false),
        (b"[\x01-\xff]", b"\0", true),
        (b"[\x80-\x7f]", b"a", true),
        (b"[a-\xff]", b"\x80", false),
        (b"[a-\xff]", b"A", true),
        (b"[\xc3-\xc5]", b"\xc4", true),
        // Escapes.
        (b"\\*", b"*", true),
        (b"\\*", b"a", false),
        (b"\\a", b"a", true),
        (b"\\\\", b"\\", true),
        (b"\\[a]", b"[a]", true),
        (b"\\", b"\\", true),
        (b"a\\", b"a\\", true),
        (b"a\\", b"a", false),
        (b"\\*\\", b"*\\", true),
        (b"a\\**", b"a*", true),
        (b"[\\]]", b"]", true),
        (b"[\\]]", b"\\", false),
        (b"[\\^a]", b"^", true),
        (b"[^\\^]", b"^", false),
        (b"[\\", b"\\", true),
        (b"[a\\", b"\\", true),
        (b"[\\a-c]", b"b", false),
        (b"[\\a-c]", b"-", true),
        (b"[a-\\]", b"b", false),
        (b"[a-\\]", b"^", true),
        (b"[a-\\]]", b"^", false),
        (b"[a-\\]]", b"^]", true),
        (b"[a\\-c]", b"b", false),
        (b"[a\\-c]", b"-", true),
    ];

    #[test]
    fn agrees_with_servers() {
        for (pattern, key, expected) in CASES {
            let got = Glob::new(pattern).matches(key);
            let (pattern, key) = (pattern.escape_ascii(), key.escape_ascii());
            assert_eq!(got, *expected, "pattern {pattern}, key {key}");
        }
    }

    #[test]
    fn only_one_star_is_all_keys() {
        for (pattern, expected) in [("*", true), ("**", false), ("", false), ("a*", false)] {
            let glob = Glob::new(pattern.as_bytes());
            assert_eq!(glob.is_match_all(), expected, "{pattern}");
            assert_eq!(glob.as_bytes(), pattern.as_bytes());
        }
    }

    /// By plain recursion over each `*` this would outlast us all.
    #[test]
    fn many_stars_are_not_exponential() {
        let glob = Glob::new(&[&b"a*".repeat(500)[..], b"b"].concat());
        let mut key = vec![b'a'; 20_000];
        assert!(!glob.matches(&key));
        key.push(b'b');
        assert!(glob.matches(&key));
    }
}
