//! A snapshot of the table and a node name make candidates, lazily and in the order in which they are tried.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{DialConfig, FileCount};
use crate::dial::{DialError, Ends, Health, Slot, Slots, Trust, Trusts, Turn, Upstreams, header};
use crate::node::NodeName;
use crate::route::{Rank, Route, RouteTable, Row, Timeout, Upstream};

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
///
/// Upstreams that are ejected come behind the others, in their order. It searches no further than it is asked: with a
/// healthy upstream before them, the other routes that match are not looked at.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    upstreams: Arc<Upstreams>,
    dial: DialConfig,
    node: NodeName,
    /// Where the client comes from, where that can be told.
    client: Option<Ends>,
    /// The route in hand and the next of its upstreams.
    current: Option<(Arc<Row<Route>>, usize)>,
    /// The request's turn at that route.
    turn: Option<Arc<Turn>>,
    /// Behind which of the table's entries the search goes on.
    after: Option<Rank>,
    /// The ejected ones that were met, in their order.
    behind: VecDeque<Candidate>,
}

/// A route and one of its upstreams, chosen for this request and not yet tried.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The route.
    pub route: Arc<Row<Route>>,
    /// Where it leads, and what is known of that.
    pub health: Arc<Health>,
    /// What the route's TLS trusts, if it has TLS.
    pub trust: Option<Arc<Trust>>,
    /// What the upstream hears before anything else, if the route has `proxy_protocol`.
    pub preface: Option<Arc<[u8]>>,
    /// The request's turn at the route, if the route bounds its relays.
    pub turn: Option<Arc<Turn>>,
    /// How long an attempt may take: name lookup, TCP and TLS of all its addresses.
    pub connect_timeout: Duration,
    /// How long it may be without an answer before the next candidate is started beside it; `None`: for ever.
    pub race_after: Option<Duration>,
    /// Whether it stands behind others because it was ejected.
    pub is_ejected: bool,
}

impl Candidate {
    /// Where it leads.
    pub fn upstream(&self) -> &Upstream {
        self.health.upstream()
    }

    /// How long it may be without an answer until it is over or overtaken.
    pub fn patience(&self) -> Duration {
        self.connect_timeout.min(self.race_after.unwrap_or(Duration::MAX))
    }

    /// The request's slot among the route's relays; `None` if they are not bounded, an error if all are taken.
    pub fn slot(&self) -> Result<Option<Arc<Slot>>, DialError> {
        self.turn.as_ref().map(|turn| turn.slot()).transpose()
    }
}

impl Plan {
    /// A plan that has not searched yet.
    pub fn new(
        snapshot: Arc<Snapshot>,
        upstreams: Arc<Upstreams>,
        dial: DialConfig,
        node: NodeName,
        client: Option<Ends>,
    ) -> Self {
        Self {
            snapshot,
            upstreams,
            dial,
            node,
            client,
            current: None,
            turn: None,
            after: None,
            behind: VecDeque::new(),
        }
    }

    /// The route that is tried first as long as its upstreams are healthy; this takes no candidate.
    pub fn heaviest(&self) -> Option<&Arc<Row<Route>>> {
        self.snapshot.table.find(&self.node, None)
    }

    /// Whether nothing has matched so far; after the last candidate: whether nothing matched anywhere.
    pub fn is_unmatched(&self) -> bool {
        self.current.is_none()
    }

    /// What is known of the upstreams.
    pub(crate) fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// The next in the order of the table, ejected or not.
    fn next_of_table(&mut self) -> Option<Candidate> {
        loop {
            if let Some((route, next)) = &mut self.current {
                let (route, index) = (Arc::clone(route), *next);
                *next += 1;
                if let Some(upstream) = route.upstreams.get(index) {
                    return Some(self.candidate(&route, upstream));
                }
            }
            let route = self.snapshot.table.find(&self.node, self.after)?;
            self.after = Some(route.rank());
            self.turn = Turn::at(route, &self.snapshot.slots);
            self.current = Some((Arc::clone(route), 0));
        }
    }

    fn candidate(&self, route: &Arc<Row<Route>>, upstream: &Upstream) -> Candidate {
        let settings = route.settings();
        let health = self.upstreams.meet(upstream, route.tls.as_ref());
        let preface = || header(self.client, &self.node).into();
        Candidate {
            route: Arc::clone(route),
            trust: route.tls.as_ref().and_then(|policy| self.snapshot.trusts.get(policy)).cloned(),
            preface: settings.proxy_protocol.then(preface),
            turn: self.turn.clone(),
            connect_timeout: settings.connect_timeout.unwrap_or(self.dial.connect_timeout),
            race_after: settings.race_after.map_or(self.dial.race_after, Timeout::duration),
            is_ejected: health.is_ejected(),
            health,
        }
    }
}

impl Iterator for Plan {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        while let Some(candidate) = self.next_of_table() {
            if !candidate.is_ejected {
                return Some(candidate);
            }
            candidate.health.wanted(&candidate);
            self.behind.push_back(candidate);
        }
        self.behind.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::dial::DialError;
    use crate::dial::testing::{Act, Scripted, upstream};
    use crate::drain::Drain;
    use crate::route::testing::route;

    /// A table with a route to each of these ports, the heaviest first, and what is known of them.
    struct Lab {
        snapshot: Arc<Snapshot>,
        upstreams: Arc<Upstreams>,
    }

    impl Lab {
        fn new(ports: u16) -> Self {
            let routes = (1..=ports).map(|port| Route {
                upstreams: [upstream(port)].into(),
                // One key for each, and all match.
                ..route(&format!("^db|{port}"), -i64::from(port))
            });
            let table = RouteTable::from_entries(routes.collect()).unwrap();
            let (removed, files, trusts) = (RouteTable::new(), Vec::new(), Arc::new(Trusts::new(None)));
            let snapshot = Arc::new(Snapshot { generation: 1, table, removed, files, trusts, slots: Arc::default() });
            Self { snapshot, upstreams: Scripted::new(&[Act::HANG; 9]).upstreams(Drain::new()) }
        }

        fn plan(&self) -> Plan {
            let (snapshot, upstreams) = (Arc::clone(&self.snapshot), Arc::clone(&self.upstreams));
            Plan::new(snapshot, upstreams, DialConfig::default(), NodeName::parse("db@x").unwrap(), None)
        }

        fn ports(&self) -> Vec<u16> {
            self.plan().map(|candidate| candidate.upstream().port).collect()
        }

        fn eject(&self, port: u16) {
            let candidate = self.plan().find(|candidate| candidate.upstream().port == port).unwrap();
            candidate.health.failed(&candidate, &DialError::Refused, Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_ejected_stand_behind_the_healthy_in_their_order_and_none_is_left_out() {
        let lab = Lab::new(5);
        assert_eq!(lab.ports(), [1, 2, 3, 4, 5]);
        lab.eject(4);
        lab.eject(1);
        assert_eq!(lab.ports(), [2, 3, 5, 1, 4]);
        assert!(lab.plan().all(|candidate| candidate.is_ejected == [1, 4].contains(&candidate.upstream().port)));
        [2, 3, 5].into_iter().for_each(|port| lab.eject(port));
        assert_eq!(lab.ports(), [1, 2, 3, 4, 5], "all are ejected: none stands before another");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_at_behind_the_first_healthy_one() {
        let lab = Lab::new(9);
        lab.plan().next().unwrap();
        assert_eq!(lab.upstreams.len(), 1);
        lab.eject(1);
        let known = lab.upstreams.len();
        assert_eq!(lab.plan().next().unwrap().upstream().port, 2);
        assert_eq!((lab.upstreams.len(), known), (2, 1));
    }
}
