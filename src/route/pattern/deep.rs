//! Room for patterns that nest deeply.

use std::thread;

/// A shorter text nests so little that every thread has room for it.
const SHORT: usize = 300;
/// Room for the 1000 levels that Go allows, in the compiler too, and much more; only what is used is taken.
const STACK: usize = 64 << 20;

/// Does work whose recursion is as deep as the pattern nests: for a long one on a thread that has the room.
pub(super) fn deep<T: Send>(text: &str, work: impl Fn() -> T + Sync) -> T {
    if text.len() <= SHORT {
        return work();
    }
    let elsewhere =
        thread::scope(|scope| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, &work).ok()?.join().ok());
    // Where no thread is to be had, there may be room here.
    elsewhere.unwrap_or_else(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_is_done_on_a_thread_of_its_own() {
        let here = thread::current().id();
        assert_eq!(deep("short", || thread::current().id()), here);
        assert_ne!(deep(&"long".repeat(100), || thread::current().id()), here);
    }
}
