//! What a client is told, as bytes: that it is connected, or what it has, or why not.

use std::net::SocketAddr;

use super::field::string;
use super::{Form, HANDOFF_HEADER, LeaseView, Problem, UPGRADE_PROTOCOL};
use crate::close::Refused;
use crate::node::NodeName;
use crate::plan::Course;

/// The answer to a client that is now connected on this course to this upstream; what follows it are the node's bytes.
///
/// A SOCKS5 client is told the bound address 0.0.0.0:0, which is no use to it. A forward's client is told nothing.
pub fn established(form: Form, course: &Course, address: SocketAddr) -> Vec<u8> {
    match form {
        Form::Upgrade => http_head(&switching(), course, address),
        // No Content-Length (RFC 9110, section 9.3.6).
        Form::Connect => http_head("200 OK", course, address),
        // A client that is connected has had its greeting answered.
        Form::Socks5 | Form::Socks5Greeting => socks5_reply(0),
        Form::Forward => Vec::new(),
    }
}

/// The same to a client that gets the upstream's descriptor with the first of these bytes; nothing follows them.
pub fn handed_off(course: &Course, address: SocketAddr) -> Vec<u8> {
    http_head(&format!("{}\r\n{HANDOFF_HEADER}: 1", switching()), course, address)
}

/// The answer to a client that has a lease: a new one, or the one that it had. The connection ends after it.
pub fn leased(lease: &LeaseView, is_new: bool) -> Vec<u8> {
    let status = if is_new { "201 Created" } else { "200 OK" };
    // Strings and numbers alone can't fail to become JSON.
    let body = serde_json::to_string(lease).unwrap_or_default() + "\n";
    let length = body.len();
    let head = "Content-Type: application/json\r\nConnection: close\r\n";
    format!("HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn switching() -> String {
    format!("101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE_PROTOCOL}")
}

/// `status` may have header lines behind it.
fn http_head(status: &str, course: &Course, address: SocketAddr) -> Vec<u8> {
    let header =
        |name: &str, text: Option<&str>| text.map_or_else(String::new, |text| format!("{name}: {}\r\n", string(text)));
    let (route, resolver) =
        (header("Portolan-Route", course.pattern()), header("Portolan-Resolver", course.resolver()));
    let next_hop = string(&address.to_string());
    format!("HTTP/1.1 {status}\r\nProxy-Status: portolan; next-hop={next_hop}\r\n{route}{resolver}\r\n").into_bytes()
}

/// The answer to a client that is refused; the connection ends after it. Empty where nobody can be told: at a forward,
/// and when the client is gone.
pub fn refused(form: Form, node: Option<&NodeName>, refused: &Refused) -> Vec<u8> {
    match (form, refused) {
        (_, Refused::ClientGone) | (Form::Forward, _) => Vec::new(),
        // No method is acceptable (RFC 1928, section 3): a reply of section 6 would read as a method.
        (Form::Socks5Greeting, _) => vec![super::socks5::VERSION, 0xff],
        (Form::Socks5, _) => socks5_reply(refused.outcome().socks5),
        (Form::Upgrade | Form::Connect, _) => http_problem(node, refused),
    }
}

fn http_problem(node: Option<&NodeName>, refused: &Refused) -> Vec<u8> {
    let outcome = refused.outcome();
    let title = reason(outcome.status);
    let problem = Problem::of(node, refused, title);
    // Strings and numbers alone can't fail to become JSON.
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let retry = match refused {
        Refused::Busy | Refused::Draining | Refused::NoLease(_) => "Retry-After: 1\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {status} {title}\r\n\
         Proxy-Status: portolan; error={error}; details={details}\r\n\
         Content-Type: application/problem+json\r\n\
         Content-Length: {length}\r\n\
         {retry}Connection: close\r\n\r\n{body}",
        status = outcome.status,
        error = outcome.proxy_status,
        details = string(&problem.detail),
        length = body.len(),
    )
    .into_bytes()
}

/// RFC 1928, section 6, with the bound address 0.0.0.0:0.
fn socks5_reply(reply: u8) -> Vec<u8> {
    vec![super::socks5::VERSION, reply, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// The reason phrases of RFC 9110 and RFC 6585 for what [`Refused::outcome`] yields; an empty one is legal.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::close::tests::attempt;
    use crate::dial::{DialError, Stage};
    use crate::request::BadHead;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn node() -> NodeName {
        NodeName::parse("prod-db@10.0.1.50").unwrap()
    }

    fn body(answer: &str) -> Problem {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn each_form_is_told_that_it_is_connected() {
        let route = attempt("^prod-db@.*\\.x", "", Stage::Tcp, DialError::Refused).course;
        let [v4, v6] = ["10.0.1.50:4370", "[fd00::1]:4370"].map(|address| address.parse().unwrap());
        assert_eq!(
            text(established(Form::Upgrade, &route, v4)),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\
             Proxy-Status: portolan; next-hop=\"10.0.1.50:4370\"\r\nPortolan-Route: \"^prod-db@.*\\\\.x\"\r\n\r\n"
        );
        assert_eq!(
            text(established(Form::Connect, &route, v6)),
            "HTTP/1.1 200 OK\r\nProxy-Status: portolan; next-hop=\"[fd00::1]:4370\"\r\n\
             Portolan-Route: \"^prod-db@.*\\\\.x\"\r\n\r\n"
        );
        assert_eq!(
            text(handed_off(&route, v4)),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\
             Portolan-Handoff: 1\r\n\
             Proxy-Status: portolan; next-hop=\"10.0.1.50:4370\"\r\nPortolan-Route: \"^prod-db@.*\\\\.x\"\r\n\r\n"
        );
        assert_eq!(established(Form::Socks5, &route, v4), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(established(Form::Forward, &route, v4).is_empty());
    }

    #[test]
    fn a_refusal_is_told_in_the_head_and_in_the_body() {
        let failed = attempt("^prod-", "10.0.1.50:4370", Stage::Tcp, DialError::Refused);
        let answer = text(refused(Form::Upgrade, Some(&node()), &Refused::AllFailed(vec![failed])));
        assert_eq!(
            answer,
            "HTTP/1.1 502 Bad Gateway\r\n\
             Proxy-Status: portolan; error=connection_refused; \
             details=\"the only attempt failed: 10.0.1.50:4370, tcp: connection refused\"\r\n\
             Content-Type: application/problem+json\r\nContent-Length: 296\r\nConnection: close\r\n\r\n\
             {\"title\":\"Bad Gateway\",\"status\":502,\"code\":\"all_failed\",\
             \"detail\":\"the only attempt failed: 10.0.1.50:4370, tcp: connection refused\",\
             \"node\":\"prod-db@10.0.1.50\",\"attempts\":[{\"match\":\"^prod-\",\"node\":\"prod-db@10.0.1.50\",\
             \"address\":\"10.0.1.50:4370\",\"stage\":\"tcp\",\"error\":\"connection refused\",\"ms\":12}]}"
        );
        assert_eq!(refused(Form::Connect, Some(&node()), &Refused::NoRoute).get(..13), Some(&b"HTTP/1.1 404 "[..]));
    }

    #[test]
    fn busy_and_draining_say_when_to_come_again() {
        for (refusal, again) in [(Refused::Busy, true), (Refused::Draining, true), (Refused::NoRoute, false)] {
            let answer = text(refused(Form::Connect, None, &refusal));
            assert_eq!(answer.contains("\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{"), again);
            assert_eq!(body(&answer).node, None);
        }
    }

    #[test]
    fn socks5_clients_get_a_reply_or_a_refused_method() {
        let bad = |bad| refused(Form::Socks5, None, &Refused::BadHead(bad));
        let greeting = |refusal| refused(Form::Socks5Greeting, None, &refusal);
        assert_eq!(greeting(Refused::BadHead(BadHead::SocksMethod)), [5, 0xff]);
        assert_eq!(greeting(Refused::Draining), [5, 0xff]);
        assert!(greeting(Refused::ClientGone).is_empty());
        assert_eq!(bad(BadHead::SocksCommand(2)), [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bad(BadHead::SocksAddressType(9)).get(1), Some(&8));
        assert_eq!(bad(BadHead::TooSlow).get(1), Some(&1));
        assert_eq!(refused(Form::Socks5, Some(&node()), &Refused::NoRoute).get(1), Some(&4));
    }

    #[test]
    fn where_nobody_can_be_told_nothing_is_said() {
        assert!(refused(Form::Forward, Some(&node()), &Refused::NoRoute).is_empty());
        assert!(refused(Form::Upgrade, Some(&node()), &Refused::ClientGone).is_empty());
        assert!(refused(Form::Socks5, None, &Refused::ClientGone).is_empty());
    }

    #[test]
    fn text_of_others_stays_inside_its_header_and_its_body_is_bounded() {
        let evil = format!("м\r\nSet-Cookie: x=\"{}", "y".repeat(5000));
        let mut failed = attempt(&"(a|b)".repeat(2000), &evil, Stage::Dns, DialError::NameLookup(evil.clone()));
        failed.took = Duration::MAX;
        let answer = text(refused(Form::Connect, Some(&node()), &Refused::AllFailed(vec![failed; 100])));
        let head = answer.split_once("\r\n\r\n").unwrap().0;
        assert_eq!(head.lines().count(), 5, "{head}");
        assert!(head.contains("details=%\""), "{head}");
        let problem = body(&answer);
        assert_eq!((problem.attempts.len(), problem.more_attempts), (32, 68));
        assert!(answer.len() < 64 * 1024, "{}", answer.len());
    }
}
