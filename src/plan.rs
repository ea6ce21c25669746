//! A snapshot of the table and a node name make candidates, lazily and in the order in which they are tried.

use std::sync::Arc;

use crate::config::FileCount;
use crate::dial::{DialError, Ends, Slot, Slots, Trust, Trusts, Turn, header, of_probe};
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
    /// What the routes that bound it have open: the same in every snapshot of a daemon.
    pub slots: Arc<Slots>,
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
            slots: Arc::clone(&self.slots),
        }
    }
}

/// The candidates for one node. It holds the snapshot, and is dropped when the dial ends.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    node: NodeName,
    /// Where the client comes from, where that can be told.
    client: Option<Ends>,
    /// The route in hand and the next of its upstreams.
    current: Option<(Arc<Row<Route>>, usize)>,
    /// Behind which of the table's entries the search goes on.
    after: Option<Rank>,
    /// The request's turn at the route in hand.
    turn: Option<Arc<Turn>>,
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
    /// What the upstream hears before anything else, if the route has `proxy_protocol`.
    pub preface: Option<Arc<[u8]>>,
    /// The request's turn at the route, if the route bounds its relays.
    pub turn: Option<Arc<Turn>>,
}

impl Plan {
    /// A plan that has not searched yet.
    pub fn new(snapshot: Arc<Snapshot>, node: NodeName, client: Option<Ends>) -> Self {
        Self { snapshot, node, client, current: None, after: None, turn: None }
    }

    /// Whether nothing has matched so far; after the last candidate: whether nothing matched anywhere.
    pub fn is_unmatched(&self) -> bool {
        self.current.is_none()
    }
}

impl Candidate {
    /// The request's slot among the route's relays; `None` if they are not bounded, an error if all are taken.
    pub fn slot(&self) -> Result<Option<Arc<Slot>>, DialError> {
        self.turn.as_ref().map(|turn| turn.slot()).transpose()
    }

    /// The same for a try of our own that no client asks for: the upstream is told so, and it takes no slot.
    pub fn as_probe(self) -> Self {
        Self { preface: self.preface.map(|_| of_probe().into()), turn: None, ..self }
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
                let preface = || header(self.client, &self.node).into();
                let preface = route.settings().proxy_protocol.then(preface);
                let (route, turn) = (Arc::clone(route), self.turn.clone());
                return Some(Candidate { upstream: upstream.clone(), route, trust, preface, turn });
            }
            let route = self.snapshot.table.find(&self.node, self.after)?;
            self.after = Some(route.rank());
            self.turn = Turn::at(route, &self.snapshot.slots);
            self.current = Some((Arc::clone(route), 0));
        }
    }
}
