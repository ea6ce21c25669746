//! HTTP/1.1 heads: `GET /v1/connect/NODE` with an upgrade, `CONNECT NODE`, and `POST /v1/forwards`.
//!
//! The reading is strict where two readers could disagree (Host, bodies, percent signs, a second `/`) and lenient where
//! nothing hangs on it (HTTP/1.0 for CONNECT, LF for CR LF, UTF-8 that is not percent-encoded).

use std::time::Duration;

use httparse::Status;
use percent_encoding::percent_decode_str;

use super::headers::Headers;
use super::{
    BadHead, CONNECT_PATH, ConnectRequest, Form, LEASE_PATH, MAX_DEADLINE, MAX_HEADER_LINES, UPGRADE_PROTOCOL,
};
use crate::node::NodeName;

/// What a head asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// To be connected.
    Connect(ConnectRequest),
    /// For a lease, by a body with this Content-Length.
    Lease(Vec<u8>),
}

/// Reads a head that ends with its empty line.
pub(super) fn parse(head: &[u8]) -> Result<Head, BadHead> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADER_LINES];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(head) {
        Ok(Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return malformed("an empty line stands inside the HTTP head"),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyHeaderLines),
        Err(error) => return malformed(format!("this is not an HTTP/1.1 head: {error}")),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return malformed("the HTTP head has no request line");
    };
    let headers = Headers::of(request.headers);
    headers.check_host(minor)?;
    if method == "POST" && target == LEASE_PATH {
        return headers.length().map(Head::Lease);
    }
    headers.check_no_body()?;
    match method {
        "GET" => upgrade(target, minor, &headers).map(Head::Connect),
        "CONNECT" => connect(target).map(Head::Connect),
        _ => malformed(format!("the method {} is not served here; {SERVED_HERE}", shown(method))),
    }
}

const SERVED_HERE: &str = "ask with GET /v1/connect/NODE and `Upgrade: portolan-tunnel`, or with CONNECT NODE; for a forward \
                           of your own with POST /v1/forwards";

/// The canonical form. The node is the rest of the path, percent-decoded; a `/` inside it is written `%2F`.
fn upgrade(target: &str, minor: u8, headers: &Headers<'_>) -> Result<ConnectRequest, BadHead> {
    if !target.starts_with('/') {
        return malformed(format!("the request target {} is not a path; {SERVED_HERE}", shown(target)));
    }
    let Some(rest) = target.strip_prefix(CONNECT_PATH) else {
        return malformed(format!("the path {} is not served here; {SERVED_HERE}", shown(target)));
    };
    if minor == 0 {
        return malformed("an upgrade needs HTTP/1.1 (RFC 9110, section 7.8)");
    }
    if !headers.has_token("connection", "upgrade") || !headers.has_token("upgrade", UPGRADE_PROTOCOL) {
        return malformed(format!(
            "GET {CONNECT_PATH}NODE needs the header lines `Connection: Upgrade` and `Upgrade: {UPGRADE_PROTOCOL}`"
        ));
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.contains(['/', '#']) {
        return malformed("a `/` or `#` in the node's name must be written %2F or %23");
    }
    let Query { deadline, handoff } = Query::parse(query)?;
    let handoff = handoff.unwrap_or(false);
    Ok(ConnectRequest {
        node: node(&percent_decoded(path)?)?,
        form: Form::Upgrade,
        deadline,
        handoff,
        tail: Vec::new(),
    })
}

/// The lenient form: nothing is percent-decoded, and the port that HTTP wants is dropped.
fn connect(target: &str) -> Result<ConnectRequest, BadHead> {
    let node = node(without_port(target).as_bytes())?;
    Ok(ConnectRequest { node, form: Form::Connect, deadline: None, handoff: false, tail: Vec::new() })
}

/// `:digits` at the end is dropped if no other unbracketed colon stands before it: `fd00::1` keeps its last group,
/// `[fd00::1]:4370` loses its port.
fn without_port(target: &str) -> &str {
    let Some((name, port)) = target.rsplit_once(':') else { return target };
    let mut bracketed = false;
    let other_colon = name.bytes().any(|byte| {
        match byte {
            b'[' => bracketed = true,
            b']' => bracketed = false,
            _ => {}
        }
        byte == b':' && !bracketed
    });
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port && !other_colon && !bracketed { name } else { target }
}

/// The keys of the query; each at most once.
#[derive(Debug, Default)]
struct Query {
    deadline: Option<Duration>,
    handoff: Option<bool>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, BadHead> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let twice = match key {
                "deadline" => read.deadline.replace(duration(value)?).is_some(),
                "handoff" => read.handoff.replace(switch(key, value)?).is_some(),
                _ => {
                    let key = shown(key);
                    return malformed(format!("the key {key} in the query is unknown; there are deadline and handoff"));
                }
            };
            if twice {
                return malformed(format!("the key {key} stands twice in the query"));
            }
        }
        Ok(read)
    }
}

fn switch(key: &str, value: &str) -> Result<bool, BadHead> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => malformed(format!("the value {} of the key {key} is neither 0 nor 1", shown(value))),
    }
}

fn duration(value: &str) -> Result<Duration, BadHead> {
    let text = String::from_utf8_lossy(&percent_decoded(value)?).into_owned();
    match humantime::parse_duration(&text) {
        Ok(duration) if duration > Duration::ZERO && duration <= MAX_DEADLINE => Ok(duration),
        _ => malformed(format!(
            "the deadline {} is not a duration such as 2s or 1500ms, more than 0 and at most 1h",
            shown(&text)
        )),
    }
}

/// Every `%` must begin two hexadecimal digits; a `+` is a plus.
pub(crate) fn percent_decoded(text: &str) -> Result<Vec<u8>, BadHead> {
    let complete = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(complete) {
        return malformed(format!("a % in {} does not begin two hexadecimal digits", shown(text)));
    }
    Ok(percent_decode_str(text).collect())
}

fn node(name: &[u8]) -> Result<NodeName, BadHead> {
    NodeName::from_bytes(name).map_err(|bad| BadHead::Malformed(bad.to_string()))
}

/// What a client wrote, for a message about it: quoted, and not longer than a line.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

pub(super) fn malformed<T>(why: impl Into<String>) -> Result<T, BadHead> {
    Err(BadHead::Malformed(why.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(head: &[u8]) -> Result<ConnectRequest, BadHead> {
        super::parse(head).map(|head| match head {
            Head::Connect(request) => request,
            Head::Lease(_) => panic!("no request for a connection"),
        })
    }

    fn get(target: &str) -> Result<ConnectRequest, BadHead> {
        parse(
            format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n")
                .as_bytes(),
        )
    }

    fn node_of(target: &str) -> String {
        get(target).unwrap().node.to_string()
    }

    fn error(target: &str) -> String {
        get(target).unwrap_err().to_string()
    }

    fn head(lines: &[&str]) -> Result<ConnectRequest, BadHead> {
        parse(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    fn head_error(lines: &[&str]) -> String {
        head(lines).unwrap_err().to_string()
    }

    const GET: &str = "GET /v1/connect/a@b HTTP/1.1";

    #[test]
    fn the_node_is_the_decoded_rest_of_the_path() {
        assert_eq!(node_of("/v1/connect/prod-db@10.0.1.50"), "prod-db@10.0.1.50");
        assert_eq!(node_of("/v1/connect/a%2Fb%3f%20%25@c+d"), "a/b? %@c+d");
        assert_eq!(node_of("/v1/connect/%D0%BC@b"), "м@b");
        assert_eq!(node_of("/v1/connect/м@b"), "м@b");
        assert_eq!(node_of("/v1/connect/a:1"), "a:1");
        assert_eq!(node_of("/v1/connect/a?"), "a");
    }

    #[test]
    fn names_that_two_readers_would_read_differently_are_refused() {
        let escape = "a `/` or `#` in the node's name must be written %2F or %23";
        assert_eq!(error("/v1/connect/a/b"), escape);
        assert_eq!(error("/v1/connect/a/"), escape);
        assert_eq!(error("/v1/connect/a#b"), escape);
        assert_eq!(error("/v1/connect/a%4"), r#"a % in "a%4" does not begin two hexadecimal digits"#);
        assert_eq!(error("/v1/connect/a%zz"), r#"a % in "a%zz" does not begin two hexadecimal digits"#);
        assert_eq!(error("/v1/connect/a%%41"), r#"a % in "a%%41" does not begin two hexadecimal digits"#);
        assert_eq!(error("/v1/connect/"), "the node name is empty");
        assert_eq!(error("/v1/connect/a%00"), "the node name has the control character U+0000");
        assert_eq!(error("/v1/connect/%ff"), "the node name is not UTF-8");
    }

    #[test]
    fn other_targets_and_methods_say_what_is_served() {
        let served = "ask with GET /v1/connect/NODE and `Upgrade: portolan-tunnel`, or with CONNECT NODE; for a forward of \
                      your own with POST /v1/forwards";
        assert_eq!(error("/"), format!(r#"the path "/" is not served here; {served}"#));
        assert_eq!(
            error("http://x/v1/connect/a"),
            format!(r#"the request target "http://x/v1/connect/a" is not a path; {served}"#)
        );
        assert_eq!(
            head_error(&["POST /v1/connect/a HTTP/1.1", "Host: x"]),
            format!(r#"the method "POST" is not served here; {served}"#)
        );
        assert_eq!(head_error(&["PRI * HTTP/2.0"]), "this is not an HTTP/1.1 head: invalid HTTP version");
    }

    #[test]
    fn the_query_holds_a_deadline_a_handoff_and_nothing_else() {
        assert_eq!(get("/v1/connect/a?deadline=2s").unwrap().deadline, Some(Duration::from_secs(2)));
        assert_eq!(get("/v1/connect/a?deadline=1m%2030s").unwrap().deadline, Some(Duration::from_secs(90)));
        assert_eq!(get("/v1/connect/a?deadline=1h").unwrap().deadline, Some(MAX_DEADLINE));
        assert_eq!(get("/v1/connect/a").unwrap().deadline, None);
        for bad in ["", "0s", "2", "-1s", "61m", "99999999999999999999y", "%ff"] {
            let text = error(&format!("/v1/connect/a?deadline={bad}"));
            assert!(text.ends_with("is not a duration such as 2s or 1500ms, more than 0 and at most 1h"), "{text}");
        }
        assert_eq!(error("/v1/connect/a?deadline=1s&deadline=1s"), "the key deadline stands twice in the query");
        for (query, handoff) in
            [("", false), ("handoff=0", false), ("handoff=1", true), ("deadline=1s&handoff=1", true)]
        {
            assert_eq!(get(&format!("/v1/connect/a?{query}")).unwrap().handoff, handoff, "{query}");
        }
        for bad in ["", "true", "01", "%31"] {
            let told = format!("the value {bad:?} of the key handoff is neither 0 nor 1");
            assert_eq!(error(&format!("/v1/connect/a?handoff={bad}")), told);
        }
        assert_eq!(error("/v1/connect/a?handoff=0&handoff=1"), "the key handoff stands twice in the query");
        let unknown = r#"the key "x" in the query is unknown; there are deadline and handoff"#;
        assert_eq!(error("/v1/connect/a?x=1"), unknown);
    }

    #[test]
    fn an_upgrade_is_asked_for_in_lists_over_several_lines() {
        let lists =
            ["CONNECTION: keep-alive", "Connection: x, UPGRADE", "Upgrade: h2c", "upgrade: a ,Portolan-Tunnel,"];
        assert!(head(&[&[GET, "Host: x"], &lists[..]].concat()).is_ok());
        for missing in [&["Upgrade: portolan-tunnel"][..], &["Connection: upgrade", "Upgrade: websocket"]] {
            assert_eq!(
                head_error(&[&[GET, "Host: x"], missing].concat()),
                "GET /v1/connect/NODE needs the header lines `Connection: Upgrade` and `Upgrade: portolan-tunnel`"
            );
        }
        assert_eq!(
            head_error(&["GET /v1/connect/a HTTP/1.0", "Connection: upgrade", "Upgrade: portolan-tunnel"]),
            "an upgrade needs HTTP/1.1 (RFC 9110, section 7.8)"
        );
    }

    #[test]
    fn one_host_line_no_more_and_no_less() {
        let none = "an HTTP/1.1 head needs a Host line, such as `Host: portolan` (RFC 9112, section 3.2)";
        let two = "the head has more than one Host line (RFC 9112, section 3.2)";
        assert_eq!(head_error(&["CONNECT a@b HTTP/1.1"]), none);
        assert_eq!(head_error(&[GET, "Connection: upgrade", "Upgrade: portolan-tunnel"]), none);
        assert_eq!(head_error(&["CONNECT a@b HTTP/1.1", "Host: x", "host: x"]), two);
        assert_eq!(head_error(&["CONNECT a@b HTTP/1.0", "Host: x", "host: x"]), two);
        assert!(head(&["CONNECT a@b HTTP/1.0"]).is_ok());
        assert!(head(&["CONNECT a@b HTTP/1.1", "Host:"]).is_ok());
    }

    #[test]
    fn a_request_has_no_body() {
        let length = "the head has a Content-Length other than 0, but a request has no body here";
        for start in [
            &["CONNECT a@b HTTP/1.1", "Host: x"][..],
            &[GET, "Host: x", "Connection: upgrade", "Upgrade: portolan-tunnel"],
        ] {
            for bad in ["Content-Length: 1", "content-length: 00", "Content-Length: 0, 0", "Content-Length: -0"] {
                assert_eq!(head_error(&[start, &[bad]].concat()), length);
            }
            assert_eq!(head_error(&[start, &["Content-Length: 0", "Content-Length: 5"]].concat()), length);
            assert_eq!(
                head_error(&[start, &["Transfer-Encoding: chunked"]].concat()),
                "the head has a Transfer-Encoding, but a request has no body here"
            );
            assert!(head(&[start, &["Content-Length: 0"]].concat()).is_ok());
        }
    }

    #[test]
    fn a_lease_is_asked_for_by_a_body() {
        let post = |lines: &[&str]| {
            let head = [&["POST /v1/forwards HTTP/1.1", "Host: x"], lines].concat().join("\r\n") + "\r\n\r\n";
            super::parse(head.as_bytes()).map_err(|bad| bad.to_string())
        };
        assert_eq!(post(&["Content-Length: 7", "Content-Type: x/y"]), Ok(Head::Lease(b"7".to_vec())));
        let said = |lines: &[&str]| post(lines).unwrap_err();
        assert_eq!(said(&[]), "the head has no Content-Length, and the node is asked for in the body");
        assert_eq!(said(&["Content-Length: 1", "content-length: 1"]), "the head has more than one Content-Length");
        let chunked = "the head has a Transfer-Encoding; send the body with a Content-Length";
        assert_eq!(said(&["Transfer-Encoding: chunked", "Content-Length: 1"]), chunked);
        assert!(head_error(&["GET /v1/forwards HTTP/1.1", "Host: x"]).contains("is not served here; ask with GET"));
        let query = head_error(&["POST /v1/forwards?x HTTP/1.1", "Host: x"]);
        assert!(query.starts_with("the method \"POST\" is not served here"), "{query}");
    }

    #[test]
    fn connect_drops_a_port_and_decodes_nothing() {
        for (target, name) in [
            ("prod-db@10.0.1.50:0", "prod-db@10.0.1.50"),
            ("prod-db@10.0.1.50", "prod-db@10.0.1.50"),
            ("a@b:", "a@b:"),
            ("a@b:x1", "a@b:x1"),
            ("a:1:2", "a:1:2"),
            ("fd00::1", "fd00::1"),
            ("[fd00::1]:4370", "[fd00::1]"),
            ("x@[fd00::1]:4370", "x@[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
            ("[fd00::1", "[fd00::1"),
            ("a%40b:1", "a%40b"),
            ("м@дом:1", "м@дом"),
        ] {
            assert_eq!(head(&[&format!("CONNECT {target} HTTP/1.0")]).unwrap().node.as_str(), name, "{target}");
        }
        assert_eq!(head_error(&["CONNECT :80 HTTP/1.0"]), "the node name is empty");
    }

    #[test]
    fn a_head_has_at_most_64_header_lines() {
        let lines = |count| [vec!["CONNECT a@b HTTP/1.0"], vec!["x: y"; count]].concat();
        assert!(head(&lines(64)).is_ok());
        assert_eq!(head(&lines(65)), Err(BadHead::TooManyHeaderLines));
    }

    #[test]
    fn headers_that_could_be_read_in_two_ways_are_refused() {
        for bad in ["Host : x", " folded", "x: a\rb", "no colon", "x: \0"] {
            let text = head_error(&["CONNECT a@b HTTP/1.1", "Host: x", bad]);
            assert!(text.starts_with("this is not an HTTP/1.1 head: invalid"), "{bad:?}: {text}");
        }
    }

    #[test]
    fn a_message_shows_at_most_a_line_of_what_was_written() {
        let text = error(&format!("/{}", "я".repeat(1000)));
        assert!(text.contains(&format!("{:?}... is not served", format!("/{}", "я".repeat(63)))), "{text}");
    }

    proptest! {
        #[test]
        fn any_name_percent_encoded_comes_back(name in "\\PC{1,60}") {
            let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(node_of(&format!("{CONNECT_PATH}{encoded}")), name);
        }
    }
}
