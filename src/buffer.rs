//! Buffers that a relay borrows while bytes are on their way; an idle relay has none.

use std::cell::RefCell;
use std::mem;

/// The size of a buffer, in bytes: large enough that a copy costs few system calls, small enough to stay in the cache.
pub(crate) const SIZE: usize = 64 * 1024;

/// The most buffers that a thread keeps for later (1 MiB); more are needed only while many relays wait for slow peers.
const KEPT: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

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

    /// All of its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of its bytes, to be overwritten.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Bytes that were read elsewhere; they do not join the pool.
impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        if bytes.len() != SIZE {
            return;
        }
        // The pool is gone when the thread is ending: then the buffer is simply freed.
        let _ending = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(bytes);
            }
        });
    }
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
}
