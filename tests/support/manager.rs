//! A service manager, as far as a daemon sees one (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::HANG;
use super::daemon::Folder;

/// The socket that `$NOTIFY_SOCKET` names.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    pub fn in_folder(folder: &Folder) -> Self {
        let path = folder.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        Self { socket, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message, one assignment a line.
    pub fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message of the daemon");
        std::str::from_utf8(&message[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits for a message with this assignment.
    pub fn wait_for(&self, assignment: &str) -> Vec<String> {
        loop {
            let message = self.next();
            if message.iter().any(|line| line == assignment) {
                return message;
            }
        }
    }
}
