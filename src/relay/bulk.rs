//! What is done when much begins to move one way.

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use super::direction::Way;
use crate::stream::{Stream, is_local};

/// Readies the socket that much will go to, and says how it goes there best.
pub(super) fn begin(from: &Stream, to: &Stream) -> Way {
    let is_unpaced = match to {
        Stream::Unix(unix) => {
            widen(unix);
            true
        }
        Stream::Tcp(tcp) => unpace(tcp),
        Stream::Tls(_) => return Way::Much,
    };
    match from {
        Stream::Tls(_) => Way::Large,
        // A GB from a Unix socket takes 0.25 s of CPU copied and 0.16 s spliced, but 0.28 s and 0.33 s under BBR.
        Stream::Unix(_) if !is_unpaced => Way::Much,
        Stream::Unix(_) | Stream::Tcp(_) => Way::Splice,
    }
}

/// Lets more bytes wait for a Unix peer, up to net.core.wmem_max; TCP finds its measure by itself.
///
/// The 208 KiB that it has from the start are less than a pipe holds: its reader and we would wait for each other all
/// the time. With more, one stream is twice as fast and costs half.
fn widen(unix: &UnixStream) {
    const WAITING: usize = 1024 * 1024;

    let socket = SockRef::from(unix);
    if socket.send_buffer_size().is_ok_and(|already| already < WAITING) {
        // It is no loss but of speed.
        drop(socket.set_send_buffer_size(WAITING));
    }
}

/// Frees a connection within this machine of the timer that its bytes wait for under BBR; true where they wait for none.
///
/// There is no bottleneck to be found on the way, and the timer halves what one stream carries. Reno is the one
/// algorithm that every Linux has, and that everybody may choose unless net.ipv4.tcp_allowed_congestion_control was
/// changed (tcp(7), TCP_CONGESTION).
fn unpace(tcp: &TcpStream) -> bool {
    let socket = SockRef::from(tcp);
    let paces = socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr"));
    !paces || is_local(tcp) && socket.set_tcp_congestion(b"reno").is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ours, listener.accept().await.unwrap().0)
    }

    fn algorithm(tcp: &TcpStream) -> String {
        let name = SockRef::from(tcp).tcp_congestion().unwrap();
        String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
    }

    #[tokio::test]
    async fn a_connection_within_this_machine_waits_for_no_timer() {
        let (ours, _theirs) = tcp().await;
        if SockRef::from(&ours).set_tcp_congestion(b"bbr").is_ok() {
            assert!(unpace(&ours));
            assert_eq!(algorithm(&ours), "reno");
        }
        if SockRef::from(&ours).set_tcp_congestion(b"reno").is_ok() {
            assert!(unpace(&ours));
        }
    }

    #[tokio::test]
    async fn much_between_plain_sockets_is_spliced() {
        let (unix, _peer) = UnixStream::pair().unwrap();
        let before = SockRef::from(&unix).send_buffer_size().unwrap();
        let (ours, theirs) = tcp().await;
        let [unix, ours, theirs] = [Stream::Unix(unix), Stream::Tcp(ours), Stream::Tcp(theirs)];
        for (from, to) in [(&unix, &ours), (&ours, &unix), (&ours, &theirs)] {
            assert_eq!(begin(from, to), Way::Splice);
        }
        let Stream::Unix(unix) = &unix else { unreachable!() };
        assert!(SockRef::from(unix).send_buffer_size().unwrap() >= before);
    }
}
