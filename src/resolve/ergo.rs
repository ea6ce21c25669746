//! Ergo's registrar at the host of the node, asked over UDP (net/registrar/client.go).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::host::{addresses_of, first_to_answer};
use super::{Answer, Answers, Ask, Asking, NoAnswer};
use crate::config::visible;
use crate::dial::DialError;
use crate::dialect::ergo::{Packet, WHOLE, answers, host_part};
use crate::node::NodeName;
use crate::registrar::Nodes;

/// Asks the registrar of a node's host where the node listens.
#[derive(Debug, Clone)]
pub struct Ergo {
    port: u16,
    /// The nodes of the daemon's own registrar. What listens at its addresses is not asked over UDP: it could not tell
    /// us from a node, and would answer with a lease, which leads back here.
    own: Arc<Nodes>,
}

/// How long after each other the question is put again, as a datagram may be lost; who asks ends it.
const AGAIN: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// What a registrar says of a node that it does not know (gen.ErrUnknown).
const UNKNOWN: &str = "unknown";

/// So many characters of any other error are told.
const MOST_OF_AN_ERROR: usize = 80;

impl Ergo {
    /// Where a registrar listens, unless it is told otherwise.
    pub const PORT: u16 = 4499;

    /// Asks on this port, and of what is asked at the daemon's own registrar these nodes.
    pub fn new(port: u16, own: Arc<Nodes>) -> Self {
        Self { port, own }
    }
}

impl Ask for Ergo {
    fn ask(&self, node: NodeName) -> Asking {
        let (port, own) = (self.port, Arc::clone(&self.own));
        Box::pin(async move {
            let no_host = || NoAnswer::NotAskable("a registrar is asked at what stands behind its only `@`".to_owned());
            let (addresses, _) = addresses_of(host_part(&node).ok_or_else(no_host)?).await?;
            let ask = async |ip| {
                let registrar = SocketAddr::new(ip, port);
                if own.are_asked_at(registrar) { of_own(&own, &node) } else { question(registrar, &node).await }
            };
            let (_, list) = first_to_answer(&addresses, ask).await?;
            Ok(Answers { list, ttl: None })
        })
    }

    fn service<'a>(&self, node: &'a NodeName) -> &'a str {
        host_part(node).unwrap_or_default()
    }
}

/// What the daemon's own registrar has of a node.
fn of_own(own: &Nodes, node: &NodeName) -> Result<Arc<[Answer]>, NoAnswer> {
    let routes = own.routes(node).ok_or(NoAnswer::Unknown { ttl: None })?;
    answers(node, &routes).ok_or_else(no_way)
}

/// Puts the question until it is answered. The socket is its own: an answer says neither the name nor which question it
/// is to, and one that comes late must not meet another.
async fn question(registrar: SocketAddr, node: &NodeName) -> Result<Arc<[Answer]>, NoAnswer> {
    let away = |error: io::Error| NoAnswer::Away(format!("{registrar}: {}", DialError::from_connect(&error)));
    let any: SocketAddr =
        if registrar.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(away)?;
    // The kernel drops what others send to it, and says when nobody listens there.
    socket.connect(registrar).await.map_err(away)?;
    let question = Packet::Resolve { node: node.to_string() }.written();
    let mut buffer = vec![0; WHOLE];
    let mut pauses = AGAIN.into_iter();
    loop {
        socket.send(&question).await.map_err(away)?;
        let pause = pauses.next().unwrap_or(Duration::MAX);
        if let Ok(received) = timeout(pause, received(&socket, &mut buffer)).await {
            let length = received.map_err(away)?;
            let answer = buffer.get(..length).unwrap_or_default();
            return read(answer, node).map_err(|error| at(registrar, error));
        }
    }
}

/// What comes, or that nobody listens there: the kernel says so by an error of the socket, for which reading alone does
/// not wait.
async fn received(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let receive = || Ok(rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?.0);
    socket.async_io(Interest::READABLE | Interest::ERROR, receive).await
}

fn read(answer: &[u8], node: &NodeName) -> Result<Arc<[Answer]>, NoAnswer> {
    match Packet::read(answer) {
        Ok(Some((_, length))) if length != answer.len() => {
            Err(NoAnswer::Garbled(format!("{} bytes are left behind the packet", answer.len() - length)))
        }
        Ok(Some((Packet::Resolved { routes, error: None }, _))) => answers(node, &routes).ok_or_else(no_way),
        Ok(Some((Packet::Resolved { error: Some(error), .. }, _))) if error == UNKNOWN => {
            Err(NoAnswer::Unknown { ttl: None })
        }
        Ok(Some((Packet::Resolved { error: Some(error), .. }, _))) => {
            // It may be long, and of any characters.
            let error: String = visible(&error).chars().take(MOST_OF_AN_ERROR).collect();
            Err(NoAnswer::Refused(format!("it says `{error}`")))
        }
        Ok(Some(_)) => Err(NoAnswer::Garbled("it is no answer, but another packet".to_owned())),
        Ok(None) => Err(NoAnswer::Garbled(format!("it ends after {} bytes", answer.len()))),
        Err(bad) => Err(NoAnswer::Garbled(bad.to_string())),
    }
}

fn no_way() -> NoAnswer {
    NoAnswer::Garbled("it has no route that leads anywhere".to_owned())
}

fn at(registrar: SocketAddr, no: NoAnswer) -> NoAnswer {
    match no {
        NoAnswer::Garbled(why) => NoAnswer::Garbled(format!("{registrar}: {why}")),
        NoAnswer::Refused(why) => NoAnswer::Refused(format!("{registrar}: {why}")),
        no => no,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::ergo::GenRoute;

    fn node() -> NodeName {
        NodeName::parse("db@127.0.0.1").unwrap()
    }

    fn resolved(ports: &[u16], error: Option<&str>) -> Vec<u8> {
        let routes = ports.iter().map(|port| GenRoute { port: *port, ..GenRoute::default() }).collect();
        Packet::Resolved { routes, error: error.map(str::to_owned) }.written()
    }

    /// What comes of a question whose datagrams are answered with these, one after the other.
    async fn asked(answers: &[Vec<u8>]) -> Result<Answers, NoAnswer> {
        let registrar = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let serve = async {
            let mut buffer = [0; 512];
            for answer in answers {
                let (length, from) = registrar.recv_from(&mut buffer).await.unwrap();
                let question = Packet::read(&buffer[..length]).unwrap().unwrap().0;
                assert_eq!(question, Packet::Resolve { node: node().to_string() });
                // An empty one is lost on its way.
                if !answer.is_empty() {
                    registrar.send_to(answer, from).await.unwrap();
                }
            }
        };
        tokio::join!(Ergo::new(registrar.local_addr().unwrap().port(), Arc::default()).ask(node()), serve).0
    }

    fn failed(outcome: Result<Answers, NoAnswer>) -> String {
        let text = outcome.unwrap_err().to_string();
        let port = text.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or("-").to_owned();
        text.replace(&port, "PORT")
    }

    #[tokio::test]
    async fn every_route_is_an_answer_and_a_lost_question_is_put_again() {
        let ports = |answers: Answers| answers.list.iter().map(|one| one.port.unwrap()).collect::<Vec<_>>();
        let good = resolved(&[1, 2], None);
        assert_eq!(ports(asked(std::slice::from_ref(&good)).await.unwrap()), [1, 2]);
        assert_eq!(ports(asked(&[Vec::new(), Vec::new(), good]).await.unwrap()), [1, 2]);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said() {
        assert_eq!(asked(&[resolved(&[], Some("unknown"))]).await, Err(NoAnswer::Unknown { ttl: None }));
        let no = failed(asked(&[resolved(&[], Some("no"))]).await);
        assert_eq!(no, "has no answer for this name: 127.0.0.1:PORT: it says `no`");
        let long = failed(asked(&[resolved(&[], Some(&format!("\x1b[2J\n{}", "y".repeat(30_000))))]).await);
        assert_eq!(
            long,
            format!("has no answer for this name: 127.0.0.1:PORT: it says `\u{fffd}[2J\u{fffd}{}`", "y".repeat(75))
        );
        let garbled = async |answer: &[u8]| {
            let text = failed(asked(&[answer.to_vec()]).await);
            text.strip_prefix("gave an answer that is not understood: 127.0.0.1:PORT: ").unwrap().to_owned()
        };
        assert_eq!(garbled(b"x").await, "at byte 0: the packet is of version 120, and there is 1");
        assert_eq!(garbled(&resolved(&[1], None)[..50]).await, "it ends after 50 bytes");
        assert_eq!(garbled(&resolved(&[], None)).await, "it has no route that leads anywhere");
        assert_eq!(garbled(&[resolved(&[1], None), vec![0]].concat()).await, "1 bytes are left behind the packet");
        let other = Packet::Registered { error: None }.written();
        assert_eq!(garbled(&other).await, "it is no answer, but another packet");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_listens_it_is_known_at_once() {
        let began = tokio::time::Instant::now();
        let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let refused = Ergo::new(gone.port(), Arc::default()).ask(node()).await;
        assert_eq!(failed(refused), "is away: 127.0.0.1:PORT: connection refused");
        assert_eq!(began.elapsed(), Duration::ZERO);
        let no_host = Ergo::new(1, Arc::default()).ask(NodeName::parse("db").unwrap()).await;
        assert!(matches!(no_host, Err(NoAnswer::NotAskable(_))));
    }
}
