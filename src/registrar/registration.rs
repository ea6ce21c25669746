//! One connection of a node: it registers, and is registered until the connection ends.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{MOST, Nodes, Place, Registrar, Registration};
use crate::close::millis;
use crate::dialect::ergo::{BadEdf, GenRoute, Packet};
use crate::drain::Drain;
use crate::node::NodeName;
use crate::stream::Stream;

/// How long a client may take to register.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one that is told no may take to hear it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What Ergo says of a name that another node has (gen.ErrTaken).
const TAKEN: &str = "resource is taken";

/// What it says of a node without a name or without a route (gen.ErrIncorrect).
const INCORRECT: &str = "incorrect value or argument";

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client has ended it.
    Closed,
    /// It failed.
    Failed(io::Error),
    /// What came is no packet.
    Garbled(String),
    /// Nothing came in time.
    TooSlow,
    /// It was told no: this.
    Refused(&'static str),
    /// The daemon ends.
    Draining,
}

/// The connection, and what has come and is not used yet.
#[derive(Debug)]
struct Link {
    stream: Stream,
    held: Vec<u8>,
}

/// Serves one connection to its end.
pub(crate) async fn serve(registrar: Arc<Registrar>, _place: Place, stream: TcpStream, drain: Drain) {
    let client = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let mut link = Link { stream: Stream::Tcp(stream), held: Vec::new() };
    let registered = tokio::select! {
        registered = link.register(&registrar.nodes) => registered,
        () = drain.begun() => Err(End::Draining),
    };
    match registered {
        Ok((node, registration)) => {
            let since = Instant::now();
            info!(node = node.as_str(), client, "node registered");
            let end = tokio::select! {
                end = link.stay(&node, &registration) => end,
                () = drain.begun() => End::Draining,
            };
            drop(registration);
            info!(node = node.as_str(), client, why = %end, ms = millis(since.elapsed()), "node is not registered any more");
        }
        Err(end) => warn!(client, why = %end, "nobody registered"),
    }
    link.close().await;
}

impl Link {
    /// Waits for the packet that registers, and answers it.
    async fn register(&mut self, nodes: &Arc<Nodes>) -> Result<(NodeName, Registration), End> {
        let packet = timeout(PATIENCE, self.packet()).await.map_err(|_elapsed| End::TooSlow)??;
        let (node, routes) = match Packet::read(&packet) {
            Ok(Some((Packet::Register { node, routes }, _))) => (node, routes),
            Ok(_) => return Err(End::Garbled("another packet than that of a registration".to_owned())),
            Err(bad) => return Err(bad.into()),
        };
        let node = NodeName::parse(&node).ok().filter(|_| !routes.is_empty());
        let Some(node) = node else { return self.refuse(INCORRECT).await };
        match nodes.register(&node, &routes.into()).await {
            Some(registration) => self.answer(None).await.map(|()| (node, registration)),
            None => self.refuse(TAKEN).await,
        }
    }

    /// Waits for the end of a node that is registered. Ergo's have nothing more to say: what they might say in later
    /// versions is no reason to lose them, as long as it has the form of a packet.
    async fn stay(&mut self, node: &NodeName, registration: &Registration) -> End {
        let mut is_said = false;
        loop {
            let packet = match self.packet().await {
                Ok(packet) => packet,
                Err(end) => return end,
            };
            let again: Option<Vec<GenRoute>> = match Packet::read(&packet) {
                Ok(Some((Packet::Register { node: again, routes }, _))) if again == node.as_str() => Some(routes),
                Ok(_) | Err(_) => None,
            };
            let answered = match again {
                Some(routes) if routes.is_empty() => self.answer(Some(INCORRECT)).await,
                Some(routes) => {
                    registration.replace(routes.into());
                    self.answer(None).await
                }
                None => {
                    if !std::mem::replace(&mut is_said, true) {
                        let kind = packet.get(1).copied().unwrap_or_default();
                        warn!(node = node.as_str(), kind, "a registered node has sent a packet that is not understood");
                    }
                    Ok(())
                }
            };
            if let Err(end) = answered {
                return end;
            }
        }
    }

    /// The next packet, whole.
    async fn packet(&mut self) -> Result<Vec<u8>, End> {
        loop {
            match Packet::length(&self.held)? {
                Some(length) if length > MOST => {
                    return Err(End::Garbled(format!("a packet of {length} bytes, and {MOST} is the most")));
                }
                Some(length) if length <= self.held.len() => {
                    let behind = self.held.split_off(length);
                    return Ok(std::mem::replace(&mut self.held, behind));
                }
                Some(_) | None => {}
            }
            let mut buffer = [0; 512];
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err(End::Closed),
                Ok(count) => self.held.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) => return Err(End::Failed(error)),
            }
        }
    }

    async fn answer(&mut self, error: Option<&str>) -> Result<(), End> {
        let answer = Packet::Registered { error: error.map(str::to_owned) }.written();
        match timeout(ANSWER_TIMEOUT, self.stream.write_all(&answer)).await {
            Ok(written) => written.map_err(End::Failed),
            Err(_elapsed) => Err(End::TooSlow),
        }
    }

    async fn refuse<T>(&mut self, why: &'static str) -> Result<T, End> {
        self.answer(Some(why)).await?;
        Err(End::Refused(why))
    }

    /// Ends in order: a node of Ergo 3.1 that gets a reset reads it again and again, without a pause.
    async fn close(mut self) {
        drop(timeout(ANSWER_TIMEOUT, self.stream.shutdown()).await);
        self.stream.discard_unread();
    }
}

impl From<BadEdf> for End {
    fn from(bad: BadEdf) -> Self {
        Self::Garbled(bad.to_string())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("its connection has ended"),
            Self::Failed(error) => write!(f, "its connection has failed: {error}"),
            Self::Garbled(why) => write!(f, "what it sent is not understood: {why}"),
            Self::TooSlow => f.write_str("it was too slow"),
            Self::Refused(why) => write!(f, "it was refused: {why}"),
            Self::Draining => f.write_str("the daemon is ending"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_cut_off() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(b"\x01\x2c").await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let registrar = Arc::new(Registrar::new(Arc::default(), 1, None));
        let place = registrar.place().unwrap();
        assert!(registrar.place().is_none());
        let began = Instant::now();
        serve(Arc::clone(&registrar), place, accepted, Drain::new()).await;
        assert!(began.elapsed() >= PATIENCE);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "in order");
        assert!(registrar.place().is_some(), "its place is free again");
    }
}
