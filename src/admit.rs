//! Who may come in, and how many: a slot is reserved before anything is read and given back when its guard is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::close::Refused;
use crate::drain::Drain;

/// The bounds of what is open at once.
#[derive(Debug)]
pub struct Admission {
    open: Arc<AtomicUsize>,
    limit: AtomicUsize,
    heads: Arc<Semaphore>,
    admin: Arc<Semaphore>,
    drain: Drain,
}

/// A slot for one request and its relay.
#[derive(Debug)]
pub struct Admitted {
    open: Arc<AtomicUsize>,
}

/// A place to read a head in, or a whole connection of the admin API; a door waits for one before it accepts, so that a
/// flood stays in the socket's backlog.
#[derive(Debug)]
pub struct HeadSlot {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// Heads that are read at once. Each costs at most [`crate::request::MAX_HEAD`] and its task, so this bounds what
    /// clients that never finish theirs can take: 40 MiB.
    const HEADS: usize = 4096;

    /// Connections of the admin API that are open at once: far fewer than the descriptors that relays leave to the rest.
    const ADMIN: usize = 16;

    /// Admits up to `limit` requests and relays until the drain begins.
    pub fn new(limit: usize, drain: Drain) -> Self {
        Self {
            open: Arc::default(),
            limit: AtomicUsize::new(limit),
            heads: Arc::new(Semaphore::new(Self::HEADS)),
            admin: Arc::new(Semaphore::new(Self::ADMIN)),
            drain,
        }
    }

    /// Waits until one more head may be read.
    pub async fn head_slot(&self) -> HeadSlot {
        // The semaphore is never closed; if it were, reading without a bound is the lesser evil.
        HeadSlot { _permit: Arc::clone(&self.heads).acquire_owned().await.ok() }
    }

    /// Waits until one more connection of the admin API may be open.
    pub async fn admin_slot(&self) -> HeadSlot {
        HeadSlot { _permit: Arc::clone(&self.admin).acquire_owned().await.ok() }
    }

    /// Reserves a slot.
    pub fn admit(&self) -> Result<Admitted, Refused> {
        if self.drain.has_begun() {
            return Err(Refused::Draining);
        }
        let limit = self.limit.load(Ordering::Relaxed);
        // In one step: a count that is taken back would refuse whoever comes meanwhile, though there is a slot.
        let reserved =
            self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < limit).then_some(open + 1));
        match reserved {
            Ok(_) => Ok(Admitted { open: Arc::clone(&self.open) }),
            Err(_) => Err(Refused::Busy),
        }
    }

    /// Requests and relays that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many may be open.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit; what is open stays open.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back_when_its_guard_is_dropped() {
        let admission = Admission::new(2, Drain::new());
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert!(matches!(admission.admit(), Err(Refused::Busy)));
        assert_eq!(admission.open(), 2, "a refusal holds no slot");
        drop(first);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn a_lower_limit_lets_what_is_open_stay_open() {
        let admission = Admission::new(3, Drain::new());
        let open = [admission.admit().unwrap(), admission.admit().unwrap()];
        admission.set_limit(1);
        assert_eq!(admission.open(), 2);
        assert!(matches!(admission.admit(), Err(Refused::Busy)));
        drop(open);
        assert!(admission.admit().is_ok());
    }

    #[tokio::test]
    async fn nobody_is_admitted_to_a_draining_daemon() {
        let drain = Drain::new();
        let admission = Admission::new(1, drain.clone());
        drain.begin();
        assert!(matches!(admission.admit(), Err(Refused::Draining)));
    }
}
