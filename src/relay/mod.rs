//! Bytes both ways between a client and an upstream, until both sides are done.
//!
//! Both directions run in one task and share nothing but the two streams; a direction that has nothing to move holds
//! neither a buffer nor a pipe. What happens when a side ends:
//!
//! - **In order** (FIN, close_notify): what it sent is delivered, the other side is ended the same way, and the other
//!   direction goes on.
//! - **By a failure** when it is read (reset, TLS without close_notify, a dead peer): nothing came after that could be
//!   read, so the relay ends, and a TCP peer on the other side gets a reset. A reset discards what the peer has not
//!   received yet, as it would without a relay between.
//! - **Lost**: it takes no more bytes, because a write failed or because it is gone altogether. What it sent before is
//!   still there to be read and is delivered first; what the other side sends meanwhile is dropped. If what it sent has
//!   an orderly end, so has the other side: a node that answers in full and then resets, because the client still
//!   sends, does not cost the client the answer.

mod affinity;
mod bulk;
mod copy;
mod direction;
pub mod handoff;
mod pipes;
mod quiet;
mod register;
mod splice;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

pub use pipes::PIPE_DESCRIPTORS;
pub use quiet::Timeouts;
#[cfg(test)]
pub(crate) use register::testing;
pub use register::{Counter, Cut, Register, Registered};

use crate::close::{Closed, End, Side};
use crate::descriptors::Spare;
use crate::stream::{HangUp, Stream};
use direction::{Broken, Direction};
use quiet::{Expired, Quiet};

/// The open pair of streams.
#[derive(Debug)]
pub struct Relay {
    client: Party,
    upstream: Party,
    /// The side that was the first to end or to be lost.
    first: Option<Side>,
    /// Tells a client that is gone from one that has ended its side and still reads.
    ///
    /// An upstream needs none: the client's next byte tells, and until then the client loses nothing.
    client_gone: Option<Box<(HangUp, Spare)>>,
    quiet: Quiet,
}

/// One side, and the way of what it sends.
#[derive(Debug)]
struct Party {
    stream: Stream,
    sends: Direction,
    phase: Phase,
    /// Why it takes no more bytes.
    lost: Option<io::Error>,
}

/// How far a side is with sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// More may come.
    Open,
    /// All has come and is delivered; the other side's stream is being shut down.
    Ending,
    /// The other side knows the end.
    Ended,
}

impl Relay {
    /// A relay without timeouts. `tail`: bytes already read from the client, the first for the upstream.
    pub fn between(client: Stream, upstream: Stream, tail: Vec<u8>) -> Self {
        Self {
            client: Party::new(client, Direction::starting_with(tail)),
            upstream: Party::new(upstream, Direction::default()),
            first: None,
            client_gone: None,
            quiet: Quiet::default(),
        }
    }

    /// Ends the relay when it is quiet for so long; TCP peers get a reset.
    ///
    /// The half-close timeout also ends a relay whose peer does not read what a side that has gone altogether left.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.quiet.timeouts = timeouts;
        self
    }

    /// Relays until both sides are done, a side fails, a timeout is over, or the register has it cut.
    ///
    /// When it is cut, TCP peers get a reset: a cut stream must not look like a complete one.
    pub fn until_closed(mut self, registered: Arc<Registered>) -> impl Future<Output = Closed> {
        // Not `async`: such a block would keep room for what it borrows, and there is one for each idle relay.
        poll_fn(move |cx| {
            let end = ready!(match self.poll(&registered, cx) {
                Poll::Pending => registered.poll_cut(cx).map(|end| self.cut(end)),
                ended => ended,
            });
            let [up, down] = [Side::Client, Side::Upstream].map(|side| registered.delivered(side).get());
            Poll::Ready(Closed { relay: Arc::clone(&registered), up, down, open_for: registered.age(), end })
        })
    }

    fn poll(&mut self, registered: &Registered, cx: &mut Context<'_>) -> Poll<End> {
        let so_far = || [Side::Client, Side::Upstream].map(|side| registered.delivered(side).get());
        let before = (so_far(), self.first);
        for side in [Side::Client, Side::Upstream] {
            if let Err(end) = self.poll_from(side, registered.delivered(side), cx) {
                return Poll::Ready(end);
            }
        }
        if let Some(end) = self.end() {
            return Poll::Ready(end);
        }
        if self.client_gone.as_ref().is_some_and(|gone| gone.0.poll(cx).is_ready()) {
            self.client_gone = None;
            self.lose(Side::Client, io::ErrorKind::BrokenPipe.into());
            return self.poll(registered, cx);
        }
        let moved = before != (so_far(), self.first);
        self.poll_quiet(moved, cx)
    }

    /// Moves what this side sends, as far as it goes for now.
    fn poll_from(&mut self, side: Side, delivered: &Counter, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            let (from, to) = self.parties(side);
            if from.phase == Phase::Ended {
                return Ok(());
            }
            if to.lost.is_some() {
                // Bytes left unread would turn the close into a reset, which discards what was delivered last.
                if from.sends.poll_discard(&mut from.stream, cx).is_ready() {
                    from.phase = Phase::Ended;
                }
                return Ok(());
            }
            let moved = match from.phase {
                Phase::Open => from.sends.poll(&mut from.stream, &mut to.stream, delivered, cx),
                Phase::Ending | Phase::Ended => Pin::new(&mut to.stream).poll_shutdown(cx).map_err(Broken::Write),
            };
            match moved {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) if from.phase == Phase::Open => self.source_ended(side)?,
                Poll::Ready(Ok(())) => from.phase = Phase::Ended,
                Poll::Ready(Err(Broken::Read(error))) => return Err(self.failed(side, error)),
                Poll::Ready(Err(Broken::Write(error))) => self.write_failed(side.other(), error)?,
            }
        }
    }

    /// All that this side sent is delivered, and no more will come.
    fn source_ended(&mut self, side: Side) -> Result<(), End> {
        let (from, to) = self.parties(side);
        from.phase = Phase::Ending;
        let is_written_to = to.phase != Phase::Ended;
        let is_tls = from.stream.is_tls();
        // A write took the socket's error with it, so that a reset now reads like an end. EPIPE came after an end, and
        // TLS says its own.
        if let Some(error) = from.lost.take_if(|error| !is_tls && error.kind() != io::ErrorKind::BrokenPipe) {
            return Err(self.failed(side, error));
        }
        if is_written_to && from.lost.is_none() {
            if from.stream.is_hung_up() {
                self.lose(side, io::ErrorKind::BrokenPipe.into());
            } else if side == Side::Client {
                // Without a descriptor for it, a later hang-up is noticed by the next write or the half-close timeout.
                let hang_up = Spare::take().and_then(|spare| Some((HangUp::of(&from.stream).ok()?, spare)));
                self.client_gone = hang_up.map(Box::new);
            }
        }
        let (from, to) = self.parties(side);
        let goes_on = is_written_to && from.lost.is_none();
        // A close says no end to TLS, and with bytes unread it is a reset.
        let is_mistaken = || to.stream.is_tls() || is_written_to && to.stream.has_unread();
        if !goes_on && to.lost.is_none() && !is_mistaken() {
            // Nothing is left but to close both, which says the end as well as a shutdown before it would.
            from.phase = Phase::Ended;
        }
        self.first.get_or_insert(side);
        Ok(())
    }

    /// Bytes for this side, or its end, could not be written.
    fn write_failed(&mut self, side: Side, error: io::Error) -> Result<(), End> {
        let is_gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        // Unless the connection is gone altogether there may be no end of what can still be read from it. And if the
        // other side takes nothing any more either, there is nothing left to do.
        if !is_gone || self.party(side.other()).lost.is_some() {
            return Err(self.failed(side, error));
        }
        self.lose(side, error);
        Ok(())
    }

    /// This side takes no more bytes.
    fn lose(&mut self, side: Side, why: io::Error) {
        self.party_mut(side).lost = Some(why);
        self.first.get_or_insert(side);
    }

    /// This side's failure ends the relay.
    fn failed(&mut self, side: Side, error: io::Error) -> End {
        self.party(side.other()).stream.reset_on_drop();
        End::by(side, error)
    }

    /// What ended the relay, if nothing more can be delivered.
    fn end(&mut self) -> Option<End> {
        for side in [Side::Client, Side::Upstream] {
            let first = self.first.unwrap_or(side);
            let party = self.party_mut(side);
            if party.phase != Phase::Ended {
                continue;
            }
            if let Some(error) = party.lost.take() {
                // EPIPE from a Unix socket says that the peer has closed it, and no more than that.
                let is_close = matches!(party.stream, Stream::Unix(_)) && error.kind() == io::ErrorKind::BrokenPipe;
                return Some(if is_close { End::Finished(first) } else { End::by(side, error) });
            }
        }
        let both = self.client.phase == Phase::Ended && self.upstream.phase == Phase::Ended;
        self.first.filter(|_| both).map(End::Finished)
    }

    fn poll_quiet(&mut self, moved: bool, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let is_stalled = self.client.sends.is_stalled() || self.upstream.sends.is_stalled();
            match self.quiet.poll(moved, is_stalled || self.first.is_some(), cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Expired::Idle) => return Poll::Ready(self.cut(End::IdleTimeout)),
                Poll::Ready(Expired::HalfClose) => match self.first.or_else(|| self.hung_up_unread()) {
                    Some(ended) => return Poll::Ready(self.cut(End::HalfCloseTimeout(ended.other()))),
                    None => self.quiet.excuse(),
                },
            }
        }
    }

    /// A side that is gone altogether, which is not noticed while its bytes wait for the other side and it is not read.
    fn hung_up_unread(&self) -> Option<Side> {
        [Side::Client, Side::Upstream].into_iter().find(|side| self.party(*side).stream.is_hung_up())
    }

    /// Ends the relay on both sides, in a way that does not look like an orderly end.
    fn cut(&self, end: End) -> End {
        self.client.stream.reset_on_drop();
        self.upstream.stream.reset_on_drop();
        end
    }

    fn party(&self, side: Side) -> &Party {
        match side {
            Side::Client => &self.client,
            Side::Upstream => &self.upstream,
        }
    }

    fn party_mut(&mut self, side: Side) -> &mut Party {
        self.parties(side).0
    }

    /// This side's, then the other's.
    fn parties(&mut self, side: Side) -> (&mut Party, &mut Party) {
        match side {
            Side::Client => (&mut self.client, &mut self.upstream),
            Side::Upstream => (&mut self.upstream, &mut self.client),
        }
    }
}

impl Party {
    fn new(stream: Stream, sends: Direction) -> Self {
        Self { stream, sends, phase: Phase::Open, lost: None }
    }
}

#[cfg(test)]
mod tests;
