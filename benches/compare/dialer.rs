//! The load generator's side of a door: a connection, and one message to and fro.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::task::{Door, MESSAGE};

const HEAD: &[u8] = b"CONNECT db@bench HTTP/1.1\r\nHost: portolan\r\n\r\n";
const HAND_OFF: &[u8] = b"GET /v1/connect/db@bench?handoff=1 HTTP/1.1\r\nHost: portolan\r\n\
    Connection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n";
/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open connection of any kind.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// Opens connections through one door.
pub(crate) struct Dialer<'a> {
    door: &'a Door,
    tls: Option<Arc<ClientConfig>>,
}

impl<'a> Dialer<'a> {
    pub(crate) fn new(door: &'a Door) -> Self {
        let tls = if let Door::Tls { ca, resume, .. } = door {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
            let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            if !resume {
                config.resumption = Resumption::disabled();
            }
            Some(Arc::new(config))
        } else {
            None
        };
        Self { door, tls }
    }

    fn open(&self) -> io::Result<Box<dyn Wire>> {
        match (self.door, &self.tls) {
            (Door::Unix(path), _) => unix(path).map(|stream| Box::new(stream) as _),
            (Door::Head(path), _) => {
                let mut stream = unix(path)?;
                stream.write_all(HEAD)?;
                read_head(&mut stream, &[], b"HTTP/1.1 200 ")?;
                Ok(Box::new(stream))
            }
            (Door::HandOff(path), _) => handed_off(path).map(|stream| Box::new(stream) as _),
            (Door::Tls { address, .. }, Some(config)) => {
                let name = ServerName::IpAddress(IpAddr::from(address.ip()));
                let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Ok(Box::new(StreamOwned::new(connection, tcp(address)?)))
            }
            (Door::Tcp(address) | Door::Tls { address, .. }, _) => tcp(address).map(|stream| Box::new(stream) as _),
        }
    }

    /// A connection that has answered this command; and the answer's mark.
    pub(crate) fn ask(&self, command: u8) -> io::Result<(Box<dyn Wire>, u8)> {
        let mut stream = self.open()?;
        let mark = exchange(&mut *stream, command)?;
        Ok((stream, mark))
    }
}

fn unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn tcp(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The upstream's own socket: it comes with the first byte of the answer.
fn handed_off(path: &Path) -> io::Result<TcpStream> {
    let mut stream = unix(path)?;
    stream.write_all(HAND_OFF)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut first = [0];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut first)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    read_head(&mut stream, &first, b"HTTP/1.1 101 ")?;
    let tcp = TcpStream::from(descriptor.ok_or(io::ErrorKind::InvalidData)?);
    tcp.set_read_timeout(Some(PATIENCE))?;
    Ok(tcp)
}

/// Reads the answer to a head, of which these bytes are here already; the upstream says nothing of its own accord, so
/// nothing of its own can be behind it.
fn read_head(stream: &mut UnixStream, here: &[u8], good: &[u8]) -> io::Result<()> {
    let mut answer = [0; 1024];
    let mut length = here.len();
    answer[..length].copy_from_slice(here);
    while !answer[..length].windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut answer[length..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
    }
    if !answer.starts_with(good) {
        return Err(io::Error::other(String::from_utf8_lossy(&answer[..length])));
    }
    Ok(())
}

/// One message to and fro; the mark of the answer.
pub(crate) fn exchange(stream: &mut dyn Wire, command: u8) -> io::Result<u8> {
    let mut message = [command; MESSAGE];
    stream.write_all(&message)?;
    stream.flush()?;
    stream.read_exact(&mut message)?;
    Ok(message[0])
}
