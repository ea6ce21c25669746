//! The proxies that one would write with tokio in an afternoon: a copy with buffers of 64 KiB, splice(2), and TLS.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, Interest, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;

const BUFFER: usize = 64 << 10;
const PIPE: usize = 256 << 10;
/// Pipes that are kept for the next who needs one.
const SPARE_PIPES: usize = 16;

#[derive(Clone)]
enum Way {
    Copy,
    Splice(Arc<Mutex<Vec<Pipe>>>),
    Tls(TlsConnector),
}

#[derive(Clone)]
struct Upstream {
    way: Way,
    address: SocketAddr,
}

/// `copy UNIX TCP UPSTREAM`, `splice UNIX TCP UPSTREAM` or `tls UNIX TCP UPSTREAM CA`: relays until it is ended.
pub(crate) fn run(arguments: &[&str]) {
    let (way, unix, tcp, upstream) = match *arguments {
        ["copy", unix, tcp, upstream] => (Way::Copy, unix, tcp, upstream),
        ["splice", unix, tcp, upstream] => (Way::Splice(Arc::default()), unix, tcp, upstream),
        ["tls", unix, tcp, upstream, ca] => (Way::Tls(connector(Path::new(ca))), unix, tcp, upstream),
        _ => panic!("no such proxy: {arguments:?}"),
    };
    let upstream = Upstream { way, address: upstream.parse().unwrap() };
    let (unix, tcp) = (PathBuf::from(unix), tcp.parse::<SocketAddr>().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::join!(serve_unix(&unix, &upstream), serve_tcp(tcp, &upstream));
    });
}

async fn serve_unix(path: &Path, upstream: &Upstream) {
    let listener = UnixListener::bind(path).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let upstream = upstream.clone();
        tokio::spawn(async move {
            match upstream.way {
                Way::Splice(_) => upstream.splice(Side::Unix(client)).await,
                Way::Copy | Way::Tls(_) => upstream.copy(client).await,
            }
        });
    }
}

async fn serve_tcp(address: SocketAddr, upstream: &Upstream) {
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let upstream = upstream.clone();
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            match upstream.way {
                Way::Splice(_) => upstream.splice(Side::Tcp(client)).await,
                Way::Copy | Way::Tls(_) => upstream.copy(client).await,
            }
        });
    }
}

impl Upstream {
    async fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn copy(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut tcp = self.dial().await?;
        if let Way::Tls(connector) = &self.way {
            let name = ServerName::IpAddress(IpAddr::from(self.address.ip()));
            let mut tls = connector.connect(name, tcp).await?;
            copy_bidirectional_with_sizes(&mut client, &mut tls, BUFFER, BUFFER).await?;
        } else {
            copy_bidirectional_with_sizes(&mut client, &mut tcp, BUFFER, BUFFER).await?;
        }
        Ok(())
    }

    async fn splice(&self, client: Side) -> io::Result<()> {
        let Way::Splice(spare) = &self.way else { return Ok(()) };
        let tcp = Side::Tcp(self.dial().await?);
        tokio::try_join!(one_way(&client, &tcp, spare), one_way(&tcp, &client, spare))?;
        Ok(())
    }
}

/// A socket of either kind, by its descriptor.
enum Side {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Side {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }

    /// Does this when the socket can, and again when it could not.
    async fn when<T>(&self, interest: Interest, io: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Unix(stream) => stream.async_io(interest, io).await,
            Self::Tcp(stream) => stream.async_io(interest, io).await,
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.readable().await,
            Self::Tcp(stream) => stream.readable().await,
        }
    }

    fn try_read<T>(&self, io: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Unix(stream) => stream.try_io(Interest::READABLE, io),
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, io),
        }
    }
}

/// A pipe that is empty whenever nobody holds it.
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    fn take(spare: &Mutex<Vec<Self>>) -> io::Result<Self> {
        if let Some(pipe) = spare.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A user without privileges gets few large ones; a small one does, too.
        let _size = fcntl_setpipe_size(&into, PIPE);
        Ok(Self { out, into })
    }

    fn put(self, spare: &Mutex<Vec<Self>>) {
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_PIPES {
            spare.push(self);
        }
    }
}

/// Holds a pipe while there is something to be read, and no longer.
async fn one_way(from: &Side, to: &Side, spare: &Mutex<Vec<Pipe>>) -> io::Result<()> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        from.readable().await?;
        let pipe = Pipe::take(spare)?;
        loop {
            let mut left = match from.try_read(|| Ok(splice(from.fd(), None, &pipe.into, None, PIPE, flags)?)) {
                Ok(0) => return Ok(shutdown(to.fd(), Shutdown::Write)?),
                Ok(moved) => moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            while left > 0 {
                let out = || Ok(splice(&pipe.out, None, to.fd(), None, left, flags)?);
                left -= to.when(Interest::WRITABLE, out).await?;
            }
        }
        pipe.put(spare);
    }
}

fn connector(ca: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()).into()
}
