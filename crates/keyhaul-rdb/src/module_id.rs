//! The name of a module's type inside of its 64-bit id: nine characters of six bits, then ten bits of
//! encoding version (Redis >= 4.0).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The name of the type.
pub fn module_name(id: u64) -> String {
    let character = |index: u32| {
        let six_bits = (id >> (10 + 6 * index)) & 63;
        usize::try_from(six_bits)
            .ok()
            .and_then(|at| ALPHABET.get(at))
            .map_or('?', |byte| char::from(*byte))
    };
    (0..9).rev().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_vector_sets() {
        // The first nine bytes behind the type byte in a payload of Redis 8.2: 0x81, id.
        assert_eq!(module_name(0xbde7_2da2_bb1e_b400), "vectorset");
    }
}
