//! Where a node may be reached, asked of a service: etcd, DNS, a registrar, EPMD, or a list in the configuration.
//!
//! A kind of service is one file with an [`Ask`]: it asks once and keeps nothing.

mod answer;

use std::fmt;
use std::pin::Pin;

pub use answer::{Answer, Answers, NoAnswer};

use crate::node::NodeName;

/// A service that can be asked where a node is.
pub trait Ask: fmt::Debug + Send + Sync {
    /// Asks once. Who calls bounds the time; dropping the future ends the question.
    fn ask(&self, node: NodeName) -> Asking;
}

/// A question under way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Answers, NoAnswer>> + Send>>;
