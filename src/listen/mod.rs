//! The doors: the Unix socket, the admin API's and the forwards; an accept loop that never ends on an error.

mod client;
mod doors;
mod inherited;
mod lease;
mod owner;
mod peer;
mod registrar;
mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use client::{Asked, Client};
pub use doors::{Doors, OpenForward, Prepared, admin_path, socket_path};
pub use inherited::Inherited;
pub(crate) use lease::LeasePort;
pub(crate) use owner::{Transport, owner};
pub use peer::Peer;

use crate::admin;
use crate::admit::HeadSlot;
use crate::config::reason;
use crate::control::Control;
use crate::daemon::Daemon;
use crate::lease::Uses;
use crate::node::NodeName;
use crate::registrar::{Registrar, serve as register};
use crate::serve::serve;
use crate::stream::Stream;
use crate::workers::{Worker, Workers};

/// How many clients may wait to be accepted; the kernel cuts it down to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Which door a client came through.
#[derive(Debug, Clone)]
pub enum Door {
    /// The socket, where a head says what is asked for.
    Socket,
    /// The socket of the admin API.
    Admin(Control),
    /// A forward, where every byte is the node's.
    Forward(Arc<Forward>),
    /// Where Ergo's nodes register.
    Registrar(Arc<Registrar>),
}

/// What a forward leads to.
#[derive(Debug)]
pub struct Forward {
    /// The node that its clients are connected to.
    pub node: NodeName,
    /// Who may connect over TCP; `None`: whoever reaches it.
    pub users: Option<Box<[u32]>>,
    /// Whose lease it is; `None`: it is one of the configuration.
    pub leased_to: Option<u32>,
    /// Who uses it.
    pub uses: Arc<Uses>,
}

impl Forward {
    /// A lease of this user.
    pub(crate) fn leased(node: NodeName, uid: u32) -> Self {
        Self { node, users: Some([uid].into()), leased_to: Some(uid), uses: Arc::default() }
    }
}

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process serves there.
    #[error("{} is in use by {}; stop that process, or give this daemon another path", .0.display(), process(*.1))]
    InUse(PathBuf, Option<i32>),
    /// Something else is at the path.
    #[error("{} is not a socket; portolan does not replace it: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The kernel keeps 107 bytes of a socket's path.
    #[error("{} has {} bytes, a Unix socket has at most 107; choose a shorter path", .0.display(), .0.as_os_str().len())]
    TooLong(PathBuf),
    /// Its mode, owner or group cannot be set.
    #[error("{}: {}", .0.display(), .1)]
    Access(PathBuf, String),
    /// A user that may connect cannot be found.
    #[error("{0}: {1}; name others in `users`")]
    Users(String, String),
    /// Another registrar has the address.
    #[error(
        "the registrar cannot have {address} ({transport}): address already in use; a node of Ergo that runs there may be \
         its own registrar: start it after this daemon, or give one of the two another address"
    )]
    RegistrarInUse {
        /// The address.
        address: SocketAddr,
        /// TCP or UDP.
        transport: &'static str,
    },
    /// The system refuses.
    #[error("{place} {what}: {}{}", reason(.error), cure(.error))]
    Failed {
        /// The path or address.
        place: String,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// A descriptor that the service manager handed over is no listening socket.
    #[error("descriptor {fd} of the service manager is not a listening stream socket: {}", reason(.error))]
    Inherited {
        /// Its number.
        fd: usize,
        /// What the system says.
        error: io::Error,
    },
}

/// What to do about an error at the start; nothing is said where nobody could know.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop what listens there, or choose another address",
        io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
        io::ErrorKind::PermissionDenied => {
            "; give the user that portolan runs as the right to it, or choose another place"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "; choose another place",
        _ => "",
    }
}

fn process(id: Option<i32>) -> String {
    id.map_or("another process".to_owned(), |id| format!("process {id}"))
}

impl BindError {
    fn failed(place: impl fmt::Display, what: &'static str, error: io::Error) -> Self {
        Self::Failed { place: place.to_string(), what, error }
    }

    fn in_use(path: &Path, holder: Option<i32>) -> Self {
        Self::InUse(path.to_owned(), holder)
    }
}

/// A socket that listens.
#[derive(Debug)]
struct Listener {
    socket: AsyncFd<OwnedFd>,
    kind: Kind,
    /// Whether the service manager bound it.
    inherited: bool,
    /// Where its door is.
    worker: Arc<Worker>,
    /// Where its clients may be served.
    workers: Arc<Workers>,
}

/// The kinds of sockets that listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unix,
    Tcp,
}

impl Listener {
    /// A door on one of the workers.
    fn new(socket: OwnedFd, kind: Kind, inherited: bool, workers: &Arc<Workers>) -> io::Result<Self> {
        let worker = Arc::clone(workers.of_door());
        let socket = worker.open_door(socket)?;
        Ok(Self { socket, kind, inherited, worker, workers: Arc::clone(workers) })
    }

    async fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(accepted) = ready.try_io(|_| self.accept_now()) {
                return accepted;
            }
        }
    }

    /// One of those who wait to be accepted, asked of the kernel: the runtime may not have heard of all of them.
    fn accept_now(&self) -> io::Result<OwnedFd> {
        Ok(accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
    }

    /// What was accepted, to be served where this is called.
    fn stream(&self, accepted: OwnedFd) -> io::Result<Stream> {
        match self.kind {
            Kind::Unix => UnixStream::from_std(accepted.into()).map(Stream::Unix),
            Kind::Tcp => TcpStream::from_std(accepted.into()).map(Stream::Tcp),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.worker.shut_door();
    }
}

/// Accepts clients until the door is shut; each is served by a task of its own.
///
/// Who waits in the backlog of a socket of ours when its door is shut is accepted still, and told that the daemon
/// drains. The backlog of an inherited socket is left to the daemon that inherits it next.
async fn accept_loop(daemon: Arc<Daemon>, listener: Listener, door: Arc<ArcSwap<Door>>, shut: CancellationToken) {
    let mut pause = Pause::default();
    while !shut.is_cancelled() {
        let slot = head_slot(&daemon, &door).await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shut.cancelled() => break,
        };
        match accepted.and_then(|client| take_up(&daemon, &listener, &door, client, slot)) {
            Ok(()) => pause = Pause::default(),
            // The client left before it was accepted: nobody's loss.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let pause = pause.longer();
                warn!(%error, ?pause, "cannot accept a client{}", remedy(&error));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shut.cancelled() => {}
                }
            }
        }
    }
    // A bound, for a TCP door whose clients never stop coming.
    for _ in 0..if listener.inherited { 0 } else { BACKLOG } {
        let slot = head_slot(&daemon, &door).await;
        let Ok(client) = listener.accept_now() else { break };
        // One that cannot be watched is closed: there is nobody left who would try again.
        drop(take_up(&daemon, &listener, &door, client, slot));
    }
}

/// Gives a client to the worker that has least to do.
fn take_up(
    daemon: &Arc<Daemon>,
    listener: &Listener,
    door: &ArcSwap<Door>,
    client: OwnedFd,
    slot: Option<HeadSlot>,
) -> io::Result<()> {
    let worker = listener.workers.least_busy(&listener.worker);
    let _there = worker.enter();
    match (door.load().as_ref().clone(), listener.stream(client)?) {
        (Door::Admin(control), Stream::Unix(stream)) => {
            daemon.drain.spawn(admin::serve(Arc::clone(daemon), control, stream, slot));
        }
        (Door::Registrar(registrar), Stream::Tcp(stream)) => match registrar.place() {
            Some(place) => daemon.drain.spawn(register(registrar, place, stream, daemon.drain.clone())),
            // It is closed, and tries again.
            None => registrar.say_full(),
        },
        (Door::Forward(forward), stream) => {
            let in_use = forward.uses.enter();
            let client = Client::new(stream, Door::Forward(forward), slot);
            daemon.drain.spawn(serve(Arc::clone(daemon), client, Some(in_use)));
        }
        (door, stream) => daemon.drain.spawn(serve(Arc::clone(daemon), Client::new(stream, door, slot), None)),
    }
    Ok(())
}

/// A place to read a head in; a forward's clients have none, and do not wait behind those who are slow with theirs.
async fn head_slot(daemon: &Daemon, door: &ArcSwap<Door>) -> Option<HeadSlot> {
    let door = door.load_full();
    match *door {
        Door::Socket => Some(daemon.admission.head_slot().await),
        Door::Admin(_) => Some(daemon.admission.admin_slot().await),
        Door::Forward(_) | Door::Registrar(_) => None,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "; the process is out of descriptors: raise LimitNOFILE, or lower limits.relays",
        Some(Errno::NFILE) => "; the system is out of descriptors: raise fs.file-max, or lower limits.relays",
        _ => "",
    }
}

/// How long an accept loop waits after an error that will not go away by trying again at once.
#[derive(Debug, Default)]
struct Pause(Duration);

impl Pause {
    fn longer(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_a_second() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..9).map(|_| pause.longer().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }

    #[test]
    fn a_holder_that_cannot_be_named_is_another_process() {
        let error = BindError::in_use(Path::new("/run/p.sock"), None);
        assert!(error.to_string().starts_with("/run/p.sock is in use by another process;"));
    }
}
