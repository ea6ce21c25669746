//! A relay is moved between copying and splicing, with all pipes, tiny ones or none, while both sides write, read, end
//! and reset, and while it is cut, in any order: no byte is lost, doubled or overtaken, and the counts are right.

use std::future::ready;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

use super::pattern;
use super::peers::{Kind, Peer};
use super::ways::{Supply, force, supply};
use crate::close::{Closed, End, Side};
use crate::relay::Register;
use crate::relay::direction::Way;
use crate::relay::register::testing::facts;

#[derive(Debug, Clone)]
enum Step {
    /// A side writes what goes of so many bytes.
    Write(Side, usize),
    /// A side reads what has come of so many bytes.
    Read(Side, usize),
    /// The relay may run so many times.
    Run(u8),
    Way(Option<Way>),
    Supply(Supply),
    End(Side),
}

/// What comes behind the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Both sides end and all is read.
    Ends,
    Reset(Side),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let side = || prop::sample::select(&[Side::Client, Side::Upstream][..]);
    let ways = &[None, Some(Way::Copy), Some(Way::Splice)][..];
    let supplies = &[Supply::Usual, Supply::Tiny, Supply::None][..];
    prop_oneof![
        4 => (side(), prop_oneof![1usize..3_000, 50_000usize..600_000]).prop_map(|(side, len)| Step::Write(side, len)),
        4 => (side(), prop_oneof![1usize..3_000, 50_000usize..600_000]).prop_map(|(side, len)| Step::Read(side, len)),
        4 => (1u8..12).prop_map(Step::Run),
        3 => prop::sample::select(ways).prop_map(Step::Way),
        2 => prop::sample::select(supplies).prop_map(Step::Supply),
        1 => side().prop_map(Step::End),
    ]
}

fn last() -> impl Strategy<Value = Last> {
    prop_oneof![
        2 => Just(Last::Ends),
        1 => prop::sample::select(&[Side::Client, Side::Upstream][..]).prop_map(Last::Reset),
        1 => Just(Last::Cut),
    ]
}

/// The far end of one side.
struct Far {
    /// Gone once it has reset.
    peer: Option<Peer>,
    written: usize,
    received: Vec<u8>,
    has_ended: bool,
}

impl Far {
    fn new(peer: Peer) -> Self {
        Self { peer: Some(peer), written: 0, received: Vec::new(), has_ended: false }
    }

    async fn write(&mut self, len: usize) {
        let Some(peer) = self.peer.as_mut().filter(|_| !self.has_ended) else { return };
        let bytes: Vec<_> = pattern(self.written + len).split_off(self.written);
        tokio::select! {
            biased;
            written = peer.write(&bytes) => self.written += written.unwrap(),
            () = ready(()) => {}
        }
    }

    async fn read(&mut self, len: usize) {
        let Some(peer) = &mut self.peer else { return };
        let mut bytes = vec![0; len];
        tokio::select! {
            biased;
            read = peer.read(&mut bytes) => self.received.extend(&bytes[..read.unwrap()]),
            () = ready(()) => {}
        }
    }

    async fn end(&mut self) {
        if let Some(peer) = self.peer.as_mut().filter(|_| !self.has_ended) {
            peer.shutdown().await.unwrap();
            self.has_ended = true;
        }
    }

    /// All that still comes, up to an end of any kind.
    async fn read_to_end(&mut self) {
        if let Some(peer) = &mut self.peer {
            // After a reset it fails, with what came before it.
            drop(peer.read_to_end(&mut self.received).await);
        }
    }
}

/// Both far ends after the relay has closed, client first.
async fn play(kind: Kind, steps: &[Step], last: Last) -> ([Far; 2], Closed) {
    force(None);
    supply(Supply::Usual);
    let (client, upstream, relay) = kind.open(b"").await;
    let register = Arc::<Register>::default();
    let relay = tokio::spawn(relay.until_closed(register.enter(facts("node", ""))));
    let mut far = [Far::new(client), Far::new(upstream)];
    for step in steps {
        match *step {
            Step::Write(side, len) => far[place(side)].write(len).await,
            Step::Read(side, len) => far[place(side)].read(len).await,
            Step::End(side) => far[place(side)].end().await,
            Step::Way(way) => force(way),
            Step::Supply(pipes) => supply(pipes),
            Step::Run(times) => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
        }
    }
    let [client, upstream] = &mut far;
    match last {
        Last::Ends => {
            client.end().await;
            upstream.end().await;
        }
        Last::Reset(side) => far[place(side)].peer.take().unwrap().reset(),
        Last::Cut => register.cut_all(),
    }
    let [client, upstream] = &mut far;
    tokio::join!(client.read_to_end(), upstream.read_to_end());
    // A side that has reset has nobody who would end the other one.
    drop(far.each_mut().map(|far| far.peer.take()));
    let closed = relay.await.unwrap();
    (far, closed)
}

fn place(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Upstream => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_byte_is_lost_whatever_the_relay_is_moved_to(
        kind in prop::sample::select(&[Kind::UnixTcp, Kind::TcpTcp][..]),
        steps in prop::collection::vec(step(), 0..60),
        last in last(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ([client, upstream], closed) = runtime.block_on(play(kind, &steps, last));
        for (writer, reader, delivered) in [(&client, &upstream, closed.up), (&upstream, &client, closed.down)] {
            prop_assert!(pattern(writer.written).starts_with(&reader.received));
            prop_assert!(reader.received.len() as u64 <= delivered && delivered <= writer.written as u64);
        }
        if kind.client_is_unix() && last != Last::Reset(Side::Client) {
            // However it ends: what a Unix socket has taken stays there to be read.
            prop_assert_eq!(client.received.len() as u64, closed.down);
        }
        if last == Last::Ends {
            prop_assert_eq!((closed.up, closed.down), (client.written as u64, upstream.written as u64));
            prop_assert_eq!((upstream.received.len(), client.received.len()), (client.written, upstream.written));
            prop_assert!(matches!(closed.end, End::Finished(_)), "{:?}", closed.end);
        }
    }
}
