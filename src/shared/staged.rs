//! Sets that are being written, as far as they were seen from their beginning: what comes into force is there already.

use std::collections::HashMap;

use super::held::Item;
use super::keys::{Id, SetName};

/// Sets that are being written. Whoever may write to etcd may begin as many as he likes, of any size.
#[derive(Debug, Default)]
pub(super) struct Staged {
    sets: HashMap<SetName, Set>,
    /// Of all of them.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Set {
    items: HashMap<Id, Item>,
    bytes: usize,
}

impl Staged {
    /// They take no more together: 64 MiB. One that would is read once it is in force.
    const MAX_BYTES: usize = 64 << 20;
    /// What an entry takes beside its texts, about.
    const ENTRY: usize = 200;

    /// A set is being written from now on.
    pub(super) fn begin(&mut self, set: &str) {
        drop(self.take(set));
        let bytes = Self::ENTRY + set.len();
        self.sets.insert(set.into(), Set { items: HashMap::new(), bytes });
        self.bytes += bytes;
        self.bound(set);
    }

    /// A route of a set is written, or taken away.
    pub(super) fn write(&mut self, set: &str, id: Id, item: Option<Item>) {
        let Some(staged) = self.sets.get_mut(set) else { return };
        let size = |item: &Item| Self::ENTRY + item.value.as_ref().map_or(0, |value| value.len());
        let more = item.as_ref().map_or(0, size);
        let before = match item {
            Some(item) => staged.items.insert(id, item),
            None => staged.items.remove(&id),
        };
        let less = before.as_ref().map_or(0, size);
        staged.bytes = staged.bytes + more - less;
        self.bytes = self.bytes + more - less;
        self.bound(set);
    }

    /// What was written of a set, if all of it was seen; it is being written no more.
    pub(super) fn take(&mut self, set: &str) -> Option<HashMap<Id, Item>> {
        let set = self.sets.remove(set)?;
        self.bytes -= set.bytes;
        Some(set.items)
    }

    /// Nothing was seen.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn bound(&mut self, set: &str) {
        if self.bytes > Self::MAX_BYTES {
            drop(self.take(set));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &Id, bytes: usize) -> Item {
        Item { name: id.name(), came: 0, value: Some("x".repeat(bytes).into()) }
    }

    #[test]
    fn a_set_that_was_seen_from_its_beginning_is_there_and_no_other() {
        let (mut staged, id) = (Staged::default(), Id::of("a"));
        staged.write("s", id.clone(), Some(item(&id, 1)));
        assert_eq!(staged.take("s"), None);
        staged.begin("s");
        staged.write("s", id.clone(), Some(item(&id, 1)));
        staged.write("s", id.clone(), Some(item(&id, 2)));
        staged.write("s", Id::of("b"), Some(item(&id, 3)));
        staged.write("s", Id::of("b"), None);
        assert_eq!(staged.take("s"), Some(HashMap::from([(id.clone(), item(&id, 2))])));
        assert_eq!((staged.take("s"), staged.bytes), (None, 0));
    }

    #[test]
    fn what_is_too_large_is_let_go_however_few_its_routes_are_and_however_many_sets() {
        let (mut staged, id) = (Staged::default(), Id::of("a"));
        staged.begin("small");
        staged.begin("large");
        for n in 0..200 {
            staged.write("large", Id::of(&n.to_string()), Some(item(&id, 512 << 10)));
            assert!(staged.bytes <= Staged::MAX_BYTES);
        }
        assert_eq!(staged.take("large"), None);
        for n in 0..400_000 {
            staged.begin(&n.to_string());
        }
        assert!(staged.bytes <= Staged::MAX_BYTES && staged.sets.len() < 350_000);
        assert!(staged.take("small").is_some());
    }
}
