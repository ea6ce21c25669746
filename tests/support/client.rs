//! Clients of the Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::HANG;

/// The answer to a head.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body, if it has a length.
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no header {name} in {self:?}"))
    }

    pub fn problem(&self) -> Value {
        assert_eq!(self.header("Content-Type"), "application/problem+json");
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Opens the socket.
pub fn open(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.set_write_timeout(Some(HANG)).unwrap();
    stream
}

/// The head of an Upgrade request.
pub fn upgrade_head(node: &str) -> String {
    format!(
        "GET /v1/connect/{node} HTTP/1.1\r\nHost: portolan\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n"
    )
}

/// Asks by Upgrade; the stream stands behind the answer's head.
pub fn upgrade(socket: &Path, node: &str) -> (UnixStream, Answer) {
    ask(socket, upgrade_head(node).as_bytes())
}

/// Asks by Upgrade and expects to be connected.
pub fn connect(socket: &Path, node: &str) -> UnixStream {
    let (stream, answer) = upgrade(socket, node);
    assert_eq!(answer.status, 101, "{answer:?} {}", String::from_utf8_lossy(&answer.body));
    stream
}

/// Sends bytes and reads the head of the answer, and its body if it has one.
pub fn ask(socket: &Path, head: &[u8]) -> (UnixStream, Answer) {
    let mut stream = open(socket);
    stream.write_all(head).unwrap();
    let answer = read_answer(&mut stream);
    (stream, answer)
}

/// Reads an answer byte by byte, so that nothing behind it is taken.
pub fn read_answer(stream: &mut UnixStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("the answer ended early: {error}, after {:?}", String::from_utf8_lossy(&head))
        });
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    if let Some(length) = length.map(|(_, value)| value.parse().unwrap()) {
        answer.body.resize(length, 0);
        stream.read_exact(&mut answer.body).unwrap();
    }
    answer
}

/// The first line that a node says.
pub fn line(stream: &mut impl Read) -> String {
    let mut line = String::new();
    // One byte at a time: what follows is the caller's.
    BufReader::with_capacity(1, stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
