//! Candidates race until one is up: name lookup, TCP, TLS handshake.

mod race;
mod health;
mod network;
mod eyeballs;
mod names;
mod options;
mod own;
mod proxy_protocol;
mod slots;
mod tcp;
mod tls;
mod tries;
mod unseen;
mod attempt;
mod candidates;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) use tls::certs;

use std::net::SocketAddr;
use std::sync::Arc;

pub use attempt::{Attempt, DialError, Stage};
pub(crate) use health::Dice;
pub use health::{Health, LastError, Latency, Standing, Upstreams};
pub(crate) use names::{all, has_way};
pub(crate) use options::keepalive;
pub use own::OwnLeases;
pub use proxy_protocol::Ends;
pub(crate) use proxy_protocol::{header, of_probe};
pub use slots::{Slot, Slots, Turn};
pub(crate) use tls::of_relay;
pub use tls::{Opened, Trust, TrustError, Trusts};

use self::network::Up;
use self::race::{Race, Won};
use crate::close::Refused;
use crate::deadline::Deadline;
use crate::plan::{Course, Plan};
use crate::stream::Stream;

/// An upstream that is up.
#[derive(Debug)]
pub struct Dialed {
    /// The connection, with its TLS handshake done.
    pub stream: Stream,
    /// What led there.
    pub course: Course,
    /// The address at its other end.
    pub address: SocketAddr,
    /// The attempts that failed before it.
    pub failed: Vec<Attempt>,
    /// Its place among the route's relays, if the route bounds them.
    pub slot: Option<Arc<Slot>>,
}

/// The candidates of a plan race until one is up or the deadline is over.
pub fn first(plan: Plan, deadline: Deadline) -> impl Future<Output = Result<Dialed, Refused>> + use<> {
    let upstreams = Arc::clone(plan.upstreams());
    let mut race = Race::new(plan, upstreams, deadline);
    // Not an `async fn`: it would keep the plan twice, as its argument and in the race.
    async move {
        let won = race.run().await;
        let failed = race.take_failed();
        match won {
            Some(Won { up: Up { stream, address }, course, slot }) => {
                Ok(Dialed { stream, course, address, failed, slot })
            }
            None if race.candidates().is_unmatched() => Err(match race.candidates().unknown_to() {
                Some(resolver) => Refused::Unknown(Arc::clone(resolver)),
                None => Refused::NoRoute,
            }),
            None => Err(Refused::AllFailed(failed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::DialConfig;
    use crate::drain::Drain;
    use crate::node::NodeName;
    use crate::plan::Snapshot;
    use crate::route::RouteTable;
    use crate::route::testing::route;

    #[tokio::test]
    async fn a_deadline_that_is_over_is_not_told_as_no_route() {
        let table = RouteTable::from_entries(vec![route("^db@", 1)]).unwrap();
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            table,
            removed: RouteTable::new(),
            files: Vec::new(),
            trusts: Arc::new(Trusts::new(None)),
            slots: Arc::default(),
            resolvers: Arc::default(),
            discovery: None,
            shared: None,
        });
        let outcome = async |node| {
            let (upstreams, node) =
                (Arc::new(Upstreams::new(Drain::new(), Arc::default())), NodeName::parse(node).unwrap());
            let plan = Plan::new(Arc::clone(&snapshot), upstreams, DialConfig::default(), node, None);
            first(plan, Deadline::after(Duration::ZERO)).await.unwrap_err().outcome()
        };
        let late = outcome("db@prod").await;
        assert_eq!((late.status, late.code, late.proxy_status), (504, "all_failed", "connection_timeout"));
        assert_eq!(outcome("other").await.code, "no_route");
    }
}
