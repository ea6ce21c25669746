//! The registrar's door: Ergo's nodes register here over TCP and ask over UDP where their peers are. Of a node that the
//! table knows the answer is a lease, so that a node that was not changed reaches its peers through portolan.

mod nodes;
mod questions;
mod registration;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

pub use nodes::{Nodes, Registration};
pub(crate) use registration::serve;

use crate::daemon::Daemon;
use crate::log::Sparse;

/// The longest packet of either kind, in bytes: what Ergo's server and client have room for. Who registers within it
/// is also answered with within it: the answer has the same routes, and lacks the name.
const MOST: usize = 4096;

/// What the sockets of the door share.
#[derive(Debug)]
pub struct Registrar {
    nodes: Arc<Nodes>,
    /// Who is answered with leases; `None`: every user of this machine.
    users: Option<Box<[u32]>>,
    limit: usize,
    places: Arc<Semaphore>,
    full: Sparse,
}

/// A place for one registration.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit);

impl Registrar {
    /// One where nobody has registered; at most `limit` nodes may, or are about to. These users are answered with leases;
    /// `None`: all are.
    pub fn new(nodes: Arc<Nodes>, limit: usize, users: Option<Box<[u32]>>) -> Self {
        Self { nodes, users, limit, places: Arc::new(Semaphore::new(limit)), full: Sparse::default() }
    }

    /// A place for a client, if there is one.
    pub(crate) fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// Says that there was none.
    pub(crate) fn say_full(&self) {
        if let Some(unsaid) = self.full.turn() {
            let limit = self.limit;
            warn!(
                limit,
                unsaid, "a node cannot register: registrar.nodes, or a sixteenth of the descriptors, allow no more"
            );
        }
    }
}

/// Where the registrar is asked; nobody reads there yet.
#[derive(Debug)]
pub struct Questions {
    /// Who answers.
    pub registrar: Arc<Registrar>,
    /// One for each address.
    pub sockets: Vec<UdpSocket>,
}

impl Questions {
    /// Answers until the daemon ends, on the runtime that this is called on: not on those that relay, which a flood of
    /// questions would hold up.
    pub fn open(self, daemon: &Arc<Daemon>) -> io::Result<()> {
        let Self { registrar, sockets } = self;
        let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<SocketAddr>>>()?;
        registrar.nodes.listen_at(addresses);
        for socket in sockets {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            daemon.drain.spawn(questions::answer(Arc::clone(daemon), Arc::clone(&registrar), socket));
        }
        Ok(())
    }
}
