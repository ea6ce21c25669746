//! The table: every entry, in the order in which they are tried.
//!
//! What finds an entry is a literal of its pattern. [`Pattern::requirements`] says which texts a name must have, and where:
//! the index keeps one of these sets for each entry, in a hash table from needle to entries. A lookup hashes every
//! beginning of the name once; from these, any piece has its hash in a few instructions. Then it probes the whole name;
//! beginnings and ends, of the lengths that needles have; and, at each byte, pieces of the lengths that needles with the
//! same first four bytes have. The lists that it hits, and the entries without a needle, are merged by rank. A pattern is
//! asked only when it is its entry's turn, and it alone decides: a needle is its hash, and two of the same hash
//! only find each other's entries. Of several sets an entry takes the one whose needles find the fewest others so far; so
//! a million routes that begin with `^prod-.*` are found by what else they have.
//!
//! All parts are made of pieces behind `Arc`s, and say a row by a number of 32 bits (`slab.rs`): an edit copies some tens
//! of kilobytes of numbers and some hundred pointers (`vector.rs`, `shards.rs`, `runs.rs`), and a clone shares the rest.
//! Pointers in place of the numbers would save a lookup one read, but an edit would count up a thousand rows or two that
//! are in no cache, and the index would be twice as large.
//!
//! Measured at 1,000,000 entries, on two cores with other work beside it, in a release build with the system's allocator
//! (`cargo bench --bench table`, with `ROUTES=10,1000000`):
//!
//! | | exact names | prefixes | inner literals |
//! |---|---|---|---|
//! | from 1,000,000 parsed entries | 0.3 s | 0.15 s | 0.15 s |
//! | lookup, hit, median | 0.9 us | 1.0 us | 1.0 us |
//! | lookup, hit, one of the same thousand names | 0.15 us | 0.3 us | 0.3 us |
//! | lookup, miss, median | 0.1 us | 0.16 us | 0.16 us |
//! | lookup, hit, in a table of 10 | 0.09 us | 0.09 us | 0.12 us |
//! | clone; clone and add | 0.7 us; 11 us | 0.7 us; 11 us | 0.7 us; 12 us |
//! | the index, for each entry | 65 bytes | 65 bytes | 65 bytes |
//!
//! A hit of any of a million is bound by memory: the slot, the row's pointer, the row and its pattern's text are read one
//! behind the other, from lines that no cache has and pages that the TLB has not; one such read took 0.2 to 0.3 us here.
//! So a lookup among a million is about three times one among ten for misses and for names that are asked for again,
//! ten times for a name that nobody asked for lately. Larger pages help (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`: about
//! a quarter less).

mod bulk;
mod hash;
mod heads;
mod index;
mod lengths;
mod runs;
mod search;
mod shards;
mod slab;
#[cfg(test)]
mod tests;
mod vector;

use std::cmp::Reverse;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::FixedState;

use self::index::Index;
use self::runs::{Rows, Runs};
use self::search::Search;
use self::shards::{Hashed, Shards};
use self::slab::{Id, Slab};
use super::{Anchor, Needle, Origin, Pattern, Route};
use crate::node::NodeName;

/// What a [`RouteTable`] can hold.
pub trait Entry {
    /// What names one entry of a table.
    type Key: ?Sized + Eq + Hash;

    /// Its key.
    fn key(&self) -> &Self::Key;
    /// Which nodes it is for.
    fn pattern(&self) -> &Pattern;
    /// Strict order, highest first.
    fn weight(&self) -> i64;
    /// Where it is written.
    fn origin(&self) -> &Origin;
}

/// Where an entry stands in the order of its table: heaviest first, equal weights in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    weight: Reverse<i64>,
    number: u64,
}

/// An entry in a table.
#[derive(Debug)]
pub struct Row<E> {
    rank: Rank,
    /// Which of its pattern's requirements the index finds it by; `None`: it is scanned.
    found_by: Option<u8>,
    entry: E,
}

/// Every entry in force. A clone shares what it has with the table that it is of, and costs as if the table were small.
pub struct RouteTable<E = Route> {
    rows: Rows<E>,
    keys: Shards<KeySlot>,
    index: Index,
    /// All rows.
    order: Runs,
    /// The number of the next entry to come.
    next: u64,
}

/// Where the row of a key is.
#[derive(Debug, Clone, Copy)]
struct KeySlot {
    hash: u32,
    id: Id,
}

/// The key stands in the table already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is taken by the route at {first}")]
pub struct Taken {
    /// Where it was first written.
    pub first: Origin,
    /// Where it was written again.
    pub second: Origin,
}

/// No entry has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no route of the table has this pattern")]
pub struct Unknown;

/// No entry matches the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no route matches the node")]
pub struct NoRoute;

impl Rank {
    /// The place of an entry of this weight that came as the `number`th.
    pub fn new(weight: i64, number: u64) -> Self {
        Self { weight: Reverse(weight), number }
    }

    /// Strict order, highest first.
    pub fn weight(self) -> i64 {
        self.weight.0
    }

    /// Which it was to come, among all that the table has had.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl<E: Entry> Row<E> {
    /// Chooses by which of its pattern's requirements the index is to find it. A pattern that is scanned is asked for
    /// every name: it is compiled here, rather than by a request, and again when the cache had no room for it.
    fn choose(&mut self, index: &Index, sets: &[Vec<Needle>]) {
        self.found_by = index.choose(sets);
        if self.found_by.is_none() {
            self.entry.pattern().compile_now();
        }
    }
}

impl<E> Row<E> {
    /// Where it stands.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Those of its pattern's requirements that the index finds it by.
    fn needles<'a>(&self, sets: &'a [Vec<Needle>]) -> Option<&'a [Needle]> {
        sets.get(usize::from(self.found_by?)).map(Vec::as_slice)
    }
}

impl<E> Deref for Row<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.entry
    }
}

impl<E: Entry> RouteTable<E> {
    /// A table without entries.
    pub fn new() -> Self {
        Self { rows: Slab::new(), keys: Shards::new(), index: Index::new(), order: Runs::default(), next: 0 }
    }

    /// A table of these entries in their order; a key that is there twice is an error, and every such error is told.
    pub fn from_entries(entries: Vec<E>) -> Result<Self, Vec<Taken>> {
        Self::from_parts(vec![entries])
    }

    /// The same of entries that come in parts; a part that is in the table takes no memory any more.
    pub fn from_parts(parts: Vec<Vec<E>>) -> Result<Self, Vec<Taken>> {
        bulk::table(parts)
    }

    /// Adds an entry, behind all that have its weight.
    pub fn add(&mut self, entry: E) -> Result<Arc<Row<E>>, Taken> {
        let row = self.add_at(entry, self.next)?;
        self.next += 1;
        Ok(row)
    }

    /// Entries that are added from now on have this number, or a larger one.
    pub fn begin_at(&mut self, number: u64) {
        self.next = self.next.max(number);
    }

    /// Adds an entry with a number of its own, which none of its weight has.
    pub fn add_at(&mut self, entry: E, number: u64) -> Result<Arc<Row<E>>, Taken> {
        let hash = hash(entry.key());
        let rank = Rank::new(entry.weight(), number);
        let with_key = self.find_key(hash, entry.key()).and_then(|id| self.rows.get(id));
        let with_rank = || {
            let before = number.checked_sub(1).map(|number| Rank::new(entry.weight(), number));
            self.iter_after(before).next().filter(|row| before.is_some() && row.rank() == rank)
        };
        if let Some(first) = with_key.or_else(with_rank) {
            return Err(Taken { first: first.origin().clone(), second: entry.origin().clone() });
        }
        let sets = entry.pattern().requirements();
        let mut row = Row { rank, found_by: None, entry };
        row.choose(&self.index, &sets);
        let row = Arc::new(row);
        let id = self.rows.insert(Arc::clone(&row));
        if let Some(shard) = self.keys.shard_mut(hash) {
            shard.insert(KeySlot { hash, id });
        }
        self.order.insert(&self.rows, id);
        self.index.insert(&self.rows, id, row.needles(&sets));
        Ok(row)
    }

    /// Takes the entry with this key out.
    pub fn remove(&mut self, key: &E::Key) -> Result<Arc<Row<E>>, Unknown> {
        let hash = hash(key);
        let id = self.find_key(hash, key).ok_or(Unknown)?;
        let row = Arc::clone(self.rows.get(id).ok_or(Unknown)?);
        self.index.remove(&self.rows, id, row.needles(&row.pattern().requirements()));
        self.order.remove(&self.rows, id);
        self.keys.shard_mut(hash).and_then(|shard| shard.remove(hash, |slot| slot.id == id));
        self.rows.remove(id);
        Ok(row)
    }

    /// The entry with this key.
    pub fn get(&self, key: &E::Key) -> Option<&Arc<Row<E>>> {
        self.rows.get(self.find_key(hash(key), key)?)
    }

    fn find_key(&self, hash: u32, key: &E::Key) -> Option<Id> {
        let is = |slot: &KeySlot| slot.hash == hash && self.rows.get(slot.id).is_some_and(|row| row.key() == key);
        self.keys.find(hash, is).map(|slot| slot.id)
    }

    /// The entries that match, in the order in which they are tried; found one by one as they are asked for.
    pub fn routes_for<'a>(&'a self, node: &'a NodeName) -> Result<impl Iterator<Item = &'a Arc<Row<E>>>, NoRoute> {
        let mut search = Search::new(&self.index, &self.rows, node, None);
        let first = search.next().ok_or(NoRoute)?;
        Ok(std::iter::once(first).chain(search))
    }

    /// The first entry that matches and stands behind `after`: the search of [`routes_for`](Self::routes_for), for one
    /// who lets go of it in between.
    pub fn find(&self, node: &NodeName, after: Option<Rank>) -> Option<&Arc<Row<E>>> {
        Search::new(&self.index, &self.rows, node, after).next()
    }

    /// Every entry, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row<E>>> {
        self.iter_after(None)
    }

    /// The entries that stand behind `after`, in the order of the table.
    pub fn iter_after(&self, after: Option<Rank>) -> impl Iterator<Item = &Arc<Row<E>>> {
        self.order.rows_after(&self.rows, after)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E: Entry> Default for RouteTable<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// The same for equal keys in every process: nobody outside chooses the keys.
fn hash(key: &(impl Hash + ?Sized)) -> u32 {
    (FixedState::default().hash_one(key) >> 32) as u32
}

impl Hashed for KeySlot {
    fn hash(&self) -> u32 {
        self.hash
    }
}

impl<E> Clone for RouteTable<E> {
    fn clone(&self) -> Self {
        let Self { rows, keys, index, order, next } = self;
        Self { rows: rows.clone(), keys: keys.clone(), index: index.clone(), order: order.clone(), next: *next }
    }
}

impl<E: Entry + fmt::Debug> fmt::Debug for RouteTable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
