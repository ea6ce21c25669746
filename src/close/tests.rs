//! What each outcome is told as, and failed attempts for the tests of every room.

use super::*;
use crate::route::{Host, Reach, Route, Upstream, testing};

/// A failed attempt of 12 ms for a route with this pattern.
pub(crate) fn attempt(pattern: &str, address: &str, stage: Stage, error: DialError) -> Attempt {
    let upstreams = [Upstream { host: Host::Name("h".into()), port: 1 }].into();
    let route = testing::row(Route { reach: Reach::Static(upstreams), ..testing::route(pattern, 100) });
    Attempt { course: route.into(), address: address.into(), stage, error, took: Duration::from_millis(12) }
}

#[test]
fn the_table_of_outcomes() {
    let failed = |stage, error| Refused::AllFailed(vec![attempt("x", "h:1", stage, error)]);
    let text = || "why".to_owned();
    let (bad, handoff) = (Refused::BadHead, Refused::NoHandoff);
    for (refused, status, code, proxy_status, socks5) in [
        (Refused::NoRoute, 404, "no_route", "destination_not_found", 4),
        (Refused::Busy, 503, "busy", "connection_limit_reached", 1),
        (Refused::Draining, 503, "draining", "connection_limit_reached", 1),
        (Refused::NoLease(NoLease::Full(3)), 503, "busy", "connection_limit_reached", 1),
        (Refused::NoLease(NoLease::FullForUser(1000, 3)), 503, "busy", "connection_limit_reached", 1),
        (Refused::NoLease(NoLease::Draining), 503, "draining", "connection_limit_reached", 1),
        (Refused::NoLease(NoLease::System(text())), 503, "busy", "proxy_internal_error", 1),
        (Refused::ClientGone, 499, "client_gone", "http_request_error", 1),
        (Refused::AllFailed(vec![]), 504, "all_failed", "connection_timeout", 4),
        (failed(Stage::Limit, DialError::Full(5)), 503, "all_failed", "connection_limit_reached", 1),
        (failed(Stage::Dns, DialError::NameNotFound), 502, "all_failed", "dns_error", 1),
        (failed(Stage::Dns, DialError::NameLookup(text())), 502, "all_failed", "dns_error", 1),
        (failed(Stage::Dns, DialError::TimedOut), 504, "all_failed", "dns_timeout", 4),
        (failed(Stage::Tcp, DialError::Refused), 502, "all_failed", "connection_refused", 5),
        (failed(Stage::Tcp, DialError::Loop), 502, "all_failed", "proxy_loop_detected", 1),
        (failed(Stage::Tcp, DialError::Unreachable("no route")), 502, "all_failed", "destination_ip_unroutable", 3),
        (failed(Stage::Tcp, DialError::TimedOut), 504, "all_failed", "connection_timeout", 4),
        (failed(Stage::Tls, DialError::TimedOut), 504, "all_failed", "connection_timeout", 4),
        (failed(Stage::Tls, DialError::Terminated), 502, "all_failed", "connection_terminated", 1),
        (failed(Stage::Tls, DialError::Certificate(text())), 502, "all_failed", "tls_certificate_error", 1),
        (failed(Stage::Tls, DialError::Alert(text())), 502, "all_failed", "tls_alert_received", 1),
        (failed(Stage::Tls, DialError::Tls(text())), 502, "all_failed", "tls_protocol_error", 1),
        (failed(Stage::Tcp, DialError::Local(text())), 503, "all_failed", "proxy_internal_error", 1),
        (bad(BadHead::Malformed(text())), 400, "bad_request", "http_request_error", 1),
        (bad(BadHead::BytesBehind), 400, "bad_request", "http_request_error", 1),
        (
            handoff(NoHandoff::Tls(attempt("x", "", Stage::Tls, DialError::TimedOut).course)),
            409,
            "no_handoff",
            "http_request_denied",
            1,
        ),
        (handoff(NoHandoff::NotUnix), 409, "no_handoff", "http_request_denied", 1),
        (handoff(NoHandoff::System(text())), 503, "no_handoff", "proxy_internal_error", 1),
        (bad(BadHead::Truncated), 400, "bad_request", "http_request_error", 1),
        (bad(BadHead::TooSlow), 408, "bad_request", "http_request_error", 1),
        (bad(BadHead::TooLarge), 431, "bad_request", "http_request_error", 1),
        (bad(BadHead::TooManyHeaderLines), 431, "bad_request", "http_request_error", 1),
        (bad(BadHead::SocksCommand(2)), 400, "bad_request", "http_request_error", 7),
        (bad(BadHead::SocksAddressType(2)), 400, "bad_request", "http_request_error", 8),
        (bad(BadHead::SocksMethod), 400, "bad_request", "http_request_error", 0xff),
    ] {
        assert_eq!(refused.outcome(), Outcome { status, code, proxy_status, socks5 }, "{refused}");
    }
}

#[test]
fn the_last_attempt_decides_and_all_are_told() {
    let refused = Refused::AllFailed(vec![
        attempt("x", "10.0.1.50:4370", Stage::Tcp, DialError::Refused),
        attempt("x", "10.0.1.51:4370", Stage::Tls, DialError::TimedOut),
    ]);
    assert_eq!(refused.outcome().status, 504);
    assert_eq!(
        refused.to_string(),
        "every attempt failed: 10.0.1.50:4370, tcp: connection refused (12 ms); 10.0.1.51:4370, tls: timed out (12 ms)"
    );
    assert_eq!(refused.detail(), "all 2 attempts failed, the last: 10.0.1.51:4370, tls: timed out");
}

#[test]
fn a_refusal_says_what_to_do() {
    assert_eq!(
        Refused::NoRoute.detail(),
        "no route matches the node; `portolan lookup NAME` shows what the table has for a name"
    );
    assert_eq!(
        Refused::BadHead(BadHead::TooLarge).detail(),
        "this is not a request: the head is longer than 8192 bytes"
    );
    let tls = attempt("^db@", "", Stage::Tls, DialError::TimedOut).course;
    assert_eq!(
        Refused::NoHandoff(NoHandoff::Tls(tls)).detail(),
        "hand-off needs a plain TCP upstream; route \"^db@\" has TLS: ask without handoff=1"
    );
    assert_eq!(Refused::AllFailed(vec![]).detail(), "the time was over before anything could be dialed");
}
