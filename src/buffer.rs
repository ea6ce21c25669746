//! Buffers that a relay borrows while bytes are on their way; an idle relay has none.

use std::cell::RefCell;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::LocalKey;

/// The size of a buffer, in bytes: large enough that a copy costs few system calls, small enough to stay in the cache.
pub(crate) const SIZE: usize = 64 * 1024;

/// The size of a large buffer, for much under TLS: it cannot be spliced, and each call wakes somebody. A GB takes 0.48 s of
/// CPU with 64 KiB, 0.29 s with 256 KiB, and 0.19 s with this (`docs/performance.md`).
pub(crate) const LARGE: usize = 1024 * 1024;

/// The most buffers that a thread keeps for later (1 MiB); more are needed only while many relays wait for slow peers.
const KEPT: usize = 16;

/// The most large ones that are in use; whoever wants one more gets a small one.
const MOST_LARGE: usize = 64;
/// The most large ones that a thread keeps for later: without a slow peer it needs two, what was read and what is written.
const KEPT_LARGE: usize = 2;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static LARGE_POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

static LARGE_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes that come from the thread's pool and go back to it when they are dropped.
///
/// They are zeroed once, when they are allocated, and hold what was read last ever after.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// A buffer of [`SIZE`] bytes.
    pub(crate) fn take() -> Self {
        let kept = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        Self(kept.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()))
    }

    /// A buffer of [`LARGE`] bytes, or of [`SIZE`] when there are too many large ones.
    pub(crate) fn take_large() -> Self {
        let more = |in_use: usize| (in_use < MOST_LARGE).then_some(in_use + 1);
        if LARGE_IN_USE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Self::take();
        }
        let kept = LARGE_POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        Self(kept.unwrap_or_else(|| vec![0; LARGE].into_boxed_slice()))
    }

    /// All of its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of its bytes, to be overwritten.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Bytes that were read elsewhere, not as many as a buffer holds; they do not join the pool.
impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        debug_assert!(![SIZE, LARGE].contains(&bytes.len()), "its length would say that it is one of ours");
        Self(bytes.into_boxed_slice())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        match bytes.len() {
            SIZE => keep(bytes, &POOL, KEPT),
            LARGE => {
                LARGE_IN_USE.fetch_sub(1, Ordering::Relaxed);
                keep(bytes, &LARGE_POOL, KEPT_LARGE);
            }
            _ => {}
        }
    }
}

fn keep(bytes: Box<[u8]>, pool: &'static LocalKey<RefCell<Vec<Box<[u8]>>>>, most: usize) {
    // The pool is gone when the thread is ending: then the buffer is simply freed.
    let _ending = pool.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < most {
            pool.push(bytes);
        }
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// How many buffers this thread keeps.
    pub(crate) fn kept() -> usize {
        POOL.with_borrow(Vec::len)
    }

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let first = Buffer::take();
        let place = first.bytes().as_ptr();
        drop(first);
        assert_eq!(Buffer::take().bytes().as_ptr(), place);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_cap() {
        drop((0..2 * KEPT).map(|_| Buffer::take()).collect::<Vec<_>>());
        assert_eq!(kept(), KEPT);
        drop(Buffer::from(vec![0; 10]));
        assert!(POOL.with_borrow(|pool| pool.iter().all(|buffer| buffer.len() == SIZE)));
    }

    #[test]
    fn large_ones_are_bounded_and_few_are_kept() {
        // Other tests may have some of them.
        let taken: Vec<_> = (0..=MOST_LARGE).map(|_| Buffer::take_large()).collect();
        let large = |buffer: &&Buffer| buffer.bytes().len() == LARGE;
        assert!((1..=MOST_LARGE).contains(&taken.iter().filter(large).count()));
        drop(taken);
        assert_eq!(LARGE_POOL.with_borrow(Vec::len), KEPT_LARGE);
    }
}
