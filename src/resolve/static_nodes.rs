//! Answers that are written in the configuration, for labs and tests.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use super::{Answer, Answers, Ask, Asking, NoAnswer};
use crate::node::NodeName;

/// What is written of each node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticNodes(BTreeMap<NodeName, Arc<[Answer]>>);

impl StaticNodes {
    /// Says where a node is.
    pub fn insert(&mut self, node: NodeName, answers: Arc<[Answer]>) {
        self.0.insert(node, answers);
    }
}

impl Ask for StaticNodes {
    fn ask(&self, node: NodeName) -> Asking {
        let known = self.0.get(&node).cloned();
        Box::pin(ready(match known {
            Some(list) => Ok(Answers { list, ttl: None }),
            None => Err(NoAnswer::Unknown { ttl: None }),
        }))
    }
}
