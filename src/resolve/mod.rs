//! Where a node may be reached, asked of a service: etcd, DNS, a registrar, EPMD, or a list in the configuration.
//!
//! A kind of service is one file with an [`Ask`]: it asks once and keeps nothing. Above each stands a [`Resolver`], which
//! keeps the answers and decides when to ask again.

mod answer;
mod template;
mod dns;
mod epmd;
mod ergo;
mod etcd;
mod hear;
mod host;
mod cache;
mod outage;
mod question;
mod resolver;
mod set;
mod static_nodes;
mod status;
mod targets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use answer::{Answer, Answers, NoAnswer};
pub use cache::{KnownAnswer, Outcome, Questions};
pub use dns::{Dns, DnsConfig};
pub use epmd::Epmd;
pub use ergo::Ergo;
pub use etcd::EtcdNodes;
pub use outage::Away;
pub use question::Waiting;
pub use resolver::{Asked, Peek, Resolver};
pub use set::{Discovery, Resolvers};
pub use static_nodes::StaticNodes;
pub use status::{State, Status};
pub use targets::{Override, Target};
pub use template::{BadDomain, BadTemplate, Template};

use crate::node::NodeName;
use crate::registrar::Nodes;

/// A service that can be asked where a node is.
pub trait Ask: fmt::Debug + Send + Sync {
    /// Asks once. Who calls bounds the time; dropping the future ends the question.
    fn ask(&self, node: NodeName) -> Asking;

    /// Which service would be asked for this node, where there are several: the host, for one on each host. While one
    /// is away, the others are asked as ever. Default: one service for all nodes.
    fn service<'a>(&self, _node: &'a NodeName) -> &'a str {
        ""
    }

    /// Takes in where to say what nobody asked, for a service that tells of changes; called once, before the first
    /// question. Default: it tells of none.
    fn tell(&self, _updates: Weak<dyn Updates>) {}
}

/// A question under way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Answers, NoAnswer>> + Send>>;

/// Takes what a service says without having been asked.
pub trait Updates: Send + Sync {
    /// What the service says of a node now. It takes the place of what is known and ends a question under way; of a node
    /// that nobody has asked for it is not kept. `version` grows with the node's changes: a lower one than the last
    /// changes nothing.
    fn put(&self, node: &NodeName, outcome: Result<Answers, NoAnswer>, version: u64);

    /// Changes may have been missed: what is known is old from now on, and versions begin anew.
    fn doubt(&self);
}

/// The runtime on which questions are asked. Requests wait for them on others: who leaves ends no question, and who
/// waits holds up nobody.
#[derive(Debug, Clone)]
pub struct Home {
    runtime: Handle,
    /// The nodes that are registered with the daemon itself.
    nodes: Arc<Nodes>,
}

impl Home {
    /// On this runtime.
    pub fn on(runtime: Handle) -> Self {
        Self { runtime, nodes: Arc::default() }
    }

    /// The nodes that are registered with the daemon itself; a resolver need not ask a service for them.
    pub fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// Does this until it is told to end.
    pub(crate) fn task(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    fn spawn(&self, question: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(question));
    }
}

/// The name and the host of a node: what stands before its last `@`, and what behind. `None` where either is missing.
fn parts(node: &NodeName) -> Option<(&str, &str)> {
    node.as_str().rsplit_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty())
}
