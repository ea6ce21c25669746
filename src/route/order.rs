//! Whether routes of the same weight have changed their order between two tables.

/// Goes along with the routes of a new table that an old one has, too. Among equal weights the order counts: another
/// route may be the first.
#[derive(Debug)]
pub struct Order<P> {
    /// The weight and the old place of the last route that kept both its weight and its order.
    last: Option<(i64, P)>,
}

impl<P> Default for Order<P> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<P: PartialOrd> Order<P> {
    /// Whether the next route, by its weight and place in the old table, stands behind one of its weight that was behind
    /// it there.
    pub fn is_moved(&mut self, before: (i64, P), weight: i64) -> bool {
        let is_moved = self.last.as_ref().is_some_and(|last| last.0 == before.0 && before.1 < last.1);
        if before.0 == weight && !is_moved {
            self.last = Some(before);
        }
        is_moved
    }
}
