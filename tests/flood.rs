//! What is at the other end of a resolver babbles, lies, or never ends: a clear line, and nothing worse.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::node::Node;
use crate::support::registrar::{refusal, routes};

/// More than any answer that is one.
const LARGE: usize = 60_000;

/// A daemon that asks such a resolver for what is not `fixed@..`.
fn daemon(keys: &str, fixed: &Node) -> Daemon {
    let more = format!("[discovery]\nresolver = 'bad'\n[resolver.bad]\n{keys}\nnegative_ttl = '1ms'\n");
    Daemon::start_with(&fixed.route("^fixed@", ""), &more)
}

/// Why a node is not reached; the daemon is as well as ever after that.
fn why(daemon: &Daemon, node: &str) -> String {
    let before = daemon.resident();
    let (_, answer) = upgrade(&daemon.socket(), node);
    let problem = answer.problem();
    assert_eq!(line(&mut connect(&daemon.socket(), "fixed@x")), "fixed");
    assert!(daemon.resident() < before + (16 << 20), "{before} bytes, and then {}", daemon.resident());
    let attempt = &problem["attempts"][0];
    assert_eq!(attempt["stage"], "resolve", "{problem}");
    attempt["error"].as_str().unwrap().to_owned()
}

/// A UDP service that does this with each question; it ends with the process.
fn datagrams(answer: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            answer(&socket, &question[..length], from);
        }
    });
    address
}

#[test]
fn an_epmd_that_is_none_is_said_with_its_address() {
    let (fixed, other) = (Node::named("fixed"), b"\x77\0\x9c\x40\x4d\0\0\x06\0\x05\0\x05other\0\0");
    let endless = |mut stream: TcpStream, with: &[u8]| {
        drop(stream.read(&mut [0; 64]));
        while stream.write_all(with).is_ok() {}
    };
    let once = |mut stream: TcpStream, with: &[u8]| {
        drop(stream.read(&mut [0; 64]));
        drop(stream.write_all(with));
    };
    for (node, said) in [
        (Node::new(move |stream| endless(stream, &[0xff; LARGE])), "it does not speak the protocol of EPMD"),
        (Node::new(move |stream| endless(stream, &[119, 0])), "its answer is about another name"),
        (Node::new(move |stream| once(stream, other)), "its answer is about another name"),
        (Node::new(move |stream| once(stream, b"\x77\0\x9c")), "it ended after 3 bytes"),
        (Node::new(move |stream| once(stream, b"")), "it ended after 0 bytes"),
    ] {
        let daemon = daemon(&format!("type = 'epmd'\nport = {}", node.port()), &fixed);
        let expected = format!("the resolver gave an answer that is not understood: {}: {said}", node.address());
        assert_eq!(why(&daemon, "db@127.0.0.1"), expected);
        let logged = daemon.wait_for("resolver was not understood");
        assert_eq!((&logged["resolver"], &logged["node"]), (&"bad".into(), &"db@127.0.0.1".into()));
    }
}

#[test]
fn a_registrar_that_is_none_is_said_with_its_address() {
    let fixed = Node::named("fixed");
    let nested = |tag: u8| [&b"\x01\x2f\xea\x60\x83"[..], &[tag; LARGE - 1]].concat();
    for (answer, said) in [
        (vec![0xff; LARGE], "not understood: {}: at byte 0: the packet is of version 255, and there is 1"),
        (nested(0x9d), "not understood: {}: at byte 7: the name of the type is not UTF-8"),
        (nested(0), "not understood: {}: at byte 7: a packet of type 47 has a \"\", and not a MessageResolveReply"),
        (routes(&[]), "not understood: {}: it has no route that leads anywhere"),
        (routes(&[1])[..70].to_vec(), "not understood: {}: it ends after 70 bytes"),
        (refusal(&"\x1b[2J\n".repeat(6_000)), "has no answer for this name: {}: it says `\u{fffd}[2J\u{fffd}"),
    ] {
        let address = datagrams(move |socket, _, from| drop(socket.send_to(&answer, from)));
        let daemon = daemon(&format!("type = 'ergo'\nport = {}", address.port()), &fixed);
        let error = why(&daemon, "db@127.0.0.1");
        assert!(error.contains(&said.replace("{}", &address.to_string())), "{error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn what_others_say_in_the_place_of_a_registrar_is_not_heard() {
    let (fixed, right) = (Node::named("fixed"), Node::named("right"));
    let (forged, answer) = (routes(&[fixed.port()]), routes(&[right.port()]));
    let address = datagrams(move |socket, _, from| {
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        (0..1000).for_each(|_| drop(other.send_to(&forged, from)));
        socket.send_to(&answer, from).unwrap();
    });
    let daemon = daemon(&format!("type = 'ergo'\nport = {}", address.port()), &fixed);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@127.0.0.1")), "right");
}

/// What is said to a question.
type Answer = fn(&[u8]) -> Vec<u8>;

/// The answer to a question for an address (A): this one; to any other that there is none.
fn dns_answer(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    // Without what is not a question, as EDNS.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let head = [&question[..2], b"\x85\x80\0\x01\0", &[u8::from(is_a)], b"\0\0\0\0"].concat();
    let record: &[u8] = &[&b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04"[..], &address].concat();
    [&head[..], &question[12..end], if is_a { record } else { &[] }].concat()
}

#[test]
fn what_does_not_answer_the_question_is_not_heard_of_a_name_server() {
    let (fixed, right) = (Node::named("fixed"), Node::named("right"));
    let address = datagrams(|socket, question, from| {
        let answer = dns_answer(question, [127, 0, 0, 1]);
        let forged = |at: usize| {
            let mut forged = dns_answer(question, [127, 0, 0, 9]);
            forged[at] ^= 1;
            forged
        };
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // No more than the socket holds: what is lost behind them is asked for again, but later.
        for _ in 0..20 {
            // From elsewhere, with another number, about another name, and nothing at all.
            drop(other.send_to(&dns_answer(question, [127, 0, 0, 9]), from));
            for datagram in [forged(1), forged(14), Vec::new()] {
                drop(socket.send_to(&datagram, from));
            }
        }
        drop(socket.send_to(&[0xff; LARGE], from));
        socket.send_to(&answer, from).unwrap();
    });
    let keys = format!("type = 'dns'\nservers = '{address}'\naddress = '{{host}}'\nport = {}", right.port());
    let daemon = daemon(&keys, &fixed);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@fleet.test")), "right");
}

#[test]
fn a_name_server_that_is_none_is_said_with_its_address() {
    let fixed = Node::named("fixed");
    let strays = |question: &[u8]| {
        let mut answer = dns_answer(question, [127, 0, 0, 9]);
        // The owner of the record is the last part of the name alone.
        if let Some(at) = answer.windows(2).position(|two| two == b"\xc0\x0c") {
            answer[at + 1] += u8::try_from("\x05fleet".len()).unwrap();
        }
        answer
    };
    let answers: [(Answer, &str); 2] = [
        (|question| [&question[..2], &[0xff; LARGE]].concat(), ""),
        (strays, "the answer is about other names than fleet.test."),
    ];
    for (answer, said) in answers {
        let address = datagrams(move |socket, question, from| drop(socket.send_to(&answer(question), from)));
        let keys = format!("type = 'dns'\nservers = '{address}'\naddress = '{{host}}'\nport = 1\ntimeout = '500ms'");
        let error = why(&daemon(&keys, &fixed), "db@fleet.test");
        let expected = format!("the resolver gave an answer that is not understood: {address}: {said}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[cfg(feature = "etcd")]
#[test]
fn an_etcd_that_is_none_is_said_with_its_address_and_holds_up_nobody() {
    let fixed = Node::named("fixed");
    let silent = Node::new(|mut stream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
    let babbles = Node::new(|mut stream| while stream.write_all(&[0xff; LARGE]).is_ok() {});
    let hangs_up = Node::new(drop);
    // At the same time: each waits a while for its shared table before it says that it serves.
    std::thread::scope(|scope| {
        for node in [&silent, &babbles, &hangs_up] {
            scope.spawn(|| is_said_with_its_address(&fixed, &format!("http://{}", node.address())));
        }
    });
}

#[cfg(feature = "etcd")]
fn is_said_with_its_address(fixed: &Node, endpoint: &str) {
    let folder = crate::support::daemon::Folder::new(&fixed.route("^fixed@", ""), "");
    folder.write(
        "portolan.toml",
        &format!(
            "routes = ['routes.toml', 'etcd:bad']\n[socket]\npath = 'portolan.sock'\n[discovery]\nresolver = 'bad'\n\
             [resolver.bad]\ntype = 'etcd'\nendpoints = ['{endpoint}']\ntimeout = '100ms'\n"
        ),
    );
    let daemon = Daemon::in_folder(folder);
    let error = why(&daemon, "db@127.0.0.1");
    assert!(error.contains(endpoint) || error == "the resolver did not answer in time", "{error}");
    let logged = daemon.wait_for("the shared table is not followed; what is in force stays");
    assert!(logged["why"].as_str().unwrap().starts_with(&format!("etcd at {endpoint}: ")), "{logged}");
}
