//! The digest of a DUMP payload while it arrives: of its bytes without the footer, and of the value in them
//! whatever its encoding.

use bytes::{Buf, BytesMut};
use keyhaul_rdb::{Canonical, CanonicalReader, FOOTER_BYTES, Form, KeyType, StreamDetail};
use xxhash_rust::xxh3::Xxh3;

/// What all digests of a job have in common: only such can be compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DigestRules {
    /// Not known to those who wrote the data.
    pub seed: u64,
    /// How much of a stream both servers know.
    pub detail: StreamDetail,
}

/// Digests of one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadDigests {
    /// The type; `None`: of a type byte that is not known.
    pub key_type: Option<KeyType>,
    /// Of the bytes.
    pub raw: u128,
    /// Of the value; `None`: it was not asked for, or the payload cannot be decoded.
    pub canonical: Option<Canonical>,
}

/// Takes in a payload.
pub(crate) struct PayloadReader {
    rules: DigestRules,
    /// Of the server that wrote it: some type bytes mean one thing in one version and another in the next.
    rdb_version: u16,
    form: Option<Form>,
    raw: Xxh3,
    /// `None`: not asked for, or of no use any more.
    canonical: Option<CanonicalReader>,
    wants_canonical: bool,
    /// What may be the footer, and what a decoder wants to see again.
    held: BytesMut,
    /// So much of what is held is in the digest of the bytes.
    digested: usize,
    has_begun: bool,
}

impl PayloadReader {
    pub(crate) fn new(rules: DigestRules, rdb_version: u16, wants_canonical: bool) -> Self {
        Self {
            rules,
            rdb_version,
            form: None,
            raw: Xxh3::with_seed(rules.seed),
            canonical: None,
            wants_canonical,
            held: BytesMut::new(),
            digested: 0,
            has_begun: false,
        }
    }

    /// The next bytes.
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.held.extend_from_slice(part);
        let mut upto = self.held.len().saturating_sub(FOOTER_BYTES);
        if upto == 0 {
            return;
        }
        if !self.has_begun {
            self.has_begun = true;
            let type_byte = self.held.get_u8();
            upto -= 1;
            self.raw.update(&[type_byte]);
            self.form = Form::of(type_byte, self.rdb_version);
            if self.wants_canonical {
                let DigestRules { seed, detail } = self.rules;
                let reader = self
                    .form
                    .map(|form| CanonicalReader::new(form, seed, detail));
                self.canonical = reader.and_then(Result::ok);
            }
        }
        if let Some(fresh) = self.held.get(self.digested..upto) {
            self.raw.update(fresh);
        }
        let value = self.held.get(..upto).unwrap_or_default();
        let used = match self.canonical.as_mut().map(|reader| reader.push(value)) {
            Some(Ok(used)) => used,
            Some(Err(_)) => {
                self.canonical = None;
                upto
            }
            None => upto,
        };
        self.held.advance(used);
        self.digested = upto - used;
    }

    /// The digests of all of it.
    pub(crate) fn finish(self) -> PayloadDigests {
        // What a decoder left before the footer is no part of the value.
        let is_used = self.digested == 0;
        PayloadDigests {
            key_type: self.form.map(Form::key_type),
            raw: self.raw.digest128(),
            canonical: self
                .canonical
                .filter(|_| is_used)
                .and_then(CanonicalReader::finish),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "hello" as Redis 7.0 dumps it, RDB 10; the checksum is not looked at.
    const HELLO: &[u8] = b"\x00\x05hello\x0a\x00\x01\x02\x03\x04\x05\x06\x07\x08";

    fn digests(payload: &[u8], part_bytes: usize) -> PayloadDigests {
        let rules = DigestRules {
            seed: 7,
            detail: StreamDetail::Offsets,
        };
        let mut reader = PayloadReader::new(rules, 10, true);
        payload
            .chunks(part_bytes)
            .for_each(|part| reader.push(part));
        reader.finish()
    }

    #[test]
    fn parts_and_footers_do_not_count() {
        let whole = digests(HELLO, 1000);
        assert_eq!(whole.key_type, Some(KeyType::String));
        assert_eq!(whole.canonical.map(|canonical| canonical.elements), Some(5));
        for part_bytes in 1..HELLO.len() {
            assert_eq!(digests(HELLO, part_bytes), whole, "{part_bytes}");
        }
        let mut other = HELLO.to_vec();
        *other.last_mut().unwrap() += 1;
        assert_eq!(digests(&other, 3), whole);
        for at in 0..7 {
            let mut other = HELLO.to_vec();
            other[at] ^= 1;
            let other = digests(&other, 3);
            assert!(other.raw != whole.raw, "{at}");
            assert!(at == 1 || other.canonical != whole.canonical, "{at}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_has_no_canonical_form() {
        for payload in [
            &b""[..],
            b"\x00",
            b"\xfe\x00234567890123",
            b"\x00\x7f23456789012",
        ] {
            let found = digests(payload, 4);
            assert_eq!(found.canonical, None, "{payload:?}");
        }
    }
}
