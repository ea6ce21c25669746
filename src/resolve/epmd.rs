//! The port mapper of Erlang's nodes, asked at the host part of the name (Erlang's documentation of the distribution
//! protocol, "EPMD protocol").

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::host::{addresses_of, first_to_answer};
use super::{Answer, Answers, Ask, Asking, NoAnswer, parts};
use crate::dial::DialError;
use crate::node::NodeName;
use crate::route::Host;

/// Asks the EPMD of a node's host for the port where the node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epmd {
    port: u16,
}

/// PORT_PLEASE2_REQ
const PORT_PLEASE2: u8 = 122;
/// PORT2_RESP
const PORT2: u8 = 119;
/// More than an answer about the longest name has before what it need not say.
const LONGEST: usize = 512;

impl Epmd {
    /// Where EPMD listens, unless it is told otherwise.
    pub const PORT: u16 = 4369;

    /// Asks on this port.
    pub fn new(port: u16) -> Self {
        Self { port }
    }
}

impl Ask for Epmd {
    fn ask(&self, node: NodeName) -> Asking {
        let port = self.port;
        Box::pin(async move {
            let no_host = || NoAnswer::NotAskable("EPMD is asked at what stands behind its `@`".to_owned());
            let (name, host) = parts(&node).ok_or_else(no_host)?;
            let (addresses, certified) = addresses_of(host).await?;
            let (ip, port) = first_to_answer(&addresses, |ip| ask(SocketAddr::new(ip, port), name)).await?;
            let answer =
                Answer { host: Host::Ip(ip), certified, port: Some(port), tls: None, handshake: None, proto: None };
            Ok(Answers { list: [answer].into(), ttl: None })
        })
    }

    fn service<'a>(&self, node: &'a NodeName) -> &'a str {
        parts(node).map_or("", |(_, host)| host)
    }
}

async fn ask(epmd: SocketAddr, name: &str) -> Result<u16, NoAnswer> {
    let away = |error: io::Error| NoAnswer::Away(format!("{epmd}: {}", DialError::from_connect(&error)));
    let mut stream = TcpStream::connect(epmd).await.map_err(away)?;
    if stream.local_addr().map_err(away)? == epmd {
        // Nobody listens there, and the kernel has connected the socket to itself.
        return Err(NoAnswer::Away(format!("{epmd}: {}", DialError::Refused)));
    }
    stream.write_all(&question(name)).await.map_err(away)?;

    let mut said = Vec::with_capacity(LONGEST);
    let mut stream = stream.take(LONGEST as u64);
    loop {
        if let Some(port) = port_of(name, &said) {
            return port.map_err(|no| at(epmd, no));
        }
        if stream.read_buf(&mut said).await.map_err(away)? == 0 {
            let ended = NoAnswer::Garbled(format!("it ended after {} bytes", said.len()));
            return Err(at(epmd, ended));
        }
    }
}

fn at(epmd: SocketAddr, no: NoAnswer) -> NoAnswer {
    if let NoAnswer::Garbled(why) = no { NoAnswer::Garbled(format!("{epmd}: {why}")) } else { no }
}

/// PORT_PLEASE2_REQ behind its length. A node's name is far shorter than what that can say.
fn question(name: &str) -> Vec<u8> {
    let length = u16::try_from(1 + name.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), &[PORT_PLEASE2][..], name.as_bytes()].concat()
}

/// What a PORT2_RESP says of a name; `None` while more bytes are needed.
fn port_of(name: &str, said: &[u8]) -> Option<Result<u16, NoAnswer>> {
    let garbled = |why: &str| Some(Err(NoAnswer::Garbled(why.to_owned())));
    match said {
        [] | [PORT2] => None,
        // Behind the port: the kind of the node, its protocol, its highest and lowest version.
        [PORT2, 0, rest @ ..] if rest.len() < 10 => None,
        [PORT2, 0, p0, p1, _, _, _, _, _, _, n0, n1, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*n0, *n1]));
            if length != name.len() {
                return garbled("its answer is about another name");
            }
            let repeated = rest.get(..length)?;
            match u16::from_be_bytes([*p0, *p1]) {
                _ if repeated != name.as_bytes() => garbled("its answer is about another name"),
                0 => garbled("it says that the port is 0"),
                port => Some(Ok(port)),
            }
        }
        [PORT2, ..] => Some(Err(NoAnswer::Unknown { ttl: None })),
        _ => garbled("it does not speak the protocol of EPMD"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    /// What EPMD says of the node `db` that listens on port 40000 (recorded from Erlang/OTP 25).
    const DB: &[u8] = b"\x77\0\x9c\x40\x4d\0\0\x06\0\x05\0\x02db\0\0";

    /// What is made of it when a server says that of `db` and closes the connection, and what it was asked.
    async fn asked(says: &'static [u8]) -> (Result<Answers, NoAnswer>, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; 5];
            stream.read_exact(&mut question).await.unwrap();
            stream.write_all(says).await.unwrap();
            question
        };
        let node = NodeName::parse("db@127.0.0.1").unwrap();
        tokio::join!(Epmd::new(address.port()).ask(node), server)
    }

    #[tokio::test]
    async fn the_port_is_asked_of_the_host() {
        let (answers, question) = asked(DB).await;
        assert_eq!(question, *b"\0\x03\x7adb");
        let answers = answers.unwrap();
        let host = Host::Ip(Ipv4Addr::LOCALHOST.into());
        let answer = Answer { host, certified: None, port: Some(40000), tls: None, handshake: None, proto: None };
        assert_eq!((&*answers.list, answers.ttl), (&[answer][..], None));
    }

    #[tokio::test]
    async fn what_is_no_answer_about_the_name_is_said() {
        let no = async |says| match asked(says).await.0.unwrap_err() {
            NoAnswer::Garbled(why) => why.split_once(": ").unwrap().1.to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(no(b"").await, "it ended after 0 bytes");
        assert_eq!(no(b"\x77\0\x9c").await, "it ended after 3 bytes");
        assert_eq!(no(b"\x77\0\x9c\x40\x4d\0\0\x06\0\x05\0\x02dc\0\0").await, "its answer is about another name");
        assert_eq!(no(b"\x77\0\x9c\x40\x4d\0\0\x06\0\x05\xff\xffdb").await, "its answer is about another name");
        assert_eq!(no(b"\x77\0\0\0\x4d\0\0\x06\0\x05\0\x02db\0\0").await, "it says that the port is 0");
        assert_eq!(no(b"HTTP/1.1 400 Bad Request\r\n").await, "it does not speak the protocol of EPMD");
        assert_eq!(asked(b"\x77\x01").await.0, Err(NoAnswer::Unknown { ttl: None }));
    }

    #[tokio::test]
    async fn a_name_without_a_host_and_a_host_without_an_epmd_have_no_answer() {
        let ask = |node: &str, port| Epmd::new(port).ask(NodeName::parse(node).unwrap());
        let text = ask("db", 1).await.unwrap_err().to_string();
        assert_eq!(text, "cannot be asked for this name: EPMD is asked at what stands behind its `@`");
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let text = ask("db@127.0.0.1", gone.port()).await.unwrap_err().to_string();
        assert_eq!(text, format!("is away: {gone}: connection refused"));
    }

    #[tokio::test]
    async fn each_address_of_a_host_is_asked_in_turn() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = [[127, 0, 0, 2].into(), [127, 0, 0, 1].into(), [127, 0, 0, 3].into()];
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(DB).await.unwrap();
            stream.shutdown().await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        };
        let (found, ()) = tokio::join!(first_to_answer(&addresses, |ip| ask(SocketAddr::new(ip, port), "db")), server);
        assert_eq!(found, Ok(([127, 0, 0, 1].into(), 40000)));
    }

    #[tokio::test]
    async fn a_host_that_is_looked_up_is_what_a_certificate_must_bear() {
        let (addresses, certified) = addresses_of("localhost").await.unwrap();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()));
        assert_eq!(certified.as_deref(), Some("localhost"));
    }

    #[test]
    fn an_answer_is_understood_however_it_is_cut() {
        for cut in 0..DB.len() {
            let said = port_of("db", DB.get(..cut).unwrap());
            assert_eq!(said, (cut >= 14).then_some(Ok(40000)), "after {cut} bytes");
        }
        assert_eq!(port_of("db", &[DB, DB].concat()), Some(Ok(40000)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(said: Vec<u8>, name in "[a-z]{1,40}") {
            let with_head = [&[PORT2, 0][..], &said].concat();
            for said in [said, with_head] {
                if let Some(Ok(port)) = port_of(&name, &said) {
                    prop_assert!(port > 0 && said.get(12..12 + name.len()) == Some(name.as_bytes()));
                }
            }
        }
    }
}
