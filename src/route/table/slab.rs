//! Things that are spoken of by number.

use super::vector::Vector;

/// The number of a thing in a [`Slab`].
///
/// 32 bits, so that the index is small: memory ends long before 4,294,967,295 entries do.
pub(super) type Id = u32;

/// A place for each thing; the number of one that is gone is given to the next.
#[derive(Debug, Clone)]
pub(super) struct Slab<T> {
    places: Vector<Option<T>>,
    /// Places that were in use so far: the number of a thing that finds none free.
    used: Id,
    /// A stack of numbers below `used` whose things are gone.
    free: Vector<Id>,
    freed: Id,
}

impl<T: Clone> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vector::new(), used: 0, free: Vector::new(), freed: 0 }
    }

    pub(super) fn len(&self) -> usize {
        (self.used - self.freed) as usize
    }

    pub(super) fn get(&self, id: Id) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn insert(&mut self, thing: T) -> Id {
        let id = self.vacant();
        if let Some(place) = self.places.get_mut(id as usize) {
            *place = Some(thing);
        }
        id
    }

    fn vacant(&mut self) -> Id {
        if let Some(top) = self.freed.checked_sub(1)
            && let Some(id) = self.free.get(top as usize)
        {
            self.freed = top;
            return *id;
        }
        let id = self.used;
        self.used += 1;
        self.places.grow(self.used as usize);
        id
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let thing = self.places.get_mut(id as usize)?.take()?;
        self.free.grow(self.freed as usize + 1);
        if let Some(top) = self.free.get_mut(self.freed as usize) {
            *top = id;
            self.freed += 1;
        }
        Some(thing)
    }
}

/// Their numbers are 0, 1, ...
impl<T> FromIterator<T> for Slab<T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        let mut used = 0;
        let places = things.into_iter().inspect(|_| used += 1).map(Some).collect();
        Self { places, used, free: Vector::new(), freed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_gone_are_given_again() {
        let mut slab: Slab<_> = ["a", "b"].into_iter().collect();
        assert_eq!(slab.insert("c"), 2);
        assert_eq!((slab.remove(1), slab.remove(1), slab.remove(9)), (Some("b"), None, None));
        assert_eq!((slab.get(1), slab.len()), (None, 2));
        let old = slab.clone();
        assert_eq!(["d", "e"].map(|thing| slab.insert(thing)), [1, 3]);
        assert_eq!((slab.get(1), slab.get(3), slab.len()), (Some(&"d"), Some(&"e"), 4));
        assert_eq!((old.get(1), old.get(3), old.len()), (None, None, 2));
    }
}
