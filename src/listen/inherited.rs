//! Sockets that a service manager bound and handed over (sd_listen_fds(3)).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::SockRef;

use super::BindError;

/// The sockets that were handed over and have not been taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    unix: Vec<(PathBuf, UnixListener)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// Takes them from the environment; to be called once, before other descriptors are opened.
    pub fn from_env() -> Result<Self, BindError> {
        let mut fds = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..fds.len() {
            // sd_listen_fds(3): they begin at 3.
            inherited.take(&mut fds, index).map_err(|error| BindError::Inherited { fd: index + 3, error })?;
        }
        Ok(inherited)
    }

    fn take(&mut self, fds: &mut ListenFd, index: usize) -> std::io::Result<()> {
        // A descriptor of another kind is an error that leaves it in its place.
        if let Ok(Some(listener)) = fds.take_unix_listener(index) {
            listens(&listener)?;
            listener.set_nonblocking(true)?;
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
            self.unix.push((path.unwrap_or_default(), listener));
        } else if let Some(listener) = fds.take_tcp_listener(index)? {
            listens(&listener)?;
            listener.set_nonblocking(true)?;
            self.tcp.push((listener.local_addr()?, listener));
        }
        Ok(())
    }

    /// The Unix socket that was bound to this path.
    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let index = self.unix.iter().position(|(bound, _)| bound == path)?;
        Some(self.unix.swap_remove(index).1)
    }

    /// The TCP socket that was bound to this address.
    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.tcp.iter().position(|(bound, _)| *bound == address)?;
        Some(self.tcp.swap_remove(index).1)
    }

    /// The path of the main socket when the configuration names none: the first Unix socket that was handed over.
    pub fn first_unix(&self) -> Option<PathBuf> {
        self.unix.first().map(|(path, _)| path.clone())
    }

    /// Whether a Unix socket at this path was handed over, and has not been taken yet.
    pub fn has_unix(&self, path: &Path) -> bool {
        self.unix.iter().any(|(bound, _)| bound == path)
    }

    /// What nobody asked for, in words.
    pub fn left(&self) -> impl Iterator<Item = String> {
        let unix = self.unix.iter().map(|(path, _)| path.display().to_string());
        unix.chain(self.tcp.iter().map(|(address, _)| address.to_string()))
    }
}

/// Refuses a socket that will never have anybody to accept, such as one end of a connection.
fn listens(socket: &impl AsFd) -> std::io::Result<()> {
    if SockRef::from(socket).is_listener()? { Ok(()) } else { Err(std::io::Error::other("it does not listen")) }
}
