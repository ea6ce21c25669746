//! Unix sockets: bound with their mode, owner and group before anybody can connect, and never twice.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{BACKLOG, BindError};
use crate::config::{self, SocketAccess};
use crate::lock::{self, LockError};

/// A Unix socket that is bound; its file goes when this is dropped, its lock stays until then.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    /// The socket's file as it was bound: another's that has taken the path is left alone.
    inode: Option<u64>,
    _lock: File,
}

/// Binds a Unix socket, in place of a dead daemon's if there is one.
pub(super) fn bind(path: &Path, access: &SocketAccess) -> Result<(UnixListener, Bound), BindError> {
    make_folder(path)?;
    let lock = lock_beside(path)?;
    remove_dead(path)?;

    let failed = |what: &'static str| move |error| BindError::failed(path.display(), what, error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("cannot be made"))?;
    let address = SockAddr::unix(path).map_err(|_too_long| BindError::TooLong(path.to_owned()))?;
    socket.bind(&address).map_err(failed("cannot be bound"))?;
    let inode = inode_of(path);
    let bound = Bound { path: path.to_owned(), inode, _lock: lock };
    // Nobody can connect before `listen`, so nobody can slip in under another mode.
    set_access(path, access)?;
    socket.listen(BACKLOG).map_err(failed("cannot listen"))?;
    socket.set_nonblocking(true).map_err(failed("cannot be used"))?;
    Ok((socket.into(), bound))
}

fn make_folder(path: &Path) -> Result<(), BindError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .map_err(|error| BindError::failed(folder.display(), "cannot be made, or is not a folder", error)),
        _ => Ok(()),
    }
}

/// Two daemons that start at once meet at this lock.
fn lock_beside(socket: &Path) -> Result<File, BindError> {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    let path = Path::new(&name);
    lock::lock(path).map_err(|error| match error {
        LockError::Held(holder) => BindError::in_use(socket, holder),
        LockError::Io(error) => BindError::failed(path.display(), "cannot be opened", error),
    })
}

/// Removes the file of a socket that nobody listens on any more.
fn remove_dead(path: &Path) -> Result<(), BindError> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::failed(path.display(), "cannot be looked at", error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match try_connect(path) {
        Ok(live) => {
            let holder = rustix::net::sockopt::socket_peercred(&live).ok();
            Err(BindError::in_use(path, holder.map(|credentials| credentials.pid.as_raw_nonzero().get())))
        }
        // Its backlog is full, so somebody listens, and does not say who.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::in_use(path, None)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|error| BindError::failed(path.display(), "is a dead socket that cannot be removed", error)),
        Err(error) => Err(BindError::failed(path.display(), "is there and cannot be tried", error)),
    }
}

/// Connects without waiting: whoever listens may hang, and nobody would get past it.
fn try_connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

pub(super) fn set_access(path: &Path, access: &SocketAccess) -> Result<(), BindError> {
    const CURE: &str = "portolan's user may give it to the groups that it is a member of, and to nobody else";
    let id = |name: &Option<String>, resolve: fn(&str) -> Result<u32, config::UnknownOwner>| {
        name.as_deref().map(resolve).transpose().map_err(|error| BindError::Access(path.to_owned(), error.to_string()))
    };
    let owner = id(&access.owner, config::resolve_user)?;
    let group = id(&access.group, config::resolve_group)?;
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(path, owner, group).map_err(|error| {
            let named = |kind, name: &Option<String>| name.as_ref().map(|name| format!("{kind} {name}"));
            let whom = [named("owner", &access.owner), named("group", &access.group)].into_iter().flatten();
            let whom = whom.collect::<Vec<_>>().join(" and ");
            BindError::Access(path.to_owned(), format!("cannot be given to {whom}: {}; {CURE}", config::reason(&error)))
        })?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(access.mode))
        .map_err(|error| BindError::failed(path.display(), "cannot get its mode", error))
}

fn inode_of(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.inode.is_some() && inode_of(&self.path) == self.inode {
            // A file that is gone, or may not be removed any more, is replaced by the next daemon.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use socket2::SockRef;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_socket_has_its_mode_and_its_file_goes_with_it() {
        let folder = folder();
        let path = folder.path().join("new/portolan.sock");
        let access = SocketAccess { mode: 0o600, ..SocketAccess::default() };
        let (listener, bound) = bind(&path, &access).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop((listener, bound));
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced() {
        let folder = folder();
        let path = folder.path().join("portolan.sock");
        // Another test's child has our descriptors until it is another program, so that a drop alone kills nothing.
        let dead = UnixListener::bind(&path).unwrap();
        SockRef::from(&dead).shutdown(Shutdown::Both).unwrap();
        assert!(path.exists());
        assert!(bind(&path, &SocketAccess::default()).is_ok());
    }

    #[test]
    fn a_live_socket_is_left_alone_and_its_holder_is_told() {
        let folder = folder();
        for (name, is_ours) in [("strange.sock", false), ("ours.sock", true)] {
            let path = folder.path().join(name);
            let _listener = if is_ours {
                bind(&path, &SocketAccess::default()).map(|(listener, bound)| (listener, Some(bound))).unwrap()
            } else {
                (UnixListener::bind(&path).unwrap(), None)
            };
            let expected = format!(
                "{} is in use by process {}; stop that process, or give this daemon another path",
                path.display(),
                std::process::id()
            );
            assert_eq!(bind(&path, &SocketAccess::default()).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("portolan.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = bind(&path, &SocketAccess::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is not a socket; portolan does not replace it: remove it, or choose another path",
                path.display()
            )
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn another_file_at_the_path_is_not_removed_at_the_end() {
        let folder = folder();
        let path = folder.path().join("portolan.sock");
        let (_listener, bound) = bind(&path, &SocketAccess::default()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "somebody else's").unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn a_live_socket_whose_backlog_is_full_is_not_waited_for() {
        let folder = folder();
        let path = folder.path().join("portolan.sock");
        let hanging = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        hanging.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        hanging.listen(0).unwrap();
        let waiting: Vec<_> = std::iter::from_fn(|| try_connect(&path).ok()).take(100).collect();
        assert!(waiting.len() < 100, "the backlog is full");
        let error = bind(&path, &SocketAccess::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is in use by another process; stop that process, or give this daemon another path",
                path.display()
            )
        );
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let folder = folder();
        let (path, precious) = (folder.path().join("portolan.sock"), folder.path().join("precious"));
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("portolan.sock.lock")).unwrap();
        let error = bind(&path, &SocketAccess::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}.lock cannot be opened: it is a link, and none is followed here: remove it", path.display())
        );
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    }
}
