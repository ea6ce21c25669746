//! Where a node may be reached, asked of a service: etcd, DNS, a registrar, EPMD, or a list in the configuration.
//!
//! A kind of service is one file with an [`Ask`]: it asks once and keeps nothing.

mod answer;
mod template;
mod dns;
mod epmd;

use std::fmt;
use std::pin::Pin;

pub use answer::{Answer, Answers, NoAnswer};
pub use dns::{Dns, DnsConfig};
pub use epmd::Epmd;
pub use template::{BadDomain, BadTemplate, Template};

use crate::node::NodeName;

/// A service that can be asked where a node is.
pub trait Ask: fmt::Debug + Send + Sync {
    /// Asks once. Who calls bounds the time; dropping the future ends the question.
    fn ask(&self, node: NodeName) -> Asking;
}

/// A question under way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Answers, NoAnswer>> + Send>>;

/// The name and the host of a node: what stands before its last `@`, and what behind. `None` where either is missing.
fn parts(node: &NodeName) -> Option<(&str, &str)> {
    node.as_str().rsplit_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty())
}
