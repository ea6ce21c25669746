//! What the service manager is told (sd_notify(3)); without one, nothing happens.

use sd_notify::NotifyState;
use tracing::debug;

/// The daemon serves, for the first time or again after a reload.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon serves on, and there is something else to show.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// The files are read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The daemon is on its way out.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager cannot be told");
    }
}
