//! One question on the socket and its answer, with the descriptor that may come along.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use httparse::Status;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::ConnectError;
use crate::node::NodeName;
use crate::request::{CONNECT_PATH, HANDOFF_HEADER, MAX_HEADER_LINES, UPGRADE_PROTOCOL};

/// What is asked for.
pub(super) struct Question {
    pub(super) node: NodeName,
    pub(super) deadline: Option<Duration>,
    pub(super) handoff: bool,
}

/// What a client has that is connected.
pub(super) struct Answer {
    /// The node's first bytes, where they came with the answer.
    pub(super) tail: Vec<u8>,
    /// Whether the answer says that a descriptor came with it.
    pub(super) handed_off: bool,
    /// The descriptor, unless it was lost on its way.
    pub(super) descriptor: Option<OwnedFd>,
}

/// The longest answer that is read, in bytes; the daemon's own are far shorter.
const MAX_ANSWER: usize = 1 << 20;

impl Question {
    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, stream: &mut UnixStream) -> Result<Answer, ConnectError> {
        // A daemon that is full may answer and close before it reads: its answer is what counts, not this error.
        let _answer_counts = stream.write_all(self.head().as_bytes()).await;
        let mut descriptor = None;
        let (head, tail) = read_head(stream, &mut descriptor).await?;
        match head.status {
            101 => Ok(Answer { tail, handed_off: head.handed_off, descriptor }),
            _ => Err(refusal(stream, &head, tail).await),
        }
    }

    fn head(&self) -> String {
        let name = utf8_percent_encode(self.node.as_str(), ENCODED);
        let deadline = self.deadline.map(|deadline| format!("deadline={}us", deadline.as_micros()));
        let handoff = self.handoff.then(|| "handoff=1".to_owned());
        let query: Vec<_> = deadline.into_iter().chain(handoff).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!(
            "GET {CONNECT_PATH}{name}{mark}{} HTTP/1.1\r\nHost: portolan\r\n\
             Connection: Upgrade\r\nUpgrade: {UPGRADE_PROTOCOL}\r\n\r\n",
            query.join("&")
        )
    }
}

/// Left as they are in a path: RFC 3986's unreserved characters, and the `@` of nearly every name.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// Reads the head of an answer, and what has come behind it.
pub(super) async fn read_head(
    stream: &UnixStream,
    descriptor: &mut Option<OwnedFd>,
) -> Result<(Head, Vec<u8>), ConnectError> {
    let mut held = Vec::new();
    loop {
        if let Some(head) = Head::parse(&held)? {
            let tail = held.split_off(head.len);
            return Ok((head, tail));
        }
        if held.len() > MAX_ANSWER {
            return Err(no_answer("its answer does not end"));
        }
        match receive(stream, &mut held, descriptor).await {
            Ok(0) => return Err(no_answer("it ended the connection without an answer")),
            Ok(_) => {}
            Err(error) => return Err(no_answer(error)),
        }
    }
}

/// Reads what has come, and keeps the first descriptor that came with it.
async fn receive(stream: &UnixStream, held: &mut Vec<u8>, descriptor: &mut Option<OwnedFd>) -> io::Result<usize> {
    let receive = || {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // Those beyond the first are closed as they are dropped.
                for received in descriptors {
                    descriptor.get_or_insert(received);
                }
            }
        }
        held.extend_from_slice(buffer.get(..received).unwrap_or_default());
        Ok(received)
    };
    stream.async_io(Interest::READABLE, receive).await
}

/// Reads the rest of a body; however that ends, it is judged by what has come.
pub(super) async fn read_body(stream: &mut UnixStream, head: &Head, mut body: Vec<u8>) -> Vec<u8> {
    let length = head.content_length.unwrap_or(MAX_ANSWER).min(MAX_ANSWER);
    let missing = length.saturating_sub(body.len());
    let _judged_by_the_caller = stream.take(missing as u64).read_to_end(&mut body).await;
    body.truncate(length);
    body
}

/// What an answer says that does not give what was asked for.
pub(super) async fn refusal(stream: &mut UnixStream, head: &Head, body: Vec<u8>) -> ConnectError {
    match serde_json::from_slice(&read_body(stream, head, body).await) {
        Ok(problem) => ConnectError::Refused(Box::new(problem)),
        Err(_not_ours) => no_answer(format!("it answered with the HTTP status {}", head.status)),
    }
}

/// What the client needs of the answer's head.
pub(super) struct Head {
    pub(super) status: u16,
    content_length: Option<usize>,
    handed_off: bool,
    /// Its bytes, the empty line with them.
    len: usize,
}

impl Head {
    /// `None`: it is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ConnectError> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADER_LINES];
        let mut response = httparse::Response::new(&mut lines);
        let len = match response.parse(bytes) {
            Ok(Status::Partial) => return Ok(None),
            Ok(Status::Complete(len)) => len,
            Err(error) => return Err(no_answer(format!("it does not speak HTTP/1.1: {error}"))),
        };
        let value = |name: &str| {
            let line = response.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
            line.map(|line| line.value)
        };
        Ok(Some(Self {
            status: response.code.unwrap_or_default(),
            content_length: value("content-length").and_then(|value| str::from_utf8(value).ok()?.parse().ok()),
            handed_off: value(HANDOFF_HEADER) == Some(b"1"),
            len,
        }))
    }
}

pub(super) fn no_answer(why: impl ToString) -> ConnectError {
    ConnectError::NoAnswer(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{HeadReader, MAX_DEADLINE, Step};

    #[test]
    fn the_daemon_reads_what_the_client_writes() {
        let node = NodeName::parse("м/a b%?#@[fd00::1]:1").unwrap();
        for (deadline, handoff) in
            [(None, false), (None, true), (Some(MAX_DEADLINE), false), (Some(MAX_DEADLINE), true)]
        {
            let written = Question { node: node.clone(), deadline, handoff }.head();
            match HeadReader::new().advance(written.as_bytes()) {
                Ok(Step::Request(read)) => {
                    assert_eq!((&read.node, read.deadline, read.handoff), (&node, deadline, handoff));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
