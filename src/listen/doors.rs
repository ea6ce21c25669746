//! Which doors are open: bound before anything is swapped, so that a door that cannot be opened changes nothing.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::unix::{self, Bound};
use super::{BACKLOG, BindError, Door, Forward, Inherited, Kind, Listener, accept_loop, registrar};
use crate::config::{Config, ForwardAddress, ForwardConfig, RegistrarConfig, SocketAccess, resolve_user};
use crate::control::Control;
use crate::daemon::Daemon;
use crate::descriptors;
use crate::dial::keepalive;
use crate::lease::Uses;
use crate::registrar::{Nodes, Questions, Registrar};
use crate::workers::Workers;

/// The doors that are open.
#[derive(Debug)]
pub struct Doors {
    open: Vec<OpenDoor>,
    workers: Arc<Workers>,
}

/// A forward of the configuration that is open.
#[derive(Debug, Clone)]
pub struct OpenForward {
    /// Where it listens.
    pub address: Arc<str>,
    /// What it leads to.
    pub forward: Arc<Forward>,
}

#[derive(Debug)]
struct OpenDoor {
    place: ForwardAddress,
    /// The same with the port that port 0 has become.
    address: Arc<str>,
    door: Arc<ArcSwap<Door>>,
    shut: CancellationToken,
    bound: Option<Bound>,
}

/// A door that is bound and not open yet.
#[derive(Debug)]
pub struct Prepared {
    pub(super) place: ForwardAddress,
    pub(super) door: Door,
    pub(super) listener: Listener,
    pub(super) bound: Option<Bound>,
}

/// Where the main socket is: the configuration's path, else the inherited socket, else the first folder that there is.
pub fn socket_path(config: &Config, inherited: &Inherited) -> PathBuf {
    let configured = config.socket.path.clone().or_else(|| inherited.first_unix());
    configured.unwrap_or_else(|| {
        let user = || folder("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("portolan"));
        runtime_folder().or_else(user).unwrap_or_else(|| PathBuf::from(".")).join("portolan.sock")
    })
}

/// Where the admin API's socket is: the configuration's path, else beside the main socket. The folder of an inherited
/// one may be another's: then the service's own is taken, if it has one.
pub fn admin_path(config: &Config, socket: &Path, inherited: &Inherited) -> PathBuf {
    let own = || runtime_folder().filter(|_| inherited.has_unix(socket));
    let beside = || own().map_or_else(|| socket.with_file_name("admin.sock"), |folder| folder.join("admin.sock"));
    config.admin.path.clone().unwrap_or_else(beside)
}

/// systemd joins several runtime directories with colons; the first is ours.
fn runtime_folder() -> Option<PathBuf> {
    folder("RUNTIME_DIRECTORY").and_then(|list| env::split_paths(&list).next())
}

fn folder(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

impl Doors {
    /// None yet; they will be on these workers.
    pub fn new(workers: Arc<Workers>) -> Self {
        Self { open: Vec::new(), workers }
    }

    /// Binds the main socket.
    pub fn prepare_socket(
        &self,
        path: PathBuf,
        access: &SocketAccess,
        from: &mut Inherited,
    ) -> Result<Prepared, BindError> {
        prepare(ForwardAddress::Unix(path, access.clone()), Door::Socket, from, &self.workers)
    }

    /// Binds the admin API's socket; changes are asked of `control`.
    pub fn prepare_admin(
        &self,
        path: PathBuf,
        access: &SocketAccess,
        control: Control,
        from: &mut Inherited,
    ) -> Result<Prepared, BindError> {
        prepare(ForwardAddress::Unix(path, access.clone()), Door::Admin(control), from, &self.workers)
    }

    /// Binds the addresses of the registrar: the doors where nodes register, and the sockets where they ask.
    pub fn prepare_registrar(
        &self,
        config: &RegistrarConfig,
        nodes: &Arc<Nodes>,
        from: &mut Inherited,
    ) -> Result<(Vec<Prepared>, Questions), Vec<BindError>> {
        let users = numbers(&"[registrar]", config.users.as_ref()).map_err(|error| vec![error])?;
        let registrar = Arc::new(Registrar::new(Arc::clone(nodes), descriptors::nodes(config), users));
        let (mut doors, mut sockets, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for address in &config.listen {
            match registrar::prepare(*address, &registrar, from, &self.workers) {
                Ok((door, socket)) => {
                    doors.push(door);
                    sockets.push(socket);
                }
                Err(error) => failed.push(error),
            }
        }
        if failed.is_empty() { Ok((doors, Questions { registrar, sockets })) } else { Err(failed) }
    }

    /// Binds the forwards that are not open yet; on an error the ones bound so far are given back.
    pub fn prepare_forwards(
        &self,
        forwards: &[ForwardConfig],
        from: &mut Inherited,
    ) -> Result<Vec<Prepared>, Vec<BindError>> {
        let known = self.open_doors_of(forwards);
        let new = forwards.iter().zip(known).filter(|(_, open)| open.is_none()).map(|(forward, _)| forward);
        let mut prepare_one = |forward: &ForwardConfig| {
            let door = Door::Forward(Arc::new(lead(forward, Arc::default())?));
            prepare(forward.listen.clone(), door, from, &self.workers)
        };
        let (prepared, failed): (Vec<_>, Vec<_>) = new.map(&mut prepare_one).partition(Result::is_ok);
        if failed.is_empty() {
            Ok(prepared.into_iter().flatten().collect())
        } else {
            Err(failed.into_iter().filter_map(Result::err).collect())
        }
    }

    /// Opens what was prepared.
    pub fn open(&mut self, daemon: &Arc<Daemon>, prepared: impl IntoIterator<Item = Prepared>) {
        for Prepared { place, door, listener, bound } in prepared {
            // Port 0 has become a port by now.
            let address = match SockRef::from(&listener.socket).local_addr().map(|at| at.as_socket()) {
                Ok(Some(at)) => at.to_string(),
                _ => place.to_string(),
            };
            match &door {
                Door::Registrar(_) => info!(%address, inherited = listener.inherited, "registrar listening"),
                Door::Socket => info!(%address, inherited = listener.inherited, "listening"),
                Door::Admin(_) => info!(%address, inherited = listener.inherited, "admin API listening"),
                Door::Forward(forward) => {
                    info!(%address, node = %forward.node, inherited = listener.inherited, "forwarding")
                }
            }
            let (door, shut) = (Arc::new(ArcSwap::from_pointee(door)), CancellationToken::new());
            // The drain waits for the doors too: they end when the backlog is empty.
            let worker = Arc::clone(&listener.worker);
            let _there = worker.enter();
            daemon.drain.spawn(accept_loop(Arc::clone(daemon), listener, Arc::clone(&door), shut.clone()));
            self.open.push(OpenDoor { place, address: address.into(), door, shut, bound });
        }
        daemon.forwards.store(Arc::new(self.open.iter().filter_map(OpenDoor::as_forward).collect()));
    }

    /// Shuts the forwards that are not among these and points the others to their nodes; relays go on.
    pub fn keep_forwards(&mut self, forwards: &[ForwardConfig]) {
        let known = self.open_doors_of(forwards);
        let kept: HashMap<_, _> = known.into_iter().zip(forwards).filter_map(|(open, to)| Some((open?, to))).collect();
        for (index, mut open) in std::mem::take(&mut self.open).into_iter().enumerate() {
            match kept.get(&index) {
                Some(forward) => open.follow(forward),
                None if !open.is_forward() => {}
                None => {
                    info!(address = %open.place, "forward closed");
                    open.shut();
                    continue;
                }
            }
            self.open.push(open);
        }
    }

    /// Which of the open doors each forward is, if it is open: several on port 0 have each their own, in their order.
    fn open_doors_of(&self, forwards: &[ForwardConfig]) -> Vec<Option<usize>> {
        let mut free: Vec<_> = self.open.iter().enumerate().filter(|(_, open)| open.is_forward()).collect();
        let open_door = |forward: &ForwardConfig| {
            let at = free.iter().position(|(_, open)| open.is_at(&forward.listen))?;
            Some(free.remove(at).0)
        };
        forwards.iter().map(open_door).collect()
    }

    /// Shuts every door.
    pub fn shut(&mut self) {
        self.open.drain(..).for_each(OpenDoor::shut);
    }
}

impl OpenDoor {
    /// First nobody new can come, then who is there already is accepted: nobody is left between the two.
    fn shut(self) {
        drop(self.bound);
        self.shut.cancel();
    }

    fn as_forward(&self) -> Option<OpenForward> {
        let Door::Forward(forward) = &**self.door.load() else { return None };
        Some(OpenForward { address: Arc::clone(&self.address), forward: Arc::clone(forward) })
    }

    fn is_forward(&self) -> bool {
        matches!(**self.door.load(), Door::Forward(_))
    }

    fn is_at(&self, other: &ForwardAddress) -> bool {
        match (&self.place, other) {
            (ForwardAddress::Tcp(ours), ForwardAddress::Tcp(other)) => ours == other,
            (ForwardAddress::Unix(ours, _), ForwardAddress::Unix(other, _)) => ours == other,
            _ => false,
        }
    }

    fn follow(&mut self, forward: &ForwardConfig) {
        let uses = self.as_forward().map(|open| Arc::clone(&open.forward.uses)).unwrap_or_default();
        let leads = lead(forward, Arc::clone(&uses)).unwrap_or_else(|error| {
            // The load has found every user; one that is gone since then lets nobody in.
            warn!(%error, "a forward is shut for everybody");
            Forward { node: forward.node.clone(), users: Some(Box::default()), leased_to: None, uses }
        });
        self.door.store(Arc::new(Door::Forward(Arc::new(leads))));
        if self.place != forward.listen
            && let ForwardAddress::Unix(path, access) = &forward.listen
        {
            // The access of an inherited socket is the service manager's.
            if self.bound.is_some()
                && let Err(error) = unix::set_access(path, access)
            {
                warn!(%error, "a forward's socket keeps its old access");
            }
            self.place = forward.listen.clone();
        }
    }
}

/// What a forward leads to, with the numbers of its users.
fn lead(forward: &ForwardConfig, uses: Arc<Uses>) -> Result<Forward, BindError> {
    let users = numbers(&forward.listen, forward.users.as_ref())?;
    Ok(Forward { node: forward.node.clone(), users, leased_to: None, uses })
}

/// The numbers of the users of a door.
fn numbers(door: &dyn std::fmt::Display, users: Option<&Vec<String>>) -> Result<Option<Box<[u32]>>, BindError> {
    let numbers = |users: &Vec<String>| users.iter().map(|user| resolve_user(user)).collect::<Result<_, _>>();
    let users = users.map(numbers).transpose();
    users.map_err(|error| BindError::Users(door.to_string(), error.to_string()))
}

fn prepare(
    place: ForwardAddress,
    door: Door,
    from: &mut Inherited,
    workers: &Arc<Workers>,
) -> Result<Prepared, BindError> {
    let (socket, kind, bound, inherited) = match &place {
        ForwardAddress::Tcp(address) => {
            let (tcp, inherited) = match from.take_tcp(*address) {
                Some(tcp) => (tcp.into(), true),
                None => (bind_tcp(*address)?, false),
            };
            usable(address, with_options(&tcp))?;
            (tcp, Kind::Tcp, None, inherited)
        }
        ForwardAddress::Unix(path, access) => match from.take_unix(path) {
            // Its mode, owner and group are the service manager's.
            Some(unix) => (unix.into(), Kind::Unix, None, true),
            None => {
                let (unix, bound) = unix::bind(path, access)?;
                (unix.into(), Kind::Unix, Some(bound), false)
            }
        },
    };
    let listener = usable(&place, Listener::new(socket, kind, inherited, workers))?;
    Ok(Prepared { place, door, listener, bound })
}

pub(super) fn usable<T>(place: &dyn std::fmt::Display, done: io::Result<T>) -> Result<T, BindError> {
    done.map_err(|error| BindError::failed(place, "cannot be used", error))
}

fn bind_tcp(address: SocketAddr) -> Result<OwnedFd, BindError> {
    listening(address).map_err(|error| BindError::failed(address, "cannot be bound", error))
}

/// A TCP socket that listens there.
pub(super) fn listening(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A daemon that starts again is not held up by the connections of the one before it.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whom it accepts inherits both. A client that is gone without a word would keep its slot for ever.
pub(super) fn with_options(tcp: &OwnedFd) -> io::Result<()> {
    SockRef::from(tcp).set_tcp_keepalive(&keepalive())?;
    SockRef::from(tcp).set_tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeName;
    use crate::stream::Stream;

    #[tokio::test]
    async fn a_tcp_client_is_asked_whether_it_is_still_there() {
        let place = ForwardAddress::Tcp(([127, 0, 0, 1], 0).into());
        let node = NodeName::parse("a@b").unwrap();
        let forward = Forward { node, users: None, leased_to: None, uses: Arc::default() };
        let door = Door::Forward(Arc::new(forward));
        let prepared = prepare(place, door, &mut Inherited::default(), &Arc::new(Workers::start().unwrap())).unwrap();
        let address = SockRef::from(&prepared.listener.socket).local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address.as_socket().unwrap()).unwrap();
        let accepted = prepared.listener.accept().await.unwrap();
        let Stream::Tcp(accepted) = prepared.listener.stream(accepted).unwrap() else { panic!("no TCP") };
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap().as_secs(), 60);
    }
}
