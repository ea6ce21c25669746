//! One client at one of the doors: its head is read, it is answered, and it is watched while portolan dials.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::time::{timeout, timeout_at};
use tracing::warn;

use super::owner::{Transport, owner};
use super::{Door, Forward, Peer};
use crate::admit::HeadSlot;
use crate::close::{Facts, NoHandoff, Refused};
use crate::deadline::Deadline;
use crate::dial::Ends;
use crate::drain::Drain;
use crate::node::NodeName;
use crate::relay::handoff;
use crate::request::{
    BadHead, ConnectRequest, Form, HeadReader, LeaseView, Step, established, handed_off, leased, refused,
};
use crate::stream::Stream;

/// What a client asks for.
#[derive(Debug)]
pub enum Asked {
    /// To be connected.
    Connection(ConnectRequest),
    /// For a forward of its own to this node.
    Lease(NodeName),
}

/// A local process that asks.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    door: Door,
    /// Its place among those whose heads are read; given back as soon as it has been.
    head: Option<HeadSlot>,
    /// How it asks, as far as that is known.
    form: Option<Form>,
    /// What it asks for, as far as that is known.
    node: Option<NodeName>,
}

impl Client {
    /// How long a refused client may take to read the answer.
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
    /// How long a head may still take when the drain begins: its client is refused all the same, but learns why.
    const HEAD_IN_DRAIN: Duration = Duration::from_millis(100);
    /// Bytes read at once; a usual head is a tenth of it.
    const READ: usize = 4096;

    /// A client that was accepted at a door; in a box, because its task outlives it by the length of a relay.
    pub fn new(stream: Stream, door: Door, head: Option<HeadSlot>) -> Box<Self> {
        Box::new(Self { stream, door, head, form: None, node: None })
    }

    /// The node that it asks for, once that is known.
    pub fn node(&self) -> Option<&NodeName> {
        self.node.as_ref()
    }

    /// Who it is.
    pub fn peer(&self) -> Peer {
        Peer::of(&self.stream)
    }

    /// The ends of its connection, if it has addresses: a client of a Unix socket has none.
    pub fn ends(&self) -> Option<Ends> {
        let Stream::Tcp(tcp) = &self.stream else { return None };
        Some(Ends { client: tcp.peer_addr().ok()?, forward: tcp.local_addr().ok()? })
    }

    /// Reads its head; at a forward there is none, and the door says what is asked for.
    pub async fn read_request(&mut self, deadline: Deadline, drain: &Drain) -> Result<Asked, Refused> {
        let request = match &self.door {
            Door::Forward(forward) => {
                self.node = Some(forward.node.clone());
                self.check_user(forward)?;
                ConnectRequest::forward(forward.node.clone())
            }
            // The others are served elsewhere, by requests of another kind.
            Door::Socket | Door::Admin(_) | Door::Registrar(_) => {
                match Box::pin(self.read_head(deadline, drain)).await? {
                    Asked::Connection(request) => request,
                    lease @ Asked::Lease(_) => {
                        self.head = None;
                        return Ok(lease);
                    }
                }
            }
        };
        self.head = None;
        self.form = Some(request.form);
        self.node = Some(request.node.clone());
        if request.handoff && !request.tail.is_empty() {
            return Err(Refused::BadHead(BadHead::BytesBehind));
        }
        Ok(Asked::Connection(request))
    }

    /// Whether a forward's client is one of these users. It is looked up at once: who has closed its end has no owner.
    fn check_user(&self, forward: &Forward) -> Result<(), Refused> {
        let Forward { users, leased_to, .. } = forward;
        let (Some(users), Stream::Tcp(_)) = (users, &self.stream) else { return Ok(()) };
        let leased_to = *leased_to;
        let Some(Ends { client, forward }) = self.ends() else { return Err(Refused::ClientGone) };
        match owner(Transport::Tcp, client, forward) {
            Ok(Some(uid)) if users.contains(&uid) => Ok(()),
            Ok(uid) => Err(Refused::NotAllowed { client, uid, leased_to }),
            Err(error) => {
                warn!(%error, "the kernel does not say who a forward's clients are, and so they are refused");
                Err(Refused::NotAllowed { client, uid: None, leased_to })
            }
        }
    }

    async fn read_head(&mut self, deadline: Deadline, drain: &Drain) -> Result<Asked, Refused> {
        let mut head = HeadReader::new();
        let request = {
            let mut reading = pin!(timeout_at(deadline.instant(), read_head(&mut self.stream, &mut head)));
            tokio::select! {
                biased;
                request = &mut reading => request.unwrap_or(Err(Refused::BadHead(BadHead::TooSlow))),
                () = drain.begun() => match timeout(Self::HEAD_IN_DRAIN, reading).await {
                    Ok(Ok(Ok(Asked::Connection(ConnectRequest { node, .. }) | Asked::Lease(node)))) => {
                        self.node = Some(node);
                        Err(Refused::Draining)
                    }
                    Ok(Ok(Err(refused))) => Err(refused),
                    Ok(Err(_)) | Err(_) => Err(Refused::Draining),
                },
            }
        };
        self.form = head.form();
        if let Ok(Asked::Lease(node)) = &request {
            self.node = Some(node.clone());
        }
        request
    }

    /// Does something on the client's behalf for as long as it is there and the daemon is.
    pub async fn while_there<T>(
        &self,
        work: impl Future<Output = Result<T, Refused>>,
        drain: &Drain,
    ) -> Result<T, Refused> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.stream.hung_up() => Err(Refused::ClientGone),
            () = drain.cut_off() => Err(Refused::Draining),
        }
    }

    /// Tells it that it is connected; failover ends here.
    pub async fn establish(&mut self, facts: &Facts, deadline: Deadline) -> Result<(), Refused> {
        let form = self.form.unwrap_or(Form::Forward);
        let answer = established(form, &facts.course, facts.address);
        match timeout_at(deadline.instant(), self.stream.write_all_now(&answer)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Refused::ClientGone),
        }
    }

    /// The same, with the upstream itself in place of a relay: nothing of the connection is ours from here on.
    pub async fn hand_off(&mut self, upstream: Stream, facts: &Facts, deadline: Deadline) -> Result<(), Refused> {
        if self.stream.has_unread() {
            return Err(Refused::BadHead(BadHead::BytesBehind));
        }
        let (client, upstream) = match (&mut self.stream, upstream) {
            (Stream::Unix(client), Stream::Tcp(upstream)) => (client, upstream),
            (Stream::Unix(_), _) => return Err(Refused::NoHandoff(NoHandoff::Tls(facts.course.clone()))),
            (_, _) => return Err(Refused::NoHandoff(NoHandoff::NotUnix)),
        };
        let answer = handed_off(&facts.course, facts.address);
        let sent = timeout_at(deadline.instant(), handoff::send(client, &answer, upstream)).await;
        sent.unwrap_or(Err(Refused::ClientGone))
    }

    /// Tells it which lease it has, and ends.
    pub async fn tell_lease(&mut self, lease: &LeaseView, is_new: bool) {
        self.tell(&leased(lease, is_new)).await;
    }

    /// Its stream, for the relay.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Answers with an error and ends; a forward's client gets a reset, because it has no other way to know.
    pub async fn refuse(mut self, why: &Refused) {
        self.head = None;
        let Some(form) = self.form else { return self.stream.reset_on_drop() };
        let answer = refused(form, self.node.as_ref(), why);
        if answer.is_empty() {
            return self.stream.reset_on_drop();
        }
        self.tell(&answer).await;
    }

    /// Says something, and that it is the last.
    async fn tell(&mut self, answer: &[u8]) {
        let say = async {
            self.stream.write_all(answer).await?;
            self.stream.shutdown().await
        };
        // One that does not read its answer has nothing more to hear.
        drop(timeout(Self::ANSWER_TIMEOUT, say).await);
        // What it sent behind its head was for the node.
        self.stream.discard_unread();
    }
}

async fn read_head(stream: &mut Stream, head: &mut HeadReader) -> Result<Asked, Refused> {
    loop {
        let mut step = poll_fn(|cx| poll_read_head(stream, head, cx)).await?;
        loop {
            match step {
                Step::More => break,
                Step::Request(request) => return Ok(Asked::Connection(request)),
                Step::Lease(node) => return Ok(Asked::Lease(node)),
                Step::Reply(reply) => {
                    stream.write_all(reply).await.map_err(|_gone| Refused::ClientGone)?;
                    step = head.advance(&[]).map_err(Refused::BadHead)?;
                }
            }
        }
    }
}

/// Reads what has come. The buffer is there for this poll only: a client that is slow with its head holds none.
fn poll_read_head(stream: &mut Stream, head: &mut HeadReader, cx: &mut Context<'_>) -> Poll<Result<Step, Refused>> {
    let mut buffer = [0; Client::READ];
    let room = head.room().min(Client::READ);
    let mut read = ReadBuf::new(buffer.get_mut(..room).unwrap_or_default());
    ready!(stream.poll_read_now(cx, &mut read)).map_err(|_gone| Refused::ClientGone)?;
    match read.filled() {
        [] => Poll::Ready(Err(Refused::BadHead(BadHead::Truncated))),
        read => Poll::Ready(head.advance(read).map_err(Refused::BadHead)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;
    use crate::route::testing;

    /// What comes of a hand-off to a client with this stream.
    async fn handed(client: Stream) -> Result<(), Refused> {
        let (upstream, _node) = tcp_pair().await;
        let course = testing::row(testing::route("^db@", 1)).into();
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        let node = NodeName::parse("db@x").unwrap();
        let facts = Facts { client: Peer::Unknown, node, course, address, attempts: 1, slot: None };
        let mut client = Client::new(client, Door::Socket, None);
        client.hand_off(Stream::Tcp(upstream), &facts, Deadline::after(Duration::from_secs(5))).await
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, theirs)
    }

    #[tokio::test]
    async fn what_came_during_the_dial_refuses_a_hand_off_and_a_half_close_does_not() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").await.unwrap();
        assert!(matches!(handed(Stream::Unix(ours)).await, Err(Refused::BadHead(BadHead::BytesBehind))));

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.shutdown().await.unwrap();
        assert!(handed(Stream::Unix(ours)).await.is_ok());
    }

    #[tokio::test]
    async fn a_descriptor_goes_over_a_unix_socket_only() {
        let (ours, _theirs) = tcp_pair().await;
        assert!(matches!(handed(Stream::Tcp(ours)).await, Err(Refused::NoHandoff(NoHandoff::NotUnix))));
    }
}
