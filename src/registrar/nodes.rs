//! The nodes that are registered here, each for as long as its connection lives.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::dialect::ergo::GenRoute;
use crate::node::NodeName;

/// Who is registered, and where that can be asked for.
#[derive(Debug, Default)]
pub struct Nodes {
    by_name: Mutex<HashMap<NodeName, Arc<[GenRoute]>>>,
    /// A name has become free.
    freed: Notify,
    listens_at: OnceLock<Vec<SocketAddr>>,
}

/// A name that a connection has, until this is dropped.
#[derive(Debug)]
pub struct Registration {
    node: NodeName,
    nodes: Arc<Nodes>,
}

impl Nodes {
    /// How long a name that is taken is waited for: a node that starts again at once may be here before the end of its
    /// former connection is seen. Its registrar is given a second by Ergo's client.
    const PATIENCE: Duration = Duration::from_millis(200);

    /// Registers a node; `None` if its name is taken.
    pub async fn register(self: &Arc<Self>, node: &NodeName, routes: &Arc<[GenRoute]>) -> Option<Registration> {
        let free = async {
            loop {
                let freed = self.freed.notified();
                if let Some(registration) = self.try_register(node, routes) {
                    return registration;
                }
                freed.await;
            }
        };
        timeout(Self::PATIENCE, free).await.ok()
    }

    fn try_register(self: &Arc<Self>, node: &NodeName, routes: &Arc<[GenRoute]>) -> Option<Registration> {
        let mut by_name = self.lock();
        if by_name.contains_key(node) {
            return None;
        }
        by_name.insert(node.clone(), Arc::clone(routes));
        Some(Registration { node: node.clone(), nodes: Arc::clone(self) })
    }

    /// Where a node has said that it listens.
    pub fn routes(&self, node: &NodeName) -> Option<Arc<[GenRoute]>> {
        self.lock().get(node).cloned()
    }

    /// Whether who asks at this address asks here. A resolver of the daemon's own need not send a packet then, and is
    /// never answered with a lease, which would lead it back.
    pub fn are_asked_at(&self, address: SocketAddr) -> bool {
        self.listens_at.get().is_some_and(|addresses| addresses.contains(&address))
    }

    /// Says where they can be asked for; once.
    pub(super) fn listen_at(&self, addresses: Vec<SocketAddr>) {
        // It is at the start.
        let _only_once = self.listens_at.set(addresses);
    }

    /// A panic with the lock leaves the map as it was, or with one node more or less.
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeName, Arc<[GenRoute]>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Puts other routes in the place of those that it has.
    pub(super) fn replace(&self, routes: Arc<[GenRoute]>) {
        self.nodes.lock().insert(self.node.clone(), routes);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.nodes.lock().remove(&self.node);
        self.nodes.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        NodeName::parse("db@127.0.0.1").unwrap()
    }

    fn at(port: u16) -> Arc<[GenRoute]> {
        [GenRoute { port, ..GenRoute::default() }].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_one_connections_at_a_time() {
        let nodes = Arc::new(Nodes::default());
        let first = nodes.register(&node(), &at(1)).await.unwrap();
        assert!(nodes.register(&node(), &at(2)).await.is_none(), "taken");
        assert_eq!(nodes.routes(&node()), Some(at(1)));
        first.replace(at(3));
        assert_eq!(nodes.routes(&node()), Some(at(3)));
        drop(first);
        assert_eq!(nodes.routes(&node()), None);
        assert!(nodes.register(&node(), &at(2)).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_starts_again_may_be_faster_than_its_own_end() {
        let nodes = Arc::new(Nodes::default());
        let first = nodes.register(&node(), &at(1)).await.unwrap();
        let second = tokio::spawn({
            let nodes = Arc::clone(&nodes);
            async move { nodes.register(&node(), &at(2)).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
        let _second = second.await.unwrap().unwrap();
        assert_eq!(nodes.routes(&node()), Some(at(2)));
    }
}
