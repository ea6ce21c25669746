//! From the text of a name to the rows that may match it.

use std::cmp::Reverse;

use super::hash::{Kind, Sums};
use super::heads::{Head, Heads, INNER};
use super::lengths::Lengths;
use super::runs::{Rows, Runs};
use super::shards::{Hashed, Shard, Shards};
use super::slab::{Id, Slab};
use super::{Anchor, Needle};
use crate::node::NodeName;

/// Finds the rows one of whose needles a name has, and those that have none.
#[derive(Debug, Clone)]
pub(super) struct Index {
    needles: Shards<Slot>,
    /// The lists of needles that several rows have.
    shared: Slab<Runs>,
    /// The rows without a needle.
    scanned: Runs,
    /// Whole names in `needles`, each as often as a row has it.
    whole: usize,
    starts: Lengths,
    ends: Lengths,
    heads: Heads,
}

/// A needle and the rows that it finds. A needle is its hash: two of the same hash are one, and find each other's rows.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    rows: Found,
}

/// What a needle finds.
#[derive(Debug, Clone, Copy)]
enum Found {
    One(Id),
    Many(Id),
}

/// The rows that may match a name, as lists in the order of the table; a row may be in several.
pub(super) enum Hit<'a> {
    One(Id),
    Many(&'a Runs),
}

/// What a needle that may stand anywhere costs beside those of its list: while there is one, names are looked up at
/// each of their bytes.
const INNER_COST: usize = 4;

impl Index {
    pub(super) fn new() -> Self {
        Self {
            needles: Shards::new(),
            shared: Slab::new(),
            scanned: Runs::default(),
            whole: 0,
            starts: Lengths::new(),
            ends: Lengths::new(),
            heads: Heads::new(),
        }
    }

    /// Which of these sets finds the fewest rows beside its own; between equals, the one with the longest needles.
    pub(super) fn choose(&self, sets: &[Vec<Needle>]) -> Option<u8> {
        // One set is no choice, and needs no look.
        let cost =
            |set: &Vec<Needle>| if sets.len() == 1 { 0 } else { set.iter().map(|needle| self.cost(needle)).sum() };
        let shortest = |set: &Vec<Needle>| set.iter().map(|needle| needle.text.len()).min().unwrap_or_default();
        let usable = (0..=u8::MAX).zip(sets).filter(|(_, set)| shortest(set) > 0);
        usable.min_by_key(|(_, set)| (cost(set), Reverse(shortest(set)))).map(|(at, _)| at)
    }

    fn cost(&self, needle: &Needle) -> usize {
        let rows = match Key::of(needle).and_then(|key| self.find(key.hash)) {
            None => 0,
            Some(Found::One(_)) => 1,
            Some(Found::Many(list)) => self.shared.get(list).map_or(0, Runs::len),
        };
        rows + if needle.anchor == Anchor::Anywhere { INNER_COST } else { 1 }
    }

    /// Has the row found by these needles, or by a scan.
    pub(super) fn insert<E>(&mut self, rows: &Rows<E>, id: Id, needles: Option<&[Needle]>) {
        let Some(needles) = needles else {
            self.scanned.insert(rows, id);
            return;
        };
        for key in needles.iter().filter_map(Key::of) {
            self.count(&key);
            if let Some(shard) = self.needles.shard_mut(key.hash) {
                put(shard, &mut self.shared, rows, id, key.hash);
            }
        }
    }

    /// Has a name looked up where it may have such a needle.
    fn count(&mut self, key: &Key) {
        match key.anchor {
            Anchor::Whole => self.whole += 1,
            Anchor::Start => self.starts.add(key.length),
            Anchor::End => self.ends.add(key.length),
            Anchor::Anywhere => self.heads.insert(&key.head),
        }
    }

    /// Takes out a row that was inserted with the same needles; it is among the rows still.
    pub(super) fn remove<E>(&mut self, rows: &Rows<E>, id: Id, needles: Option<&[Needle]>) {
        let Some(needles) = needles else {
            self.scanned.remove(rows, id);
            return;
        };
        for key in needles.iter().filter_map(Key::of) {
            self.remove_needle(rows, id, key.hash);
            match key.anchor {
                Anchor::Whole => self.whole = self.whole.saturating_sub(1),
                Anchor::Start => self.starts.remove(key.length),
                Anchor::End => self.ends.remove(key.length),
                Anchor::Anywhere => self.heads.remove(&key.head),
            }
        }
    }

    fn remove_needle<E>(&mut self, rows: &Rows<E>, id: Id, hash: u32) {
        match self.find(hash) {
            Some(Found::One(found)) if found == id => {
                self.needles.shard_mut(hash).and_then(|shard| shard.remove(hash, |slot| slot.hash == hash));
            }
            Some(Found::Many(list)) => {
                let Some(runs) = self.shared.get_mut(list) else { return };
                runs.remove(rows, id);
                if let Some(last) = runs.only() {
                    self.shared.remove(list);
                    let shard = self.needles.shard_mut(hash);
                    if let Some(slot) = shard.and_then(|shard| shard.find_mut(hash, |slot| slot.hash == hash)) {
                        slot.rows = Found::One(last);
                    }
                }
            }
            Some(Found::One(_)) | None => {}
        }
    }

    fn find(&self, hash: u32) -> Option<Found> {
        self.needles.find(hash, |slot| slot.hash == hash).map(|slot| slot.rows)
    }

    /// Tells every list that may hold a row for this name.
    pub(super) fn look_up<'a>(&'a self, node: &NodeName, mut tell: impl FnMut(Hit<'a>)) {
        if self.scanned.len() > 0 {
            tell(Hit::Many(&self.scanned));
        }
        let name = Sums::of(node.as_str());
        let mut probe = |anchor, start, length| match self.find(name.hash(Kind::Needle(anchor), start, length)) {
            None => {}
            Some(Found::One(id)) => tell(Hit::One(id)),
            Some(Found::Many(list)) => self.shared.get(list).into_iter().for_each(|list| tell(Hit::Many(list))),
        };
        if self.whole > 0 {
            probe(Anchor::Whole, 0, name.len());
        }
        for length in self.starts.up_to(name.len()) {
            probe(Anchor::Start, 0, length);
        }
        for length in self.ends.up_to(name.len()) {
            probe(Anchor::End, name.len() - length, length);
        }
        self.heads.look_up(&name, |start, length| probe(Anchor::Anywhere, start, length));
    }
}

/// An index of many rows at once: they are gathered first, so that the needles can be put in shard by shard.
pub(super) struct Builder {
    index: Index,
    /// A needle of a row each.
    needles: Vec<Slot>,
    scanned: Vec<Id>,
}

impl Builder {
    /// For about this many rows.
    pub(super) fn new(rows: usize) -> Self {
        Self { index: Index::new(), needles: Vec::with_capacity(rows), scanned: Vec::new() }
    }

    /// The index as it is so far, without needles: it can choose where there is no choice.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// The same as [`Index::insert`].
    pub(super) fn insert(&mut self, id: Id, needles: Option<&[Needle]>) {
        let Some(needles) = needles else { return self.scanned.push(id) };
        for key in needles.iter().filter_map(Key::of) {
            self.index.count(&key);
            self.needles.push(Slot { hash: key.hash, rows: Found::One(id) });
        }
    }

    /// The index of what was inserted; `rows` has it all.
    pub(super) fn finish<E>(self, rows: &Rows<E>) -> Index {
        let Self { mut index, needles, scanned } = self;
        index.scanned = Runs::from_unsorted(rows, scanned);
        index.needles = Shards::build(needles, |shard, slot| {
            if let Found::One(id) = slot.rows {
                put(shard, &mut index.shared, rows, id, slot.hash);
            }
        });
        index
    }
}

/// Has a needle find one row more. It may find it already, for another needle of the same hash.
fn put<E>(shard: &mut Shard<Slot>, shared: &mut Slab<Runs>, rows: &Rows<E>, id: Id, hash: u32) {
    let Some(slot) = shard.find_mut(hash, |slot| slot.hash == hash) else {
        return shard.insert(Slot { hash, rows: Found::One(id) });
    };
    match slot.rows {
        Found::One(other) if other == id => {}
        Found::One(other) => {
            let mut list = Runs::from_sorted(&[other]);
            list.insert(rows, id);
            slot.rows = Found::Many(shared.insert(list));
        }
        Found::Many(list) => {
            if let Some(list) = shared.get_mut(list) {
                list.insert(rows, id);
            }
        }
    }
}

/// How the index knows a needle.
struct Key {
    anchor: Anchor,
    hash: u32,
    length: usize,
    /// Of a needle that may stand anywhere.
    head: Head,
}

impl Key {
    /// `None`: no name is long enough to have it.
    fn of(needle: &Needle) -> Option<Self> {
        let Needle { anchor, text } = needle;
        if text.len() > NodeName::MAX {
            return None;
        }
        let sums = Sums::of(text);
        let length = if *anchor == Anchor::Anywhere { text.len().min(INNER) } else { text.len() };
        let hash = sums.hash(Kind::Needle(*anchor), 0, length);
        Some(Self { anchor: *anchor, hash, length, head: Head::of(&sums, length) })
    }
}

impl Hashed for Slot {
    fn hash(&self) -> u32 {
        self.hash
    }
}
