//! The far ends of the relays under test: real sockets of every kind.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::close::Closed;
use crate::relay::Relay;
use crate::relay::register::testing::registered;
use crate::stream::{ReadAhead, Stream};

/// How the client is connected, and how the upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    UnixTcp,
    TcpTcp,
    UnixTls,
    TcpTls,
}

pub(super) const KINDS: [Kind; 4] = [Kind::UnixTcp, Kind::TcpTcp, Kind::UnixTls, Kind::TcpTls];

impl Kind {
    /// A reset can't be seen on a Unix socket.
    pub(super) fn client_is_unix(self) -> bool {
        matches!(self, Self::UnixTcp | Self::UnixTls)
    }

    pub(super) fn upstream_is_tls(self) -> bool {
        matches!(self, Self::UnixTls | Self::TcpTls)
    }

    /// The client, the upstream, and a relay between them that does not run yet.
    pub(super) async fn open(self, tail: &[u8]) -> (Peer, Peer, Relay) {
        let (ours, client) = if self.client_is_unix() {
            let (ours, client) = UnixStream::pair().unwrap();
            (Stream::Unix(ours), Stream::Unix(client))
        } else {
            let (ours, client) = tcp_pair().await;
            (Stream::Tcp(ours), Stream::Tcp(client))
        };
        let (to_upstream, upstream) = tcp_pair().await;
        let (to_upstream, upstream) = if self.upstream_is_tls() {
            let (to_upstream, upstream) = tls_pair(to_upstream, upstream).await;
            (Stream::Tls(Box::new(to_upstream)), Peer::Tls(Box::new(upstream)))
        } else {
            (Stream::Tcp(to_upstream), Peer::Plain(Stream::Tcp(upstream)))
        };
        (Peer::Plain(client), upstream, Relay::between(ours, to_upstream, tail.to_vec()))
    }

    /// The client, the upstream, and a running relay.
    pub(super) async fn connect(self) -> (Peer, Peer, JoinHandle<Closed>) {
        let (client, upstream, relay) = self.open(b"").await;
        (client, upstream, tokio::spawn(relay.until_closed(registered())))
    }
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (other, _) = listener.accept().await.unwrap();
    for stream in [&one, &other] {
        stream.set_nodelay(true).unwrap();
    }
    (one, other)
}

async fn tls_pair(
    client: TcpStream,
    server: TcpStream,
) -> (tokio_rustls::client::TlsStream<ReadAhead>, TlsStream<TcpStream>) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
    let (for_client, for_server) = CONFIGS.get_or_init(tls_configs);
    let connect =
        TlsConnector::from(Arc::clone(for_client)).connect("node".try_into().unwrap(), ReadAhead::new(client));
    let accept = TlsAcceptor::from(Arc::clone(for_server)).accept(server);
    tokio::try_join!(connect, accept).unwrap()
}

fn tls_configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let node = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(node.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(node.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(default_provider().into()).with_safe_default_protocol_versions();
    let server = ServerConfig::builder_with_provider(default_provider().into()).with_safe_default_protocol_versions();
    (
        Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth()),
        Arc::new(server.unwrap().with_no_client_auth().with_single_cert(vec![node.cert.der().clone()], key).unwrap()),
    )
}

/// A client or a node.
#[derive(Debug)]
pub(super) enum Peer {
    Plain(Stream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Peer {
    /// Closes TCP by a reset; a Unix socket is just closed.
    pub(super) fn reset(self) {
        match self {
            Self::Plain(stream) => stream.reset_on_drop(),
            Self::Tls(tls) => Stream::Tcp(tls.into_inner().0).reset_on_drop(),
        }
    }

    /// Ends TCP in order, without the close_notify that TLS wants.
    pub(super) fn end_without_notice(self) {
        match self {
            Self::Plain(stream) => drop(stream),
            Self::Tls(tls) => drop(tls.into_inner()),
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
