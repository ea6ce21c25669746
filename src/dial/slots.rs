//! How many requests and relays of a route are open, for the routes that bound it by `max_relays`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::DialError;
use crate::route::{Entry, Route, Row};

/// What the routes with a bound have open, by their keys: it outlives the tables. A route without a bound is not in it,
/// and never meets its lock.
#[derive(Debug, Default)]
pub struct Slots {
    open: Mutex<HashMap<Box<str>, usize>>,
}

/// What one request has of a route with a bound: one slot at most, however many of the route's upstreams it dials.
#[derive(Debug)]
pub struct Turn {
    slots: Arc<Slots>,
    route: Arc<Row<Route>>,
    held: Mutex<Weak<Slot>>,
}

/// One of the route's slots; it is given back when this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    route: Arc<Row<Route>>,
}

impl Turn {
    /// A request's turn at a route; `None` if the route has no bound.
    pub fn at(route: &Arc<Row<Route>>, slots: &Arc<Slots>) -> Option<Arc<Self>> {
        route.settings().max_relays?;
        let (slots, route) = (Arc::clone(slots), Arc::clone(route));
        Some(Arc::new(Self { slots, route, held: Mutex::default() }))
    }

    /// The request's slot: the one that it holds already, else one that is free.
    pub fn slot(&self) -> Result<Arc<Slot>, DialError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = held.upgrade() {
            return Ok(slot);
        }
        let slot = Slot::take(&self.slots, &self.route)?;
        *held = Arc::downgrade(&slot);
        Ok(slot)
    }
}

impl Slot {
    fn take(slots: &Arc<Slots>, route: &Arc<Row<Route>>) -> Result<Arc<Self>, DialError> {
        let most = route.settings().max_relays.unwrap_or(usize::MAX);
        let mut open = slots.lock();
        let count = open.entry(route.key().into()).or_default();
        if *count >= most {
            return Err(DialError::Full(most));
        }
        *count += 1;
        Ok(Arc::new(Self { slots: Arc::clone(slots), route: Arc::clone(route) }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.lock();
        if let Some(count) = open.get_mut(self.route.key()) {
            *count -= 1;
            if *count == 0 {
                open.remove(self.route.key());
            }
        }
    }
}

impl Slots {
    /// How many a route has open.
    pub fn open(&self, key: &str) -> usize {
        self.lock().get(key).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Settings, testing};

    fn row(max_relays: Option<usize>) -> Arc<Row<Route>> {
        let settings = Some(Box::new(Settings { max_relays, ..Settings::DEFAULT }));
        testing::row(Route { settings, ..testing::route("^db@", 1) })
    }

    #[test]
    fn a_route_without_a_bound_takes_no_turns() {
        assert!(Turn::at(&row(None), &Arc::default()).is_none());
    }

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let (slots, route) = (Arc::default(), row(Some(2)));
        let turn = || Turn::at(&route, &slots).unwrap();
        let held = [turn().slot().unwrap(), turn().slot().unwrap()];
        assert_eq!((turn().slot().unwrap_err(), slots.open("^db@")), (DialError::Full(2), 2));
        drop(held);
        assert_eq!(slots.open("^db@"), 0);
        assert!(slots.lock().is_empty(), "what has nothing open is forgotten");
        assert!(turn().slot().is_ok());
    }

    #[test]
    fn one_request_holds_one_slot_for_all_of_its_attempts() {
        let slots = Arc::default();
        let turn = Turn::at(&row(Some(1)), &slots).unwrap();
        let attempts = [turn.slot().unwrap(), turn.slot().unwrap()];
        assert_eq!(slots.open("^db@"), 1);
        drop(attempts);
        assert_eq!(slots.open("^db@"), 0);
    }

    #[test]
    fn the_count_goes_on_when_the_route_is_another_with_the_same_key() {
        let slots = Arc::default();
        let _open = Turn::at(&row(Some(5)), &slots).unwrap().slot().unwrap();
        let after_reload = Turn::at(&row(Some(1)), &slots).unwrap();
        assert_eq!(after_reload.slot().unwrap_err(), DialError::Full(1));
    }
}
