//! What is read and watched becomes changes, revision by revision. No socket, no clock: whoever has these asks
//! [`Follower::want`] what to ask etcd for, and hands over what it says.

use std::sync::Arc;

use super::held::{Change, Held, Item, Name};
use super::keys::{FORMAT, Head, Id, Keys, Part, SetName, range_end};
use super::staged::Staged;
use crate::etcd::{Event, KeyValue};

/// Follows the keys of one table.
#[derive(Debug)]
pub struct Follower {
    keys: Keys,
    held: Held,
    /// The sets whose writing was seen from its beginning. Any other is read when it comes into force.
    staged: Staged,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Everything is being read, as it was at one revision.
    Reading(Reading),
    /// Everything is known as of the revision that is held.
    Following,
    /// What was read at this revision does not fit together: the next event is worth another look.
    Doubting(i64),
}

#[derive(Debug)]
struct Reading {
    read: Held,
    /// Each with the revision at which it came to be.
    by_hand: Vec<(i64, Item)>,
    /// What is left to read, the next one last. The first of all is the head's.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    has_head: bool,
}

/// What to ask etcd for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The first keys from `from` on and before `to`, in their order, as of a revision; 0 is the newest.
    Read {
        /// The first.
        from: Vec<u8>,
        /// Behind the last.
        to: Vec<u8>,
        /// The revision.
        revision: i64,
    },
    /// Everything that changes under the prefix, from this revision on.
    Watch {
        /// The revision.
        from: i64,
    },
}

/// Why what etcd says is not put in force. What was in force before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The head is none.
    #[error("`{key}` holds no head that this version knows: {why}")]
    Head {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The head is gone, and nothing says what is to be in force.
    #[error("`{0}` is gone; push the table again, an empty one if none is meant")]
    HeadGone(String),
    /// Nothing is there, where something was.
    #[error("there is no key under `{0}` any more; push the table again, an empty one if none is meant")]
    Gone(String),
    /// The routes of the set are not those that the head tells of.
    #[error("the keys under `{set}` are not the {told} routes that were pushed: has somebody edited them? push again")]
    Digest {
        /// What the set's keys begin with.
        set: String,
        /// How many there should be.
        told: usize,
    },
    /// A set is in force that was not seen as it was written.
    #[error("the set `{0}` is in force, and not all of it was seen; it is read")]
    Unseen(SetName),
    /// Revisions of another cluster mean nothing here.
    #[error("this is another cluster, or it was set back to an earlier revision; it is read anew")]
    Foreign,
}

impl Follower {
    /// One that knows nothing yet.
    pub fn new(keys: Keys) -> Self {
        let state = State::Reading(Reading::new(&keys));
        Self { keys, held: Held::default(), staged: Staged::default(), state }
    }

    /// One that goes on where another has ended.
    pub fn resume(keys: Keys, held: Held) -> Self {
        Self { keys, held, staged: Staged::default(), state: State::Following }
    }

    /// What is in force.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The names of its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether all that is known is in force.
    pub fn is_following(&self) -> bool {
        matches!(self.state, State::Following)
    }

    /// What to ask etcd for next.
    pub fn want(&self) -> Want {
        let watch = |revision: i64| Want::Watch { from: revision + 1 };
        match &self.state {
            State::Reading(reading) => match reading.ranges.last().cloned() {
                Some((from, to)) => Want::Read { from, to, revision: reading.read.revision },
                None => watch(reading.read.revision),
            },
            State::Following => watch(self.held.revision),
            State::Doubting(revision) => watch(*revision),
        }
    }

    /// Reads everything anew: the revision that was wanted is compacted away, or nobody knows any more.
    pub fn again(&mut self) {
        self.staged.clear();
        self.state = State::Reading(Reading::new(&self.keys));
    }

    /// What was wanted to be read, all of it or a first part, from a cluster that was at this revision then. The last
    /// page leads to a change, which may be an empty one.
    pub fn page(
        &mut self,
        cluster: u64,
        revision: i64,
        keys: Vec<KeyValue>,
        has_more: bool,
    ) -> Result<Option<Change>, Unfit> {
        let State::Reading(reading) = &mut self.state else { return Ok(None) };
        if reading.read.revision == 0 {
            (reading.read.cluster, reading.read.revision) = (cluster, revision);
        } else if reading.read.cluster != cluster {
            self.again();
            return Err(Unfit::Foreign);
        }
        let at = reading.read.revision;
        let is_over = reading.page(&self.keys, keys, has_more).inspect_err(|_| self.state = State::Doubting(at))?;
        if is_over { self.finish(at).map(Some) } else { Ok(None) }
    }

    fn finish(&mut self, at: i64) -> Result<Change, Unfit> {
        self.staged.clear();
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Doubting(at)) else {
            return Ok(self.held.change_to(&self.held));
        };
        let read = reading.finish();
        if read.head.is_none() && !self.held.is_empty() {
            if read.is_empty() {
                return Err(Unfit::Gone(self.keys.prefix().to_owned()));
            } else if self.held.head.is_some() {
                return Err(Unfit::HeadGone(self.keys.head()));
            }
        }
        if !read.is_fit() {
            return Err(self.digest(read.head.as_deref()));
        }
        let change = self.held.change_to(&read);
        self.held = read;
        self.state = State::Following;
        Ok(change)
    }

    /// A response to a watch came from this cluster, which was at this revision. `is_progress`: it says that there was
    /// nothing else up to there.
    pub fn heard(&mut self, cluster: u64, revision: i64, is_progress: bool) -> Result<(), Unfit> {
        if let State::Following = self.state {
            if cluster != self.held.cluster || revision < self.held.revision {
                self.again();
                return Err(Unfit::Foreign);
            }
            if is_progress {
                self.held.revision = revision;
            }
        }
        Ok(())
    }

    /// All events of one revision; `None`: nothing of them is in force.
    pub fn revision(&mut self, events: &[Event]) -> Result<Option<Change>, Unfit> {
        let Some(revision) = events.first().map(|event| event.revision) else { return Ok(None) };
        match self.state {
            State::Following if revision > self.held.revision => {}
            State::Following | State::Reading(_) => return Ok(None),
            State::Doubting(_) => {
                self.again();
                return Ok(None);
            }
        }
        let change = self.change(revision, events).inspect_err(|_| self.again())?;
        let is_new = !change.is_empty() || change.head != self.held.head;
        self.held.follow(&change);
        // What is staged or cleared away is no news.
        Ok(Some(change).filter(|_| is_new))
    }

    fn change(&mut self, revision: i64, events: &[Event]) -> Result<Change, Unfit> {
        let (cluster, head) = (self.held.cluster, self.held.head.clone());
        let mut change = Change { cluster, revision, head, upsert: Vec::new(), remove: Vec::new() };
        let mut ended = Vec::new();
        for event in events {
            match self.keys.part(&event.key) {
                Part::Head => change.head = Some(Arc::new(self.head(event)?)),
                Part::Hand(name) => self.by_hand(Name::by_hand(name), event, &mut change),
                Part::Set(set, id) => self.of_set(set, id, event, &mut change),
                Part::Stage(set) if event.put.is_some() => self.staged.begin(set),
                Part::Stage(set) => ended.push(set),
                Part::Other => {}
            }
        }
        change.number();
        if let Some(head) = change.head.clone().filter(|head| set_of(self.held.head.as_deref()) != Some(&head.set)) {
            self.switch(&head.set, &mut change)?;
        }
        ended.into_iter().for_each(|set| drop(self.staged.take(set)));
        if self.held.is_emptied_by(&change) {
            return Err(Unfit::Gone(self.keys.prefix().to_owned()));
        }
        if self.held.fits(&change) { Ok(change) } else { Err(self.digest(change.head.as_deref())) }
    }

    fn head(&self, event: &Event) -> Result<Head, Unfit> {
        match &event.put {
            Some((value, _)) => read_head(&self.keys, value),
            None => Err(Unfit::HeadGone(self.keys.head())),
        }
    }

    fn by_hand(&self, name: Name, event: &Event, change: &mut Change) {
        let held = self.held.get(&name);
        match &event.put {
            None => change.remove.extend(held.map(|_| name)),
            Some((value, created)) => {
                let mut item = Item::by_hand(name, *created, 0, value);
                // It stays where it stood for as long as it is there.
                if let Some(held) = held.filter(|_| *created != event.revision) {
                    item.came = held.came;
                }
                change.upsert.extend(Some(item).filter(|item| held != Some(item)));
            }
        }
    }

    fn of_set(&mut self, set: &str, id: &str, event: &Event, change: &mut Change) {
        let item = event.put.as_ref().map(|(value, _)| Item::pushed(id, value));
        if Some(set) == set_of(self.held.head.as_deref()) {
            match item {
                Some(item) => change.upsert.push(item),
                None => change.remove.push(Name::of_id(id)),
            }
        } else {
            self.staged.write(set, Id::read(id), item);
        }
    }

    /// Puts a set in the place of the one in force.
    fn switch(&mut self, set: &str, change: &mut Change) -> Result<(), Unfit> {
        let staged = self.staged.take(set).ok_or_else(|| Unfit::Unseen(set.into()))?;
        let is_pushed = |name: &Name| name.id().is_some();
        // What the same transaction did to the old set is of no account.
        change.remove.retain(|name| !is_pushed(name));
        change.upsert.retain(|item| !is_pushed(&item.name));
        let names = self.held.items().map(|item| &item.name).filter(|name| is_pushed(name));
        let is_gone = |name: &&Name| name.id().is_some_and(|id| !staged.contains_key(&Id::read(id)));
        change.remove.extend(names.filter(is_gone).cloned());
        change.upsert.extend(staged.into_values().filter(|item| self.held.get(&item.name) != Some(item)));
        Ok(())
    }

    fn digest(&self, head: Option<&Head>) -> Unfit {
        let told = head.map_or(0, |head| head.routes);
        Unfit::Digest { set: self.keys.set(set_of(head).unwrap_or_default()), told }
    }
}

impl Reading {
    fn new(keys: &Keys) -> Self {
        let head = keys.head().into_bytes();
        let end = [head.as_slice(), &[0]].concat();
        Self { read: Held::default(), by_hand: Vec::new(), ranges: vec![(head, end)], has_head: false }
    }

    /// Takes a page, and tells whether it was the last one.
    fn page(&mut self, keys: &Keys, page: Vec<KeyValue>, has_more: bool) -> Result<bool, Unfit> {
        let next = page.last().map(|last| [last.key.as_slice(), &[0]].concat());
        for key in page {
            match keys.part(&key.key) {
                Part::Head => self.read.head = Some(Arc::new(read_head(keys, &key.value)?)),
                Part::Set(_, id) => self.read.put(Item::pushed(id, &key.value)),
                Part::Hand(name) => {
                    let item = Item::by_hand(Name::by_hand(name), key.created, 0, &key.value);
                    self.by_hand.push((key.created, item));
                }
                Part::Stage(_) | Part::Other => {}
            }
        }
        match (self.ranges.last_mut(), next.filter(|_| has_more)) {
            (Some(range), Some(next)) => range.0 = next,
            _ => drop(self.ranges.pop()),
        }
        if !self.has_head {
            self.has_head = true;
            self.ranges.extend(keys.by_hand());
            if let Some(head) = &self.read.head {
                let from = keys.set(&head.set).into_bytes();
                let to = range_end(&from);
                self.ranges.push((from, to));
            }
        }
        Ok(self.ranges.is_empty())
    }

    fn finish(self) -> Held {
        let Self { mut read, mut by_hand, .. } = self;
        by_hand.sort_unstable_by(|(one, first), (other, second)| (one, &first.name).cmp(&(other, &second.name)));
        for together in by_hand.chunk_by(|(one, _), (other, _)| one == other) {
            for (nth, (created, item)) in together.iter().enumerate() {
                read.put(item.clone().numbered(*created, nth));
            }
        }
        read
    }
}

fn set_of(head: Option<&Head>) -> Option<&str> {
    head.map(|head| &*head.set)
}

fn read_head(keys: &Keys, value: &[u8]) -> Result<Head, Unfit> {
    let bad = |why: String| Unfit::Head { key: keys.head(), why };
    let head: Head = serde_json::from_slice(value).map_err(|error| bad(error.to_string()))?;
    if head.format == FORMAT { Ok(head) } else { Err(bad(format!("its format is {}", head.format))) }
}
