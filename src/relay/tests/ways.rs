//! Every way of moving bytes, for tests that shall hold whichever is taken.

use std::cell::Cell;

use rustix::pipe::fcntl_setpipe_size;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::peers::{Kind, Peer};
use crate::close::Closed;
use crate::relay::Relay;
use crate::relay::direction::Way;
use crate::relay::pipes::Pipe;
use crate::stream::Stream;

/// What a system has for who asks for a pipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Supply {
    #[default]
    Usual,
    Tiny,
    None,
}

/// Held by tests that take all pipes there are, and by those that need one.
pub(in crate::relay) static ALL_PIPES: Mutex<()> = Mutex::const_new(());

thread_local! {
    static FORCED: Cell<Option<Way>> = const { Cell::new(None) };
    static SUPPLY: Cell<Supply> = const { Cell::new(Supply::Usual) };
}

/// The way that the test on this thread wants, where the two streams leave a choice; by itself a relay chooses.
pub(in crate::relay) fn forced(from: &Stream, to: &Stream) -> Option<Way> {
    FORCED.get().filter(|_| !from.is_tls() && !to.is_tls())
}

/// The way of all relays on this thread from here on.
pub(super) fn force(way: Option<Way>) {
    FORCED.set(way);
}

/// The pipes of all relays on this thread from here on.
pub(super) fn supply(supply: Supply) {
    SUPPLY.set(supply);
}

/// The pipe that the test on this thread wants in place of what would be had.
pub(in crate::relay) fn supplied(usual: impl FnOnce() -> Option<Pipe>) -> Option<Pipe> {
    match SUPPLY.get() {
        Supply::Usual => usual(),
        Supply::Tiny => usual().inspect(|pipe| {
            fcntl_setpipe_size(pipe.writer(), 4096).unwrap();
        }),
        Supply::None => None,
    }
}

/// A relay that takes one way for everything that it can, or chooses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    kind: Kind,
    way: Option<Way>,
}

/// Each of these kinds with each way; TLS is always copied.
pub(super) fn every_way(kinds: impl IntoIterator<Item = Kind>) -> impl Iterator<Item = Case> {
    kinds.into_iter().flat_map(|kind| {
        let ways = [None, Some(Way::Copy), Some(Way::Splice)];
        let different = if kind.upstream_is_tls() { 1 } else { ways.len() };
        ways.into_iter().take(different).map(move |way| Case { kind, way })
    })
}

impl Case {
    pub(super) fn client_is_unix(self) -> bool {
        self.kind.client_is_unix()
    }

    pub(super) fn upstream_is_tls(self) -> bool {
        self.kind.upstream_is_tls()
    }

    pub(super) fn may_splice(self) -> bool {
        !self.kind.upstream_is_tls() && self.way != Some(Way::Copy)
    }

    pub(super) async fn open(self, tail: &[u8]) -> (Peer, Peer, Relay) {
        force(self.way);
        self.kind.open(tail).await
    }

    pub(super) async fn connect(self) -> (Peer, Peer, JoinHandle<Closed>) {
        force(self.way);
        self.kind.connect().await
    }
}
