//! Names of keys: plain ones, and those that break careless code.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Kind;

/// Names that appear once in each db, as they are.
const ODD: [&[u8]; 26] = [
    b"",
    b" ",
    b"nul\0byte",
    b"\0",
    b"\xff\xfe\xfd",
    b"cr\r\nlf",
    b"\r\n",
    b"$5\r\nhello\r\n",
    b"{tag}one",
    b"{tag}two",
    b"{}empty tag",
    b"{{nested}}",
    b"}{",
    b"open{only",
    b"two words",
    b"glob*?[a-z]",
    b"back\\slash",
    b"quote\"'",
    b"tab\tkey",
    "schlüssel-鍵-🔑".as_bytes(),
    b"\xc3\x28 invalid utf-8",
    b"\x1b[31mred",
    b"-1",
    b"12345",
    b"*",
    b"a,b;c|d=e",
];

/// [`ODD`], and one name of 10 KB.
pub(super) const ODD_COUNT: usize = ODD.len() + 1;
const LONG_NAME_BYTES: usize = 10 * 1024;

/// The odd name with this index.
pub(super) fn odd(index: usize) -> Vec<u8> {
    match ODD.get(index) {
        Some(name) => name.to_vec(),
        None => {
            let mut name = b"long:".to_vec();
            name.resize(LONG_NAME_BYTES, b'x');
            name
        }
    }
}

/// A name that says what the key holds; `number` makes it unique.
pub(super) fn plain(kind: Kind, number: usize) -> Vec<u8> {
    format!("{kind:?}:{number}").into_bytes()
}

/// Mostly plain; one in 16 odd, but unique; one in 16 with a hash tag that some keys share.
pub(super) fn random(kind: Kind, number: usize, rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..16) {
        0 => [
            ODD[rng.random_range(0..ODD.len())],
            b"#",
            number.to_string().as_bytes(),
        ]
        .concat(),
        1 => format!("{{tag{}}}:{number}", rng.random_range(0..100)).into_bytes(),
        _ => plain(kind, number),
    }
}
