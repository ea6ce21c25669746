//! The door of a lease: TCP on 127.0.0.1, on a port of the kernel's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use super::doors::{listening, with_options};
use super::{Door, Forward, Kind, Listener, accept_loop};
use crate::daemon::Daemon;
use crate::workers::Workers;

/// A port that is bound; nobody is accepted there yet.
#[derive(Debug)]
pub(crate) struct LeasePort {
    listener: Listener,
    address: SocketAddr,
}

impl LeasePort {
    /// Takes a free port.
    pub(crate) fn bind(workers: &Arc<Workers>) -> io::Result<Self> {
        let socket = listening((Ipv4Addr::LOCALHOST, 0).into())?;
        with_options(&socket)?;
        let address = SockRef::from(&socket).local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("a TCP socket without an address"))?;
        Ok(Self { listener: Listener::new(socket, Kind::Tcp, false, workers)?, address })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts clients until it is shut; `keeper` runs beside that.
    pub(crate) fn open(
        self,
        daemon: &Arc<Daemon>,
        forward: &Arc<Forward>,
        shut: CancellationToken,
        keeper: impl Future<Output = ()> + Send + 'static,
    ) {
        let worker = Arc::clone(&self.listener.worker);
        let _there = worker.enter();
        let door = Arc::new(ArcSwap::from_pointee(Door::Forward(Arc::clone(forward))));
        let accepting = accept_loop(Arc::clone(daemon), self.listener, door, shut);
        // One task, as for any door: the workers are compared by their tasks.
        daemon.drain.spawn(async {
            tokio::join!(accepting, keeper);
        });
    }
}
