//! Hash slots: which of the 16384 slots of a cluster a key belongs to.

/// The number of hash slots of every cluster (Redis Cluster specification).
pub const SLOT_COUNT: usize = 16384;

/// A hash slot, 0..=16383.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a key: CRC16 of the hash tag if the key has one, else of the whole key.
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) & (SLOT_COUNT as u16 - 1))
    }

    /// `None` when the number is no slot.
    pub fn new(number: u64) -> Option<Self> {
        u16::try_from(number)
            .ok()
            .filter(|n| usize::from(*n) < SLOT_COUNT)
            .map(Self)
    }

    /// The number of the slot, 0..=16383.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; SLOT_COUNT / 64]>);

impl SlotSet {
    /// The set without a slot.
    pub fn empty() -> Self {
        Self(Box::new([0; SLOT_COUNT / 64]))
    }

    /// The set of all 16384 slots.
    pub fn all() -> Self {
        Self(Box::new([u64::MAX; SLOT_COUNT / 64]))
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    /// Whether a slot is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] >> (slot.index() % 64) & 1 == 1
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many slots are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..SLOT_COUNT as u16)
            .map(Slot)
            .filter(|slot| self.contains(*slot))
    }

    /// Adds all slots of another set.
    pub fn extend(&mut self, other: &SlotSet) {
        for (word, more) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= more;
        }
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotSet({} slots)", self.len())
    }
}

/// What is hashed: between the first `{` and the next `}`, unless that is empty.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr(b'{', key) else {
        return key;
    };
    let after = &key[open + 1..];
    match memchr(b'}', after) {
        None | Some(0) => key,
        Some(close) => &after[..close],
    }
}

fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == byte)
}

/// CRC16-CCITT (XMODEM): polynomial 0x1021, initial value 0, as the cluster specification names it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

const CRC16: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_as_cluster_keyslot_says() {
        // Each number is the answer of CLUSTER KEYSLOT of a Redis 7.0.
        let rows: [(&[u8], usize); 8] = [
            (b"123456789", 0x31C3),
            (b"foo", 12182),
            (b"{foo}bar", 12182),
            (b"a{foo}{bar}", 12182),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"", 0),
            (b"bar", 5061),
        ];
        for (key, slot) in rows {
            assert_eq!(Slot::of_key(key).index(), slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_set_of_slots() {
        let mut set = SlotSet::empty();
        assert!(set.is_empty());
        for n in [0, 63, 64, 16383] {
            set.insert(Slot::new(n).unwrap());
        }
        assert_eq!(
            set.iter().map(Slot::index).collect::<Vec<_>>(),
            [0, 63, 64, 16383]
        );
        assert_eq!((set.len(), SlotSet::all().len()), (4, SLOT_COUNT));
        assert_eq!(Slot::new(16384), None);
    }
}
