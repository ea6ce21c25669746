//! What the keys hold at one revision, and what changed in it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys::{Digest, Head, Id};

/// What a shared route is called: `.ID` for one that was pushed, and the key without the prefix for one that was written
/// by hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// A route as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What it is called.
    pub name: Name,
    /// Which it was to come among those by hand; 0 for one that was pushed, whose value says it.
    #[serde(default)]
    pub came: u64,
    /// What it says; `None`: it is no UTF-8, or too large.
    pub value: Option<Arc<str>>,
}

/// A step from one published state to the next; a line of the copy on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The cluster whose revisions these are.
    pub cluster: u64,
    /// The revision that it leads to.
    pub revision: i64,
    /// What stands under `.head` then.
    pub head: Option<Arc<Head>>,
    /// What is new, or says something else.
    pub upsert: Vec<Item>,
    /// What is gone.
    pub remove: Vec<Name>,
}

/// Everything that is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The cluster.
    pub cluster: u64,
    /// The revision.
    pub revision: i64,
    /// What stands under `.head`.
    pub head: Option<Arc<Head>>,
    items: HashMap<Name, Item>,
    /// How many of them were pushed.
    pushed: usize,
    /// Of those.
    digest: Digest,
}

impl Name {
    /// Of a route that was pushed.
    pub fn of_id(id: &str) -> Self {
        Self(format!(".{id}").into())
    }

    /// Of a route that was written by hand.
    pub fn by_hand(key: &str) -> Self {
        Self(key.into())
    }

    /// The ID, if it was pushed.
    pub fn id(&self) -> Option<&str> {
        self.0.strip_prefix('.')
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Held {
    /// All items, in no order.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// One item.
    pub fn get(&self, name: &Name) -> Option<&Item> {
        self.items.get(name)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the routes that were pushed are those that the head tells of. Without a head there is none.
    pub fn is_fit(&self) -> bool {
        is_told(self.head.as_deref(), self.pushed, self.digest)
    }

    /// Whether this would be so after a step.
    pub(super) fn fits(&self, change: &Change) -> bool {
        let (mut pushed, mut digest) = (self.pushed, self.digest);
        let gone = change.remove.iter().chain(change.upsert.iter().map(|item| &item.name));
        for item in gone.filter_map(|name| self.get(name)) {
            if let Some(id) = item.name.id() {
                digest ^= item.digest(id);
                pushed = pushed.saturating_sub(1);
            }
        }
        for item in &change.upsert {
            if let Some(id) = item.name.id() {
                digest ^= item.digest(id);
                pushed += 1;
            }
        }
        is_told(change.head.as_deref(), pushed, digest)
    }

    /// Whether a step takes away several routes by hand, and with them all that there is: a slip, as a rule.
    pub(super) fn is_emptied_by(&self, change: &Change) -> bool {
        let takes_all = change.upsert.is_empty() && change.remove.len() == self.len();
        change.head.is_none() && takes_all && self.len() > 1
    }

    /// The step from nothing to this.
    pub fn whole(&self) -> Change {
        let mut upsert: Vec<_> = self.items.values().cloned().collect();
        upsert.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let (cluster, revision, head) = (self.cluster, self.revision, self.head.clone());
        Change { cluster, revision, head, upsert, remove: Vec::new() }
    }

    /// The step from this to another.
    pub fn change_to(&self, other: &Self) -> Change {
        let remove = self.items.keys().filter(|name| !other.items.contains_key(name)).cloned().collect();
        let mut change = Change { remove, ..other.whole() };
        change.upsert.retain(|item| self.get(&item.name) != Some(item));
        change
    }

    /// Makes a step.
    pub fn follow(&mut self, change: &Change) {
        change.remove.iter().for_each(|name| self.remove(name));
        change.upsert.iter().for_each(|item| self.put(item.clone()));
        (self.cluster, self.revision) = (change.cluster, change.revision);
        self.head.clone_from(&change.head);
    }

    pub(super) fn put(&mut self, item: Item) {
        self.remove(&item.name);
        self.tell(&item, true);
        self.items.insert(item.name.clone(), item);
    }

    pub(super) fn remove(&mut self, name: &Name) {
        if let Some(item) = self.items.remove(name) {
            self.tell(&item, false);
        }
    }

    fn tell(&mut self, item: &Item, is_new: bool) {
        if let Some(id) = item.name.id() {
            self.digest ^= item.digest(id);
            self.pushed = if is_new { self.pushed + 1 } else { self.pushed.saturating_sub(1) };
        }
    }
}

impl Item {
    /// One that was pushed.
    pub(super) fn pushed(id: &str, value: &[u8]) -> Self {
        Self { name: Name::of_id(id), came: 0, value: text(value) }
    }

    /// One that was written by hand as the `nth` of this revision.
    pub(super) fn by_hand(name: Name, created: i64, nth: usize, value: &[u8]) -> Self {
        let value = text(value).filter(|text| text.len() <= Self::MAX_BYTES);
        Self { name, came: came(created, nth), value }
    }

    /// The same as the `nth` by hand of this revision.
    pub(super) fn numbered(self, created: i64, nth: usize) -> Self {
        Self { came: came(created, nth), ..self }
    }

    /// The revision at which one by hand came to be.
    fn created(&self) -> i64 {
        i64::try_from(self.came >> NTH_BITS).unwrap_or_default()
    }

    /// A route by hand is no larger: 64 KiB.
    pub const MAX_BYTES: usize = 64 << 10;

    fn digest(&self, id: &str) -> Digest {
        Digest::of(id, self.value.as_deref().unwrap_or_default())
    }
}

/// So many bits of [`Item::came`] tell those apart that one transaction has made; etcd's own bound is 128 of them.
const NTH_BITS: u32 = 12;

fn came(created: i64, nth: usize) -> u64 {
    let nth = u64::try_from(nth).unwrap_or(u64::MAX).min((1 << NTH_BITS) - 1);
    (u64::try_from(created).unwrap_or_default() << NTH_BITS) | nth
}

fn is_told(head: Option<&Head>, routes: usize, digest: Digest) -> bool {
    head.map_or((0, Digest::default()), |head| (head.routes, head.digest)) == (routes, digest)
}

fn text(value: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(value).ok().map(Arc::from)
}

impl Change {
    /// Whether it changes no route.
    pub fn is_empty(&self) -> bool {
        self.upsert.is_empty() && self.remove.is_empty()
    }

    /// Numbers the routes by hand that one transaction has made, in the order of their keys.
    pub(super) fn number(&mut self) {
        let revision = self.revision;
        let mut new: Vec<_> = self.upsert.iter_mut().filter(|item| item.created() == revision).collect();
        new.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        new.into_iter().enumerate().for_each(|(nth, item)| item.came = came(revision, nth));
    }
}

impl Id {
    /// What the route is called.
    pub fn name(&self) -> Name {
        Name::of_id(self.as_str())
    }
}
