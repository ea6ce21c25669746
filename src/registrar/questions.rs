//! What is asked over UDP, and what is answered: the table has the first word, then the nodes that are registered here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tracing::warn;

use super::{MOST, Registrar};
use crate::daemon::Daemon;
use crate::dialect::ergo::{GenRoute, Packet};
use crate::lease::NoLease;
use crate::listen::{Transport, owner};
use crate::log::Sparse;
use crate::node::NodeName;

/// What Ergo says of a node that nobody knows (gen.ErrUnknown).
const UNKNOWN: &str = "unknown";

/// What is said where a lease should be, and there is none to be had.
const BUSY: &str = "busy";

/// So many questions are answered, then whoever else waits for this thread has a turn.
const AT_ONCE: u32 = 16;

/// How long nothing is read after a failure that would come again at once.
const PAUSE: Duration = Duration::from_millis(10);

/// What the log has to hear of one socket, and not of each datagram.
#[derive(Debug, Default)]
struct Said {
    garbled: Sparse,
    failed: Sparse,
    no_lease: Sparse,
}

/// Answers until the daemon ends. Each answer leaves from the address that was asked: the socket is bound to it.
pub(super) async fn answer(daemon: Arc<Daemon>, registrar: Arc<Registrar>, socket: UdpSocket) {
    let Ok(ours) = socket.local_addr() else { return };
    let (said, mut buffer, mut turn) = (Said::default(), vec![0; MOST + 1], 0_u32);
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = daemon.drain.begun() => return,
        };
        match received {
            Ok((length, asker)) => {
                let question = read(buffer.get(..length).unwrap_or_default());
                match question {
                    Ok(node) => {
                        let answer = about(&daemon, &registrar, &node, (asker, ours), &said).written();
                        // Lost on its way, as any datagram may be.
                        drop(socket.try_send_to(&answer, asker));
                    }
                    Err(why) => {
                        if let Some(unsaid) = said.garbled.turn() {
                            warn!(%asker, why, unsaid, "a datagram at the registrar is no question");
                        }
                    }
                }
            }
            Err(error) => {
                if let Some(unsaid) = said.failed.turn() {
                    warn!(address = %ours, %error, unsaid, "the registrar cannot read questions");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
}

/// The node that a datagram asks for.
fn read(datagram: &[u8]) -> Result<NodeName, String> {
    match Packet::read(datagram) {
        Ok(Some((Packet::Resolve { node }, length))) if length == datagram.len() => {
            NodeName::parse(&node).map_err(|bad| bad.to_string())
        }
        Ok(Some((Packet::Resolve { .. }, _))) => Err("bytes are left behind the packet".to_owned()),
        Ok(Some(_)) => Err("it is another packet".to_owned()),
        Ok(None) => Err(format!("it ends after {} bytes", datagram.len())),
        Err(bad) => Err(bad.to_string()),
    }
}

/// What is answered about a node. No resolver is asked, and so nothing is waited for.
fn about(
    daemon: &Arc<Daemon>,
    registrar: &Registrar,
    node: &NodeName,
    ends: (SocketAddr, SocketAddr),
    said: &Said,
) -> Packet {
    let snapshot = daemon.snapshot();
    let is_routed = snapshot.table.find(node, None).is_some();
    let lease = || lease(daemon, registrar, node, ends, said);
    if is_routed && let Some(answer) = lease() {
        return answer;
    }
    if let Some(routes) = registrar.nodes.routes(node) {
        return Packet::Resolved { routes: routes.to_vec(), error: None };
    }
    let is_discovered = || {
        let discovery = snapshot.discovery.as_ref()?;
        discovery.resolver.peek(node).known.filter(|known| known.outcome.is_ok())
    };
    let discovered = if is_routed { None } else { is_discovered().and_then(|_known| lease()) };
    discovered.unwrap_or_else(|| no(UNKNOWN))
}

/// A lease of whoever asks; `None` if that is nobody of this machine, whom no lease would let in, or none of the users.
fn lease(
    daemon: &Arc<Daemon>,
    registrar: &Registrar,
    node: &NodeName,
    (asker, ours): (SocketAddr, SocketAddr),
    said: &Said,
) -> Option<Packet> {
    // From elsewhere, a socket of ours on the same port might be taken for the asker's.
    let is_local = asker.ip().to_canonical().is_loopback() || asker.ip() == ours.ip();
    let asked = is_local.then(|| owner(Transport::Udp, asker, ours))?;
    let taken = match asked {
        Ok(uid) => {
            let uid = uid.filter(|uid| registrar.users.as_ref().is_none_or(|users| users.contains(uid)))?;
            daemon.leases.take(daemon, uid, node)
        }
        Err(error) => Err(NoLease::System(error.to_string())),
    };
    match taken {
        Ok((lease, _is_new)) => {
            let route = GenRoute::at(&lease.address.ip().to_string(), lease.address.port());
            Some(Packet::Resolved { routes: vec![route], error: None })
        }
        Err(why) => {
            if let Some(unsaid) = said.no_lease.turn() {
                warn!(node = node.as_str(), %asker, %why, unsaid, "the registrar has no lease to answer with");
            }
            Some(no(BUSY))
        }
    }
}

fn no(why: &str) -> Packet {
    Packet::Resolved { routes: Vec::new(), error: Some(why.to_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_one_packet_and_nothing_else() {
        let question = Packet::Resolve { node: "db@x".to_owned() }.written();
        assert_eq!(read(&question).unwrap().as_str(), "db@x");
        let said = |datagram: &[u8]| read(datagram).unwrap_err();
        assert_eq!(said(&[&question[..], b"x"].concat()), "bytes are left behind the packet");
        assert_eq!(said(&question[..9]), "it ends after 9 bytes");
        assert_eq!(said(b""), "it ends after 0 bytes");
        assert_eq!(said(&no(UNKNOWN).written()), "it is another packet");
        assert_eq!(said(b"GET /"), "at byte 0: the packet is of version 71, and there is 1");
        assert_eq!(said(&Packet::Resolve { node: String::new() }.written()), "the node name is empty");
        let forged = Packet::Resolve { node: "a\nb".to_owned() }.written();
        assert_eq!(said(&forged), "the node name has the control character U+000A");
    }

    proptest! {
        #[test]
        fn who_registers_within_the_bound_is_answered_within_it(node in "[a-z]{1,9}", count in 1..400usize) {
            let routes = vec![GenRoute::at("", 1); count];
            let registration = Packet::Register { node, routes: routes.clone() }.written();
            let answer = Packet::Resolved { routes, error: None }.written();
            prop_assert!(answer.len() <= registration.len());
        }

        #[test]
        fn any_datagram_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            drop(read(&bytes));
        }
    }
}
