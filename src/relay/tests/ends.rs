//! How a relay ends: what each side's end, reset or silence does to the other.

use super::*;

#[tokio::test]
async fn a_client_that_resets_resets_the_upstream() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.connect().await;
        // A Unix socket that is closed before all is read counts as reset.
        send(&mut upstream, b"unread").await;
        expect(&mut client, b"un").await;
        client.reset();
        let (_, in_order) = read_all(&mut upstream).await;
        assert!(!in_order, "{kind:?}");
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::Reset(Side::Client)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test]
async fn an_upstream_that_resets_resets_the_client() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.connect().await;
        send(&mut upstream, b"part").await;
        expect(&mut client, b"part").await;
        upstream.reset();
        assert_eq!(read_all(&mut client).await, (Vec::new(), kind.client_is_unix()), "{kind:?}");
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::Reset(Side::Upstream)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test]
async fn tls_that_ends_without_notice_is_a_reset() {
    for kind in [Kind::UnixTls, Kind::TcpTls] {
        let (mut client, mut upstream, relay) = kind.connect().await;
        send(&mut upstream, b"part").await;
        expect(&mut client, b"part").await;
        upstream.end_without_notice();
        assert_eq!(read_all(&mut client).await, (Vec::new(), kind.client_is_unix()), "{kind:?}");
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::Reset(Side::Upstream)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test]
async fn a_complete_answer_outlives_the_reset_behind_it() {
    for (kind, request) in every_way(KINDS).flat_map(|kind| [(kind, 0), (kind, 100_000)]) {
        let (mut client, mut upstream, relay) = kind.open(&pattern(request)).await;
        send(&mut upstream, b"answer").await;
        upstream.shutdown().await.unwrap();
        upstream.reset();
        let closed = relay.until_closed(registered()).await;
        assert_eq!(read_all(&mut client).await, (b"answer".to_vec(), true), "{kind:?}");
        assert!(matches!(closed.end, End::Reset(Side::Upstream)), "{kind:?}: {:?}", closed.end);
        assert_eq!(closed.down, 6);
    }
}

#[tokio::test]
async fn a_cut_answer_does_not_look_complete_because_a_write_failed_first() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.open(b"request").await;
        send(&mut upstream, b"answ").await;
        upstream.reset();
        let closed = relay.until_closed(registered()).await;
        let (read, in_order) = read_all(&mut client).await;
        assert!(b"answ".starts_with(&read), "{kind:?}");
        assert_eq!(in_order, kind.client_is_unix(), "{kind:?}");
        assert!(matches!(closed.end, End::Reset(Side::Upstream)), "{kind:?}: {:?}", closed.end);
        assert_eq!((closed.up, closed.down), (0, 4));
    }
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_relay_after_its_last_byte() {
    for kind in every_way([Kind::UnixTcp, Kind::UnixTls]) {
        let (mut client, mut upstream, relay) = kind.connect().await;
        let bytes = pattern(100_000);
        tokio::join!(
            async {
                send(&mut client, &bytes).await;
                drop(client);
            },
            expect(&mut upstream, &bytes)
        );
        expect_end(&mut upstream).await;
        let closed = relay.await.unwrap();
        assert_eq!(closed.up, 100_000);
        assert!(matches!(closed.end, End::Finished(Side::Client)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test]
async fn what_a_client_wrote_before_it_left_is_delivered_though_nothing_can_be_written_back() {
    for kind in every_way([Kind::UnixTcp, Kind::UnixTls]) {
        let (mut client, mut upstream, relay) = kind.open(b"").await;
        send(&mut client, b"goodbye").await;
        drop(client);
        send(&mut upstream, b"welcome").await;
        let closed = relay.until_closed(registered()).await;
        assert_eq!(read_all(&mut upstream).await, (b"goodbye".to_vec(), true), "{kind:?}");
        assert!(matches!(closed.end, End::Finished(Side::Client)), "{kind:?}: {:?}", closed.end);
        assert_eq!((closed.up, closed.down), (7, 0));
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_midst_of_an_answer_has_ended_in_order() {
    for kind in every_way([Kind::UnixTcp, Kind::UnixTls]) {
        let (mut client, mut upstream, relay) = kind.open(b"").await;
        send(&mut client, b"goodbye").await;
        drop(client);
        // More than a poll takes, and so some of it is unread when the relay is closed.
        let answer = pattern(1 << 20);
        tokio::select! {
            biased;
            _ = upstream.write_all(&answer) => {}
            () = std::future::ready(()) => {}
        }
        relay.until_closed(registered()).await;
        let mut said = Vec::new();
        let ended = upstream.read_to_end(&mut said).await.map_err(|error| error.kind());
        assert_eq!((said, ended), (b"goodbye".to_vec(), Ok(7)), "{kind:?}");
    }
}

#[tokio::test]
async fn a_hang_up_after_a_half_close_ends_the_relay() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.connect().await;
        client.shutdown().await.unwrap();
        expect_end(&mut upstream).await;
        client.reset();
        let closed = relay.await.unwrap();
        match (kind.client_is_unix(), &closed.end) {
            (true, End::Finished(Side::Client)) | (false, End::Reset(Side::Client)) => {}
            (_, end) => panic!("{kind:?}: {end:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_relay_ends_when_the_other_side_is_silent() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.open(b"").await;
        let relay = relay.timeouts(Timeouts { half_close: Some(5 * MINUTE), idle: None });
        let relay = tokio::spawn(relay.until_closed(registered()));
        upstream.shutdown().await.unwrap();
        expect_end(&mut client).await;
        tokio::time::advance(4 * MINUTE).await;
        send(&mut client, b"!").await;
        expect(&mut upstream, b"!").await;
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::HalfCloseTimeout(Side::Client)), "{kind:?}: {:?}", closed.end);
        assert_eq!(closed.open_for.as_secs() / 60, 9);
        assert!(!read_all(&mut upstream).await.1);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_a_client_left_do_not_wait_for_ever() {
    for kind in every_way([Kind::UnixTcp, Kind::UnixTls]) {
        let (mut client, _upstream, relay) = kind.open(b"").await;
        let relay = relay.timeouts(Timeouts { half_close: Some(5 * MINUTE), idle: None });
        let relay = tokio::spawn(relay.until_closed(registered()));
        let bytes = pattern(1 << 16);
        // A client that is only slow is left alone.
        while tokio::time::timeout(60 * MINUTE, client.write_all(&bytes)).await.is_ok() {}
        assert!(!relay.is_finished());
        drop(client);
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::HalfCloseTimeout(Side::Upstream)), "{kind:?}: {:?}", closed.end);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_ends_by_a_reset() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.open(b"hello").await;
        let relay = relay.timeouts(Timeouts { half_close: None, idle: Some(MINUTE) });
        let relay = tokio::spawn(relay.until_closed(registered()));
        expect(&mut upstream, b"hello").await;
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::IdleTimeout), "{kind:?}: {:?}", closed.end);
        assert_eq!(read_all(&mut client).await.1, kind.client_is_unix());
        assert!(!read_all(&mut upstream).await.1);
    }
}

#[tokio::test]
async fn a_relay_that_is_cut_off_ends_by_a_reset() {
    for kind in every_way(KINDS) {
        let (mut client, mut upstream, relay) = kind.open(b"hello").await;
        let register = Arc::<Register>::default();
        let relay = tokio::spawn(relay.until_closed(register.enter(facts("node", ""))));
        expect(&mut upstream, b"hello").await;
        register.cut_all();
        let closed = relay.await.unwrap();
        assert!(matches!(closed.end, End::Drained), "{kind:?}: {:?}", closed.end);
        assert_eq!(read_all(&mut client).await.1, kind.client_is_unix());
        assert!(!read_all(&mut upstream).await.1);
    }
}
