//! Where in a name a needle may stand that may stand anywhere.

use super::hash::{Kind, Sums};
use super::lengths::bits;
use super::shards::{Hashed, Shards};

/// The first bytes of the needles that may stand anywhere: what of a name is looked up at each of its bytes.
#[derive(Debug, Clone)]
pub(super) struct Heads {
    heads: Shards<Slot>,
    /// How many needles have a head of one byte, of two, ...
    sizes: [usize; HEAD],
}

/// The first bytes of a needle, and how long it is.
pub(super) struct Head {
    hash: u32,
    size: usize,
    length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    /// Needles that begin so.
    needles: u32,
    /// Bit n: one of them has, or had, n + 1 bytes.
    lengths: u64,
}

/// The longest head, in bytes.
const HEAD: usize = 4;

/// So many bytes of a needle that may stand anywhere are looked for: a bit for each length fits into a word.
pub(super) const INNER: usize = 64;

impl Head {
    /// Of a needle of 1 to [`INNER`] bytes.
    pub(super) fn of(needle: &Sums, length: usize) -> Self {
        let size = length.min(HEAD);
        Self { hash: needle.hash(Kind::Head, 0, size), size, length }
    }
}

impl Heads {
    pub(super) fn new() -> Self {
        Self { heads: Shards::new(), sizes: [0; HEAD] }
    }

    pub(super) fn insert(&mut self, head: &Head) {
        let Head { hash, size, length } = *head;
        let length = 1u64 << (length - 1);
        let Some(shard) = self.heads.shard_mut(hash) else { return };
        match shard.find_mut(hash, |slot| slot.hash == hash) {
            Some(slot) => {
                slot.needles = slot.needles.saturating_add(1);
                slot.lengths |= length;
            }
            None => shard.insert(Slot { hash, needles: 1, lengths: length }),
        }
        if let Some(count) = self.sizes.get_mut(size - 1) {
            *count += 1;
        }
    }

    pub(super) fn remove(&mut self, head: &Head) {
        let Head { hash, size, .. } = *head;
        let Some(shard) = self.heads.shard_mut(hash) else { return };
        match shard.find_mut(hash, |slot| slot.hash == hash) {
            Some(slot) if slot.needles > 1 => slot.needles -= 1,
            _ => drop(shard.remove(hash, |slot| slot.hash == hash)),
        }
        if let Some(count) = self.sizes.get_mut(size - 1) {
            *count = count.saturating_sub(1);
        }
    }

    /// Tells each piece of the name, by start and length, that may be a needle.
    pub(super) fn look_up(&self, name: &Sums, mut tell: impl FnMut(usize, usize)) {
        for (size, count) in (1..).zip(self.sizes) {
            // Where a head fits; none where there is no such head.
            let starts = if count == 0 { 0 } else { (name.len() + 1).saturating_sub(size) };
            for start in 0..starts {
                let hash = name.hash(Kind::Head, start, size);
                let lengths = self.heads.find(hash, |slot| slot.hash == hash).map_or(0, |slot| slot.lengths);
                let lengths = bits(lengths).map(|bit| bit + 1);
                lengths.take_while(|length| start + length <= name.len()).for_each(|length| tell(start, length));
            }
        }
    }
}

impl Hashed for Slot {
    fn hash(&self) -> u32 {
        self.hash
    }
}
