//! Hand-off: the client gets the upstream's descriptor (SCM_RIGHTS) and portolan leaves the path.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::close::{NoHandoff, Refused};
use crate::config::reason;
use crate::plan::Course;
use crate::route::{Route, Row};

/// Whether the connections of a route are what their sockets carry, so that they can be handed off.
pub fn check(route: &Arc<Row<Route>>) -> Result<(), Refused> {
    match route.tls {
        Some(_) => Err(Refused::NoHandoff(NoHandoff::Tls(Course::Route(Arc::clone(route))))),
        None => Ok(()),
    }
}

/// Sends the answer, and the upstream with its first byte. Whatever comes of it, no descriptor of it stays here.
pub async fn send(client: &mut UnixStream, answer: &[u8], upstream: TcpStream) -> Result<(), Refused> {
    let sent = send_first(client, answer, upstream).await.map_err(refused)?;
    // It is told that it is connected: there is nothing to refuse any more.
    client.write_all(answer.get(sent..).unwrap_or_default()).await.map_err(|_gone| Refused::ClientGone)
}

/// Sends the descriptor with as much of the answer as there is room for, which is at least one byte.
async fn send_first(client: &UnixStream, answer: &[u8], upstream: TcpStream) -> io::Result<usize> {
    // Out of our epoll, which would hear of it for as long as the client has it open; and blocking as a fresh socket
    // is: the flag goes with the descriptor.
    let upstream = upstream.into_std()?;
    upstream.set_nonblocking(false)?;
    // From here to the client's recvmsg it is the kernel's, which closes it if nobody takes it.
    client.async_io(Interest::WRITABLE, || send_with(client, answer, upstream.as_fd())).await
}

fn send_with(client: &UnixStream, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for the descriptor"));
    }
    Ok(sendmsg(client, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn refused(error: io::Error) -> Refused {
    match Errno::from_io_error(&error) {
        Some(Errno::PIPE | Errno::CONNRESET) => Refused::ClientGone,
        // The limit of descriptors, counted once more over those that nobody has taken yet (unix(7)).
        Some(Errno::TOOMANYREFS) => no_handoff("too many are on their way to clients that do not take them".to_owned()),
        _ => no_handoff(reason(&error)),
    }
}

fn no_handoff(why: String) -> Refused {
    Refused::NoHandoff(NoHandoff::System(why))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Ipv4Addr;
    use std::os::fd::OwnedFd;

    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::net::sockopt::set_socket_send_buffer_size;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// An upstream and the node's end of it.
    async fn upstream() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (upstream, listener.accept().await.unwrap().0)
    }

    /// What one recvmsg gets: a single byte, and what comes with it.
    async fn first_byte(client: &UnixStream) -> (u8, Vec<OwnedFd>) {
        let receive = || {
            let mut byte = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            recvmsg(client, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let received = control.drain().flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
                _ => panic!("nothing else is sent"),
            });
            Ok((byte[0], received.collect()))
        };
        client.async_io(Interest::READABLE, receive).await.unwrap()
    }

    #[tokio::test]
    async fn the_descriptor_comes_with_the_first_byte_and_blocks() {
        let (mut daemon, client) = UnixStream::pair().unwrap();
        let (upstream, node) = upstream().await;
        send(&mut daemon, b"answer", upstream).await.unwrap();
        let (byte, mut received) = first_byte(&client).await;
        assert_eq!((byte, received.len()), (b'a', 1));
        let descriptor = received.remove(0);
        assert!(!fcntl_getfl(&descriptor).unwrap().contains(OFlags::NONBLOCK));

        let (mut upstream, mut node) = (std::net::TcpStream::from(descriptor), node.into_std().unwrap());
        node.set_nonblocking(false).unwrap();
        node.write_all(b"from the node").unwrap();
        drop(node);
        let mut said = String::new();
        upstream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "from the node");
    }

    #[tokio::test]
    async fn an_answer_without_room_goes_in_pieces_and_the_descriptor_once() {
        let (mut daemon, mut client) = UnixStream::pair().unwrap();
        // The kernel makes it its own least, which is far less than the answer.
        set_socket_send_buffer_size(&daemon, 1).unwrap();
        let (upstream, mut node) = upstream().await;
        let answer: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let (sent, ()) = tokio::join!(send(&mut daemon, &answer, upstream), async {
            let (first, received) = first_byte(&client).await;
            assert_eq!((first, received.len()), (0, 1));
            drop(received);
            assert_eq!(node.read(&mut [0]).await.unwrap(), 0, "the client had the last descriptor of it");
            let mut rest = vec![0; answer.len() - 1];
            client.read_exact(&mut rest).await.unwrap();
            assert!(rest == answer[1..]);
        });
        sent.unwrap();
    }

    #[tokio::test]
    async fn a_descriptor_that_nobody_takes_is_closed() {
        let (mut daemon, mut client) = UnixStream::pair().unwrap();
        let (upstream, mut node) = upstream().await;
        send(&mut daemon, b"answer", upstream).await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(node.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_that_is_gone_leaves_no_upstream_behind() {
        let (mut daemon, client) = UnixStream::pair().unwrap();
        drop(client);
        let (upstream, mut node) = upstream().await;
        assert!(matches!(send(&mut daemon, b"answer", upstream).await, Err(Refused::ClientGone)));
        assert_eq!(node.read(&mut [0]).await.unwrap(), 0);
    }

    #[test]
    fn what_the_system_refuses_is_said_with_a_way_out() {
        assert_eq!(
            refused(Errno::TOOMANYREFS.into()).to_string(),
            "the system does not pass the descriptor: too many are on their way to clients that do not take them; ask \
             again, or without handoff=1"
        );
        assert!(matches!(refused(Errno::PIPE.into()), Refused::ClientGone));
    }
}
