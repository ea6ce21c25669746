//! What a request sees of the configuration.

use std::sync::Arc;

use crate::config::FileCount;
use crate::dial::{Slots, Trusts};
use crate::node::NodeName;
use crate::resolve::{Discovery, Resolvers};
use crate::route::RouteTable;
use crate::shared::Summary;

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
    /// The resolvers that routes may ask, by name.
    pub resolvers: Arc<Resolvers>,
    /// What is asked for what no route has reached, if anything is.
    pub discovery: Option<Arc<Discovery>>,
    /// What the table that a fleet shares gave to the two, if there is one.
    pub shared: Option<Arc<Summary>>,
}

impl Snapshot {
    /// Whether a request for the node may come to anything: a route matches, or a resolver can be asked.
    pub fn may_reach(&self, node: &NodeName) -> bool {
        self.discovery.is_some() || self.table.find(node, None).is_some()
    }

    /// The same under the next number; it shares all that it holds.
    pub fn next(&self) -> Self {
        Self {
            generation: self.generation + 1,
            table: self.table.clone(),
            removed: self.removed.clone(),
            files: self.files.clone(),
            trusts: Arc::clone(&self.trusts),
            slots: Arc::clone(&self.slots),
            resolvers: Arc::clone(&self.resolvers),
            discovery: self.discovery.clone(),
            shared: self.shared.clone(),
        }
    }

    /// Trusts these. Routes come and go, and each may have had a policy of its own: those of no route and no answer are
    /// let go now and then.
    pub fn trust(&mut self, mut trusts: Trusts) {
        if trusts.is_grown() {
            let of_routes = self.table.iter().chain(self.removed.iter()).filter_map(|route| route.tls.as_deref());
            let of_answers = self.resolvers.iter().map(|resolver| &**resolver.answer_tls());
            trusts.keep_only(&of_routes.chain(of_answers).collect());
        }
        self.trusts = Arc::new(trusts);
    }
}
