//! What a relay does, over every kind of stream.

mod bulk;
mod ends;
mod interleavings;
mod peers;
mod schedules;
pub(super) mod ways;

use std::io::ErrorKind;
use std::task::Waker;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::register::testing::{facts, registered};
use super::*;
use peers::{KINDS, Kind, Peer};
use ways::every_way;

const MINUTE: Duration = Duration::from_secs(60);

/// Bytes that differ from one place to the next, with a period that no buffer size divides.
fn pattern(len: usize) -> Vec<u8> {
    (0u8..251).cycle().take(len).collect()
}

async fn expect(peer: &mut Peer, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    peer.read_exact(&mut read).await.unwrap();
    assert!(read == bytes);
}

async fn expect_end(peer: &mut Peer) {
    assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
}

/// Sends at once, whatever the peer buffers.
async fn send(peer: &mut Peer, bytes: &[u8]) {
    peer.write_all(bytes).await.unwrap();
    peer.flush().await.unwrap();
}

/// What can be read, and whether it ended in order.
async fn read_all(peer: &mut Peer) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    match peer.read_to_end(&mut read).await {
        Ok(_) => (read, true),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            (read, false)
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.connect().await;
        send(&mut client, b"ping").await;
        expect(&mut upstream, b"ping").await;
        send(&mut upstream, b"pong!").await;
        expect(&mut client, b"pong!").await;
        client.shutdown().await.unwrap();
        expect_end(&mut upstream).await;
        upstream.shutdown().await.unwrap();
        expect_end(&mut client).await;
        let closed = relay.await.unwrap();
        assert_eq!((closed.up, closed.down), (4, 5), "{kind:?}");
        assert!(matches!(closed.end, End::Finished(Side::Client)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test]
async fn the_tail_goes_first() {
    for kind in every_way(KINDS) {
        let tail = pattern(300_000);
        let (mut client, mut upstream, relay) = kind.open(&tail).await;
        let relay = tokio::spawn(relay.until_closed(registered()));
        send(&mut client, b"more").await;
        client.shutdown().await.unwrap();
        expect(&mut upstream, &tail).await;
        expect(&mut upstream, b"more").await;
        expect_end(&mut upstream).await;
        upstream.shutdown().await.unwrap();
        assert_eq!(relay.await.unwrap().up, 300_004, "{kind:?}");
    }
}

#[tokio::test]
async fn what_a_client_has_said_already_goes_on_before_the_runtime_hears_of_it() {
    for kind in [Kind::UnixTcp, Kind::TcpTcp] {
        let (mut client, mut upstream, mut relay) = kind.open(b"").await;
        send(&mut client, b"ping").await;
        let registered = registered();
        // Nothing has been awaited since it was written, so that no event has told of it.
        assert!(relay.poll(&registered, &mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(registered.delivered(Side::Client).get(), 4, "{kind:?}");
        expect(&mut upstream, b"ping").await;
    }
}

#[tokio::test]
async fn an_upstream_that_has_ended_still_reads() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.connect().await;
        upstream.shutdown().await.unwrap();
        expect_end(&mut client).await;
        let bytes = pattern(100_000);
        let write = async {
            send(&mut client, &bytes).await;
            client.shutdown().await.unwrap();
        };
        tokio::join!(write, async {
            expect(&mut upstream, &bytes).await;
            expect_end(&mut upstream).await;
        });
        let closed = relay.await.unwrap();
        assert_eq!((closed.up, closed.down), (100_000, 0));
        assert!(matches!(closed.end, End::Finished(Side::Upstream)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    for kind in every_way(KINDS) {
        let (client, upstream, relay) = kind.connect().await;
        let bytes = pattern(251 * 4096);
        let rounds = 32;
        let drive = async |peer: Peer| {
            let (mut read, mut write) = tokio::io::split(peer);
            let send = async {
                for _ in 0..rounds {
                    write.write_all(&bytes).await.unwrap();
                }
                write.shutdown().await.unwrap();
            };
            let check = async {
                let mut part = vec![0; bytes.len()];
                for _ in 0..rounds {
                    read.read_exact(&mut part).await.unwrap();
                    assert!(part == bytes);
                }
                assert_eq!(read.read(&mut part).await.unwrap(), 0);
            };
            tokio::join!(send, check);
        };
        tokio::join!(drive(client), drive(upstream));
        let closed = relay.await.unwrap();
        let all = (rounds * bytes.len()) as u64;
        assert_eq!((closed.up, closed.down), (all, all), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_stalls_the_other() {
    for kind in every_way(KINDS) {
        let (mut writer, mut reader, relay) = kind.connect().await;
        let part = pattern(251 * 256);
        let mut written = 0;
        // The clock is paused: a minute is over as soon as nothing moves.
        while let Ok(n) = tokio::time::timeout(MINUTE, writer.write(&part[written % 251..])).await {
            written += n.unwrap();
        }
        assert!(written < 32 << 20, "{kind:?}: {written} bytes are on their way");
        let finish = async { writer.shutdown().await.unwrap() };
        tokio::join!(finish, async {
            expect(&mut reader, &pattern(written)).await;
            expect_end(&mut reader).await;
        });
        reader.shutdown().await.unwrap();
        assert_eq!(relay.await.unwrap().up, written as u64);
    }
}

#[tokio::test]
async fn a_poll_moves_no_more_than_its_share() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, mut relay) = kind.open(b"").await;
        let bytes = pattern(8 << 20);
        let mut most = 0;
        let registered = registered();
        let down = registered.delivered(Side::Upstream);
        let relay = poll_fn(|cx| {
            let before = down.get();
            let end = relay.poll(&registered, cx);
            most = most.max(down.get() - before);
            end
        });
        let send = async {
            send(&mut upstream, &bytes).await;
            upstream.shutdown().await.unwrap();
        };
        let receive = async {
            client.shutdown().await.unwrap();
            expect(&mut client, &bytes).await;
        };
        tokio::join!(relay, send, receive);
        // Four full buffers, or nearly four and one more. A pipe's content counts little, what was left and one more, and
        // so does that of a large buffer.
        let more = if kind.may_splice() || kind.upstream_is_tls() { 2 << 20 } else { 0 };
        assert!(most < 5 * 65_536 + more, "{kind:?}: {most} bytes in one poll");
    }
}

#[tokio::test]
async fn an_idle_relay_is_small_and_holds_no_buffer() {
    // The thread may have run other tests; this one needs one buffer at a time.
    let kept = crate::buffer::tests::kept().max(1);
    let (mut client, mut upstream, relay) = Kind::UnixTcp.open(b"tail").await;
    let relay = relay.until_closed(registered());
    let mut relay = std::pin::pin!(relay);
    tokio::select! {
        _ = &mut relay => panic!("it has ended"),
        () = async {
            expect(&mut upstream, b"tail").await;
            send(&mut client, b"ping").await;
            expect(&mut upstream, b"ping").await;
            send(&mut upstream, b"pong").await;
            expect(&mut client, b"pong").await;
        } => {}
    }
    assert_eq!(crate::buffer::tests::kept(), kept);
}

#[test]
fn the_task_of_an_idle_relay_takes_three_cache_line_pairs() {
    fn size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }
    // tokio adds 112 bytes and rounds up to a multiple of 128: beyond 384 the next byte costs as much as 128 do. A
    // socket is 8 bytes larger with debug assertions.
    let sockets = if cfg!(debug_assertions) { 16 } else { 0 };
    let size = size(crate::serve::serve);
    assert!(size <= 384 - 112 + sockets, "{size}");
}
