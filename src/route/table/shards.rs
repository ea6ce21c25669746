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
    shards: Vector<Option<Arc<Shard<T>>>>,
}

/// Those whose hashes begin with the same ten bits.
#[derive(Debug, Clone)]
pub(super) struct Shard<T>(HashTable<T>);

const SHARD_BITS: u32 = 10;
const SHARDS: usize = 1 << SHARD_BITS;

impl<T: Hashed> Shards<T> {
    pub(super) fn new() -> Self {
        let mut shards = Vector::new();
        shards.grow(SHARDS);
        Self { shards }
    }

    /// Has each element put into its shard. They come shard by shard, so that each stays in the cache while it is
    /// filled; those of a shard come in their order.
    pub(super) fn build(elements: Vec<T>, mut put: impl FnMut(&mut Shard<T>, T)) -> Self {
        let mut sorted = vec![Vec::new(); SHARDS];
        for element in elements {
            if let Some(shard) = sorted.get_mut(shard(element.hash())) {
                shard.push(element);
            }
        }
        let fill = |elements: Vec<T>| {
            let mut shard = Shard(HashTable::with_capacity(elements.len()));
            elements.iter().for_each(|element| put(&mut shard, *element));
            (!elements.is_empty()).then(|| Arc::new(shard))
        };
        Self { shards: sorted.into_iter().map(fill).collect() }
    }

    /// The first element with this hash for which `is` holds.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.shards.get(shard(hash))?.as_ref()?.find(hash, is)
    }

    /// The shard of the elements with this hash, for an edit: it is copied.
    pub(super) fn shard_mut(&mut self, hash: u32) -> Option<&mut Shard<T>> {
        Some(Arc::make_mut(self.shards.get_mut(shard(hash))?.get_or_insert_default()))
    }
}

impl<T: Hashed> Shard<T> {
    pub(super) fn find(&self, hash: u32, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.0.find(spread(hash), is)
    }

    pub(super) fn find_mut(&mut self, hash: u32, is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.0.find_mut(spread(hash), is)
    }

    pub(super) fn insert(&mut self, element: T) {
        self.0.insert_unique(spread(element.hash()), element, |element| spread(element.hash()));
    }

    pub(super) fn remove(&mut self, hash: u32, is: impl FnMut(&T) -> bool) -> Option<T> {
        Some(self.0.find_entry(spread(hash), is).ok()?.remove().0)
    }
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self(HashTable::new())
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
        let elements = (0..10_000u32).map(|n| (n.wrapping_mul(0x9E37_79B1), 0));
        let built = Shards::build(elements.clone().collect(), Shard::insert);
        let mut filled = Shards::new();
        elements.clone().for_each(|element: (u32, u8)| filled.shard_mut(element.0).unwrap().insert(element));
        for mut new in [built, filled] {
            let old = new.clone();
            for (hash, _) in elements.clone().step_by(3) {
                new.shard_mut(hash).unwrap().find_mut(hash, |element| element.0 == hash).unwrap().1 = 1;
            }
            for (hash, _) in elements.clone().skip(1).step_by(3) {
                assert!(new.shard_mut(hash).unwrap().remove(hash, |element| element.0 == hash).is_some());
            }
            for (at, (hash, _)) in elements.clone().enumerate() {
                let find = |shards: &Shards<(u32, u8)>| shards.find(hash, |element| element.0 == hash).copied();
                assert_eq!(find(&old), Some((hash, 0)));
                assert_eq!(find(&new), [Some((hash, 1)), None, Some((hash, 0))][at % 3]);
            }
        }
    }

    #[test]
    fn elements_of_one_hash_stand_side_by_side() {
        let mut shards = Shards::new();
        let shard = shards.shard_mut(7).unwrap();
        shard.insert((7, 1));
        shard.insert((7, 2));
        assert_eq!(shards.find(7, |element| element.1 == 2), Some(&(7, 2)));
        assert_eq!(shards.shard_mut(7).unwrap().remove(7, |element| element.1 == 1), Some((7, 1)));
        assert_eq!(shards.find(7, |element| element.1 == 1), None);
        assert_eq!(shards.find(8, |_| true), None);
    }
}
