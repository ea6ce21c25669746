//! From the text of a name to the rows that may match it.

use std::cmp::Reverse;

use super::hash::{Kind, Sums};
use super::lengths::{Lengths, bits};
use super::runs::{Rows, Runs};
use super::shards::{Hashed, Shards};
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

/// The first bytes of the needles that may stand anywhere: what of a name is looked up at each of its bytes.
#[derive(Debug, Clone)]
struct Heads {
    heads: Shards<Head>,
    /// How many needles have a head of one byte, of two, ...
    sizes: [usize; HEAD],
}

#[derive(Debug, Clone, Copy)]
struct Head {
    hash: u32,
    /// Needles that begin so.
    needles: u32,
    /// Bit n: one of them has, or had, n + 1 bytes.
    lengths: u64,
}

/// The longest head.
const HEAD: usize = 4;

/// So many bytes of a needle that may stand anywhere are looked for: a bit for each length fits into a word.
const INNER: usize = 64;

/// What a needle that may stand anywhere costs beside those of its list: while there is one, names are looked up at
/// each of their bytes.
const INNER_COST: usize = 4;

impl Index {
    /// An index for about this many rows.
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            needles: Shards::with_capacity(rows),
            shared: Slab::new(),
            scanned: Runs::default(),
            whole: 0,
            starts: Lengths::new(),
            ends: Lengths::new(),
            heads: Heads { heads: Shards::new(), sizes: [0; HEAD] },
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
            self.insert_needle(rows, id, key.hash);
            match key.anchor {
                Anchor::Whole => self.whole += 1,
                Anchor::Start => self.starts.add(key.length),
                Anchor::End => self.ends.add(key.length),
                Anchor::Anywhere => self.heads.insert(key.head, key.length),
            }
        }
    }

    fn insert_needle<E>(&mut self, rows: &Rows<E>, id: Id, hash: u32) {
        match self.find(hash) {
            None => self.needles.insert(Slot { hash, rows: Found::One(id) }),
            Some(Found::One(other)) if other == id => {}
            Some(Found::One(other)) => {
                let mut list = Runs::from_sorted(&[other]);
                list.insert(rows, id);
                let list = self.shared.insert(list);
                self.set(hash, Found::Many(list));
            }
            Some(Found::Many(list)) => {
                if let Some(list) = self.shared.get_mut(list) {
                    list.insert(rows, id);
                }
            }
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
                Anchor::Anywhere => self.heads.remove(key.head),
            }
        }
    }

    fn remove_needle<E>(&mut self, rows: &Rows<E>, id: Id, hash: u32) {
        match self.find(hash) {
            Some(Found::One(found)) if found == id => {
                self.needles.remove(hash, |slot| slot.hash == hash);
            }
            Some(Found::Many(list)) => {
                let Some(runs) = self.shared.get_mut(list) else { return };
                runs.remove(rows, id);
                if let Some(last) = runs.only() {
                    self.shared.remove(list);
                    self.set(hash, Found::One(last));
                }
            }
            Some(Found::One(_)) | None => {}
        }
    }

    fn find(&self, hash: u32) -> Option<Found> {
        self.needles.find(hash, |slot| slot.hash == hash).map(|slot| slot.rows)
    }

    fn set(&mut self, hash: u32, rows: Found) {
        if let Some(slot) = self.needles.find_mut(hash, |slot| slot.hash == hash) {
            slot.rows = rows;
        }
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

/// How the index knows a needle.
struct Key {
    anchor: Anchor,
    hash: u32,
    length: usize,
    /// The hash and the length of its first bytes.
    head: (u32, usize),
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
        let head = length.min(HEAD);
        let hash = sums.hash(Kind::Needle(*anchor), 0, length);
        Some(Self { anchor: *anchor, hash, length, head: (sums.hash(Kind::Head, 0, head), head) })
    }
}

impl Heads {
    fn insert(&mut self, (hash, size): (u32, usize), length: usize) {
        let length = 1u64 << (length - 1);
        match self.heads.find_mut(hash, |head| head.hash == hash) {
            Some(head) => {
                head.needles = head.needles.saturating_add(1);
                head.lengths |= length;
            }
            None => self.heads.insert(Head { hash, needles: 1, lengths: length }),
        }
        if let Some(count) = self.sizes.get_mut(size - 1) {
            *count += 1;
        }
    }

    fn remove(&mut self, (hash, size): (u32, usize)) {
        match self.heads.find_mut(hash, |head| head.hash == hash) {
            Some(head) if head.needles > 1 => head.needles -= 1,
            _ => drop(self.heads.remove(hash, |head| head.hash == hash)),
        }
        if let Some(count) = self.sizes.get_mut(size - 1) {
            *count = count.saturating_sub(1);
        }
    }

    /// Tells each piece of the name, by start and length, that may be a needle.
    fn look_up(&self, name: &Sums, mut tell: impl FnMut(usize, usize)) {
        for (size, count) in (1..).zip(self.sizes) {
            // Where a head fits; none where there is no such head.
            let starts = if count == 0 { 0 } else { (name.len() + 1).saturating_sub(size) };
            for start in 0..starts {
                let hash = name.hash(Kind::Head, start, size);
                let lengths = self.heads.find(hash, |head| head.hash == hash).map_or(0, |head| head.lengths);
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

impl Hashed for Head {
    fn hash(&self) -> u32 {
        self.hash
    }
}
