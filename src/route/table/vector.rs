//! A vector whose clones share all that an edit does not touch.

use std::array;
use std::sync::Arc;

/// Elements in leaves of 128, leaves in branches of 64: an edit in a vector of a million copies a leaf, a branch and
/// 123 pointers to branches.
///
/// It grows by whole branches; places that were never set hold the default.
#[derive(Debug, Clone)]
pub(super) struct Vector<T> {
    branches: Vec<Arc<Branch<T>>>,
}

type Branch<T> = [Arc<Leaf<T>>; BRANCH];
type Leaf<T> = [T; LEAF];

const LEAF: usize = 128;
const BRANCH: usize = 64;

impl<T> Vector<T> {
    pub(super) const fn new() -> Self {
        Self { branches: Vec::new() }
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.branches.get(at / (LEAF * BRANCH))?.get(at / LEAF % BRANCH)?.get(at % LEAF)
    }
}

impl<T: Clone + Default> Vector<T> {
    /// The element for an edit; `None` beyond what [`grow`](Self::grow) has made.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let branch = Arc::make_mut(self.branches.get_mut(at / (LEAF * BRANCH))?);
        Arc::make_mut(branch.get_mut(at / LEAF % BRANCH)?).get_mut(at % LEAF)
    }

    /// Makes room for this many elements at least.
    pub(super) fn grow(&mut self, length: usize) {
        while self.branches.len() * (LEAF * BRANCH) < length {
            // One leaf for all the places of the branch, until they are set.
            let leaf = Arc::new(array::from_fn(|_| T::default()));
            self.branches.push(Arc::new(array::from_fn(|_| Arc::clone(&leaf))));
        }
    }
}

impl<T: Default> FromIterator<T> for Vector<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut elements = elements.into_iter().fuse().peekable();
        let mut branches = Vec::new();
        while elements.peek().is_some() {
            let mut leaf = || Arc::new(array::from_fn(|_| elements.next().unwrap_or_default()));
            branches.push(Arc::new(array::from_fn(|_| leaf())));
        }
        Self { branches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut new = Vector::new();
        new.grow(20_000);
        for at in 0..20_000 {
            *new.get_mut(at).unwrap() = at;
        }
        let collected: Vector<_> = (0..20_000).collect();
        assert!((0..=3 * LEAF * BRANCH).all(|at| new.get(at) == collected.get(at)));
        let old = new.clone();
        for at in (0..20_000).step_by(777) {
            *new.get_mut(at).unwrap() = 0;
        }
        assert!((0..20_000).all(|at| old.get(at) == Some(&at)));
        assert!((0..20_000).all(|at| new.get(at) == Some(&if at % 777 == 0 { 0 } else { at })));
    }

    #[test]
    fn nothing_is_beyond_the_end() {
        let mut vector = Vector::<u32>::new();
        assert_eq!(vector.get(0), None);
        assert_eq!(vector.get_mut(0), None);
        vector.grow(1);
        assert_eq!(vector.get(LEAF * BRANCH - 1), Some(&0));
        assert_eq!(vector.get(LEAF * BRANCH), None);
        assert_eq!(vector.get_mut(usize::MAX), None);
    }
}
