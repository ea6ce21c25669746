//! A snapshot of the table and a node name make candidates, lazily and in the order in which they are tried.

use std::sync::Arc;

use crate::config::FileCount;
use crate::dial::{Trust, Trusts};
use crate::node::NodeName;
use crate::route::{Rank, Route, RouteTable, Row, Upstream};

/// What a request sees of the configuration: one table, whole, however often it is swapped meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the tables that were in force; the first is 1.
    pub generation: u64,
    /// The routes in force.
    pub table: RouteTable,
    /// The routes of files that were removed at run time.
    pub removed: RouteTable,
    /// What each routes file gave to the two, in the order of the table.
    pub files: Vec<FileCount>,
    /// What the files of the routes' TLS policies held when the table was built.
    pub trusts: Arc<Trusts>,
}

impl Snapshot {
    /// The same under the next number; it shares all that it holds.
    pub fn next(&self) -> Self {
        Self {
            generation: self.generation + 1,
            table: self.table.clone(),
            removed: self.removed.clone(),
            files: self.files.clone(),
            trusts: Arc::clone(&self.trusts),
        }
    }
}

/// The candidates for one node. It holds the snapshot, and is dropped when the dial ends.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    node: NodeName,
    /// The route in hand and the next of its upstreams.
    current: Option<(Arc<Row<Route>>, usize)>,
    /// Behind which of the table's entries the search goes on.
    after: Option<Rank>,
}

/// A route and one of its upstreams, chosen for this request and not yet tried.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The route.
    pub route: Arc<Row<Route>>,
    /// Where it leads.
    pub upstream: Upstream,
    /// What the route's TLS trusts, if it has TLS.
    pub trust: Option<Arc<Trust>>,
}

impl Plan {
    /// A plan that has not searched yet.
    pub fn new(snapshot: Arc<Snapshot>, node: NodeName) -> Self {
        Self { snapshot, node, current: None, after: None }
    }

    /// The route that is tried first as long as its upstreams are healthy; this takes no candidate.
    pub fn heaviest(&self) -> Option<&Arc<Row<Route>>> {
        self.snapshot.table.find(&self.node, None)
    }

    /// Whether nothing has matched so far; after the last candidate: whether nothing matched anywhere.
    pub fn is_unmatched(&self) -> bool {
        self.current.is_none()
    }
}

impl Iterator for Plan {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        loop {
            if let Some((route, next)) = &mut self.current
                && let Some(upstream) = route.upstreams.get(*next)
            {
                *next += 1;
                let trust = route.tls.as_ref().and_then(|policy| self.snapshot.trusts.get(policy)).cloned();
                return Some(Candidate { route: Arc::clone(route), upstream: upstream.clone(), trust });
            }
            let route = self.snapshot.table.find(&self.node, self.after)?;
            self.after = Some(route.rank());
            self.current = Some((Arc::clone(route), 0));
        }
    }
}
