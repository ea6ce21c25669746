//! A hash table whose clones share all that an edit does not touch.

use std::sync::Arc;

use hashbrown::HashTable;

use super::vector::Vector;

/// What stands in [`Shards`]. It knows its hash, so that a growing table need not look anything up.
pub(super) trait Hashed: Copy {
    /// All bits count alike.
    fn hash(&self) -> u32;
}

/// 1,024 hash tables, of which an edit copies one: at a million elements of 12 bytes, 26 KB.
///
/// Every probe reads a line of tags first (one byte for an element), and an element only when the tag is right; so
/// probes for what is not there stay within a few bytes for each element.
#[derive(Debug, Clone)]
pub(super) struct Shards<T> {
    shards: Vector<Option<Arc<HashTable<T>>>>,
}

const SHARD_BITS: u32 = 10;
const SHARDS: usize = 1 << SHARD_BITS;

impl<T: Hashed> Shards<T> {
    pub(super) fn new() -> Self {
        let mut shards = Vector::new();
        shards.grow(SHARDS);
        Self { shards }
    }

    /// Room for about this many elements.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut new = Self::new();
        // Shards of tables below this size stay as they come: most are empty.
        if capacity > 4 * SHARDS {
            for at in 0..SHARDS {
                if let Some(shard) = new.shards.get_mut(at) {
                    *shard = Some(Arc::new(HashTable::with_capacity(capacity / SHARDS)));
                }
            }
        }
        new
    }

    /// The first element with this hash for which `is` holds.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.shards.get(shard(hash))?.as_ref()?.find(spread(hash), is)
    }

    /// The same, for an edit. It copies nothing when there is no such element.
    pub(super) fn find_mut(&mut self, hash: u32, mut is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.find(hash, &mut is)?;
        Arc::make_mut(self.shards.get_mut(shard(hash))?.as_mut()?).find_mut(spread(hash), is)
    }

    pub(super) fn insert(&mut self, element: T) {
        let hash = element.hash();
        if let Some(shard) = self.shards.get_mut(shard(hash)) {
            let table = Arc::make_mut(shard.get_or_insert_default());
            table.insert_unique(spread(hash), element, |element| spread(element.hash()));
        }
    }

    pub(super) fn remove(&mut self, hash: u32, mut is: impl FnMut(&T) -> bool) -> Option<T> {
        self.find(hash, &mut is)?;
        let table = Arc::make_mut(self.shards.get_mut(shard(hash))?.as_mut()?);
        Some(table.find_entry(spread(hash), is).ok()?.remove().0)
    }
}

/// Which shard.
fn shard(hash: u32) -> usize {
    (hash >> (u32::BITS - SHARD_BITS)) as usize
}

/// `hashbrown` takes the place from the lowest bits and the tag from the highest 7.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Hashed for (u32, u8) {
        fn hash(&self) -> u32 {
            self.0
        }
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        for capacity in [0, 100_000] {
            let mut new = Shards::with_capacity(capacity);
            let elements = (0..10_000u32).map(|n| (n.wrapping_mul(0x9E37_79B1), 0));
            elements.clone().for_each(|element| new.insert(element));
            let old = new.clone();
            for (hash, _) in elements.clone().step_by(3) {
                new.find_mut(hash, |element| element.0 == hash).unwrap().1 = 1;
            }
            for (hash, _) in elements.clone().skip(1).step_by(3) {
                assert!(new.remove(hash, |element| element.0 == hash).is_some());
            }
            for (at, (hash, _)) in elements.enumerate() {
                let find = |shards: &Shards<(u32, u8)>| shards.find(hash, |element| element.0 == hash).copied();
                assert_eq!(find(&old), Some((hash, 0)));
                assert_eq!(find(&new), [Some((hash, 1)), None, Some((hash, 0))][at % 3]);
            }
        }
    }

    #[test]
    fn elements_of_one_hash_stand_side_by_side() {
        let mut shards = Shards::new();
        shards.insert((7, 1));
        shards.insert((7, 2));
        assert_eq!(shards.find(7, |element| element.1 == 2), Some(&(7, 2)));
        assert_eq!(shards.remove(7, |element| element.1 == 1), Some((7, 1)));
        assert_eq!(shards.find(7, |element| element.1 == 1), None);
        assert_eq!(shards.find_mut(8, |_| true), None);
    }
}
