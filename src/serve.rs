//! One request, from accepted client to closed relay: the page to read first.

use std::sync::Arc;

use tokio::time::Instant;

use crate::admit::Admitted;
use crate::close::{self, Facts, Refused};
use crate::daemon::Daemon;
use crate::deadline::Deadline;
use crate::dial::{self, Dialed};
use crate::lease::InUse;
use crate::listen::{Asked, Client};
use crate::node::NodeName;
use crate::relay::{Registered, Relay, handoff};
use crate::request::ConnectRequest;
use crate::stream::Stream;

/// Serves one client, and writes the one line that the log has of it. Until then its forward is in use.
pub fn serve(daemon: Arc<Daemon>, client: Box<Client>, in_use: Option<InUse>) -> impl Future<Output = ()> {
    // In a box: what connecting needs is given back before the relay, which may stay for weeks. And no `async fn`, which
    // would keep room for its arguments as long.
    let opened = Box::pin(open(daemon, client));
    async move {
        let Some((relay, registered, admitted)) = opened.await else { return };
        let closed = relay.until_closed(registered).await;
        drop(admitted);
        close::log_relay(&closed);
        drop(in_use);
    }
}

/// Connects a client and enters its relay, or tells it and the log why not.
async fn open(daemon: Arc<Daemon>, mut client: Box<Client>) -> Option<(Relay, Arc<Registered>, Admitted)> {
    let started = Instant::now();
    let refused = match connect(&daemon, &mut client).await {
        Ok(Answered::Connected(Connected { facts, upstream, tail, admitted })) => {
            let relay = Relay::between(client.into_stream(), upstream, tail);
            let relay = relay.timeouts(daemon.relay_timeouts(facts.course.settings()));
            return Some((relay, daemon.relays.enter(facts), admitted));
        }
        Ok(Answered::Leased) => return None,
        Ok(Answered::HandedOff(facts)) => {
            close::log_handoff(&facts, started.elapsed());
            return None;
        }
        Err(refused) => refused,
    };
    close::log_refusal(client.node(), &refused, started.elapsed());
    client.refuse(&refused).await;
    None
}

/// From the head to the answer: what a request goes through before its client is told that it is connected.
async fn connect(daemon: &Arc<Daemon>, client: &mut Client) -> Result<Answered, Refused> {
    let started = Instant::now();
    let deadline = Deadline::after(daemon.establish_timeout());

    let admitted = daemon.admission.admit(); // reserved before anything is read ...
    let request = match client.read_request(deadline, &daemon.drain).await? {
        Asked::Connection(request) => request,
        Asked::Lease(node) => return Box::pin(lease(daemon, client, node)).await,
    };
    let admitted = admitted?; // ... and refused only here, in the form that the client speaks

    let deadline = deadline.at_most(started, request.deadline);
    let dialing = Box::pin(plan_dial(daemon, client, &request, deadline)?); // keeps every attempt for answer and log
    let dialed = client.while_there(dialing, &daemon.drain).await?;

    let Dialed { stream: upstream, course, address, failed, slot } = dialed; // no failover after this line
    let attempts = u32::try_from(failed.len()).unwrap_or(u32::MAX).saturating_add(1);
    let facts = Facts { client: client.peer(), node: request.node, course, address, attempts, slot };
    if request.handoff {
        Box::pin(client.hand_off(upstream, &facts, deadline)).await?;
        return Ok(Answered::HandedOff(facts));
    }
    client.establish(&facts, deadline).await?;
    Ok(Answered::Connected(Connected { facts, upstream, tail: request.tail, admitted }))
}

/// Plans the way to the node, with one snapshot of the table that is held until the dial ends.
fn plan_dial(
    daemon: &Daemon,
    client: &Client,
    request: &ConnectRequest,
    deadline: Deadline,
) -> Result<impl Future<Output = Result<Dialed, Refused>> + use<>, Refused> {
    let plan = daemon.plan(request.node.clone(), client.ends());
    if request.handoff
        && let Some(route) = plan.heaviest()
    {
        handoff::check(route)?; // nothing is dialed in vain
    }
    Ok(dial::first(plan, deadline))
}

/// Gives the client a forward of its own; nobody is dialed or asked.
async fn lease(daemon: &Arc<Daemon>, client: &mut Client, node: NodeName) -> Result<Answered, Refused> {
    if !daemon.snapshot().may_reach(&node) {
        return Err(Refused::NoRoute);
    }
    let uid = client.peer().uid().ok_or(Refused::ClientGone)?;
    let (lease, is_new) = daemon.leases.take(daemon, uid, &node).map_err(Refused::NoLease)?;
    client.tell_lease(&lease.view(daemon.lease_idle_timeout()), is_new).await;
    Ok(Answered::Leased)
}

/// What a client has when it is answered.
enum Answered {
    /// A forward of its own; it comes again there.
    Leased,
    /// A stream whose other side is a relay's.
    Connected(Connected),
    /// The upstream itself.
    HandedOff(Facts),
}

/// A request whose client knows that it is connected.
struct Connected {
    facts: Facts,
    upstream: Stream,
    tail: Vec<u8>,
    admitted: Admitted,
}
