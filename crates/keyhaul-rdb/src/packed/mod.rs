//! Collections that servers keep packed in one string: read here without copies, after a check of every
//! byte, so that reading cannot fail. What the entries mean (fields and values, members and scores) is left
//! to the caller.

mod intset;
mod item;
mod listpack;
pub(crate) mod ziplist;
mod zipmap;

pub(crate) use intset::Intset;
pub(crate) use item::Item;
pub(crate) use listpack::Listpack;
pub(crate) use ziplist::Ziplist;
pub(crate) use zipmap::Zipmap;

#[cfg(test)]
mod tests {
    //! What all packed forms are put through.

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use crate::error::Flaw;

    /// Bytes as a dump shows them.
    pub(super) fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
        digits
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    }

    /// Puts damaged forms of something valid before `read`, which gives how many entries there were; it
    /// is `read` that must not panic, and that looks whether the entries are what it was told.
    pub(super) fn damage(valid: &[u8], read: impl Fn(&[u8]) -> Result<usize, Flaw>) {
        assert!(read(valid).is_ok(), "{valid:02x?}");
        for n in 0..valid.len() {
            assert!(read(&valid[..n]).is_err(), "cut to {n}: {valid:02x?}");
        }
        let longer = [valid, &[0xff]].concat();
        assert!(read(&longer).is_err(), "{longer:02x?}");
        for at in 0..valid.len() {
            let mut bytes = valid.to_vec();
            for byte in 0..=u8::MAX {
                bytes[at] = byte;
                let _ = read(&bytes);
            }
        }
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let mut bytes = valid.to_vec();
            for _ in 0..random.random_range(2..6) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            let _ = read(&bytes);
        }
    }

    /// Puts made-up bytes behind a header before `read`; `header` makes it from the length of all.
    pub(super) fn noise(
        header: impl Fn(u32) -> Vec<u8>,
        end: &[u8],
        read: impl Fn(&[u8]) -> Result<usize, Flaw>,
    ) {
        let mut random = StdRng::seed_from_u64(8);
        let header_bytes = header(0).len();
        for _ in 0..50_000 {
            let count = random.random_range(0..40);
            let body: Vec<u8> = (0..count).map(|_| random.random()).collect();
            let total = u32::try_from(header_bytes + body.len() + end.len()).unwrap();
            let _ = read(&[&header(total), &body, end].concat());
        }
    }
}
