//! What a relay splices, and what splice(2) does with what is no plain byte.

use std::io::{IoSlice, pipe};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send as send_now, sendmsg};
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;

use super::peers::{Kind, Peer};
use super::ways::{ALL_PIPES, Supply, every_way, supply};
use super::{expect, expect_end, pattern, send};
use crate::close::Side;
use crate::relay::register::testing::registered;
use crate::relay::{Registered, Relay};

/// Runs a relay until neither it nor the peer that sends gets any further; gives what was sent.
async fn fill(relay: &mut Relay, entry: &Registered, writer: &mut Peer, part: &[u8]) -> usize {
    let mut sent = 0;
    let mut idle = 0;
    while idle < 64 {
        tokio::select! {
            biased;
            written = writer.write(&part[sent % 251..]) => {
                sent += written.unwrap();
                idle = 0;
            }
            () = run(relay, entry) => idle += 1,
        }
    }
    sent
}

/// Lets a relay run for a while.
async fn run(relay: &mut Relay, entry: &Registered) {
    tokio::select! {
        biased;
        end = std::future::poll_fn(|cx| relay.poll(entry, cx)) => panic!("{end:?}"),
        () = yield_now() => {}
    }
}

#[tokio::test]
async fn a_relay_has_a_pipe_while_much_is_on_its_way_from_tcp() {
    let _alone = ALL_PIPES.lock().await;
    let part = pattern(251 * 1024);
    for (kind, pipes) in [
        (Kind::UnixTcp, Supply::Usual),
        (Kind::UnixTcp, Supply::None),
        (Kind::TcpTcp, Supply::Usual),
        (Kind::TcpTcp, Supply::None),
    ] {
        supply(pipes);
        let (mut client, mut upstream, mut relay) = kind.open(b"").await;
        let entry = registered();
        send(&mut upstream, b"little").await;
        while entry.delivered(Side::Upstream).get() < 6 {
            run(&mut relay, &entry).await;
        }
        let sent = fill(&mut relay, &entry, &mut upstream, &part).await;
        assert!(relay.upstream.sends.is_stalled());
        let splices = pipes == Supply::Usual;
        assert_eq!(relay.upstream.sends.has_pipe(), splices, "{kind:?}, {pipes:?}");
        tokio::select! {
            () = async { loop { run(&mut relay, &entry).await } } => {}
            () = async {
                expect(&mut client, b"little").await;
                expect(&mut client, &pattern(sent)).await;
            } => {}
        }
        run(&mut relay, &entry).await;
        assert!(!relay.upstream.sends.is_stalled(), "{kind:?}, {pipes:?}");
    }
}

#[tokio::test]
async fn a_relay_has_a_large_buffer_while_much_is_on_its_way_out_of_tls() {
    let part = pattern(251 * 1024);
    for kind in [Kind::UnixTls, Kind::TcpTls] {
        let (mut client, mut upstream, mut relay) = kind.open(b"").await;
        let entry = registered();
        let sent = fill(&mut relay, &entry, &mut upstream, &part).await;
        assert!(relay.upstream.sends.has_large_buffer(), "{kind:?}, after {sent} bytes");
        let bytes = pattern(sent);
        tokio::select! {
            () = async { loop { run(&mut relay, &entry).await } } => {}
            // TLS has taken more than it has sent.
            (flushed, ()) = async { tokio::join!(upstream.flush(), expect(&mut client, &bytes)) } => flushed.unwrap(),
        }
    }
}

#[tokio::test]
async fn descriptors_that_a_client_sends_are_closed_and_its_bytes_arrive() {
    for kind in every_way([Kind::UnixTcp]) {
        let (client, mut upstream, relay) = kind.connect().await;
        let Peer::Plain(client) = client else { panic!("{kind:?}") };
        let (reader, writer) = pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [reader.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        for bytes in [&b"with"[..], b" and ", b"with"] {
            let with = if bytes == b"with" { &mut control } else { &mut SendAncillaryBuffer::default() };
            sendmsg(&client, &[IoSlice::new(bytes)], with, SendFlags::empty()).unwrap();
        }
        expect(&mut upstream, b"with and with").await;
        drop(reader);
        let mut left = [PollFd::new(&writer, PollFlags::empty())];
        poll(&mut left, None).unwrap();
        assert_eq!(left[0].revents(), PollFlags::ERR, "{kind:?}: nobody has the reader any more");
        drop(client);
        expect_end(&mut upstream).await;
        drop(upstream);
        assert_eq!(relay.await.unwrap().up, 13);
    }
}

#[tokio::test]
async fn urgent_data_stalls_nothing() {
    for kind in every_way([Kind::TcpTcp, Kind::UnixTcp]) {
        let (mut client, mut upstream, _relay) = kind.connect().await;
        for _ in 0..3 {
            send(&mut client, b"before").await;
            let Peer::Plain(stream) = &client else { panic!("{kind:?}") };
            assert_eq!(send_now(stream, b"!", SendFlags::OOB).unwrap(), 1);
            send(&mut client, b"behind").await;
            // As with a copy, the urgent byte itself is not among the others.
            expect(&mut upstream, b"beforebehind").await;
        }
    }
}
