//! The upstream: a process of its own that does what its clients' messages say. It prints its address.
//!
//! Plain threads and blocking sockets; each thread accepts and serves one connection after the other, so that none is
//! started while something is measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::task::{ASK, DOWNLOAD, HOLD, Kind, MESSAGE, UNIT, UPLOAD};

/// More than any load has connections that talk.
const THREADS: usize = 256;
/// What programs usually take. Direct alone gains by a larger one.
const BUFFER: usize = 64 << 10;

/// Serves until it is ended.
pub(crate) fn run(kind: Kind, folder: &Path) {
    match kind {
        Kind::Plain { mark } => serve(bind(), |tcp| talk(tcp, mark)),
        Kind::Tls { resume } => {
            let config = tls_config(folder, resume);
            // A process's first random bytes take some 25 ms to gather, which is nobody's handshake.
            aws_lc_rs::rand::fill(&mut [0; 32]).unwrap();
            serve(bind(), move |tcp| {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                talk(StreamOwned::new(connection, tcp), ASK)
            });
        }
        Kind::Blackhole => blackhole(),
        Kind::Silent => serve(bind(), Some),
    }
}

fn bind() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

fn say_where(listener: &TcpListener) {
    println!("{}", listener.local_addr().unwrap());
}

/// What `talk` returns is kept open.
fn serve<T>(listener: TcpListener, talk: impl Fn(TcpStream) -> Option<T> + Sync) {
    say_where(&listener);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut held = Vec::new();
                loop {
                    let (tcp, _) = listener.accept().unwrap();
                    tcp.set_nodelay(true).unwrap();
                    held.extend(talk(tcp));
                }
            });
        }
    });
}

/// Does as it is told until the client goes away; `Some` is a connection to be held.
fn talk<S: Read + Write>(mut stream: S, mark: u8) -> Option<S> {
    let mut message = [0; MESSAGE];
    loop {
        stream.read_exact(&mut message).ok()?;
        match message[0] {
            ASK | HOLD => {}
            DOWNLOAD => {
                let bytes = vec![0; BUFFER];
                loop {
                    stream.write_all(&bytes).ok()?;
                }
            }
            UPLOAD => swallow(&mut stream)?,
            other => panic!("no command is {other}"),
        }
        let hold = message[0] == HOLD;
        message[0] = mark;
        stream.write_all(&message).ok()?;
        stream.flush().ok()?;
        if hold {
            return Some(stream);
        }
    }
}

fn swallow(stream: &mut impl Read) -> Option<()> {
    let mut buffer = vec![0; BUFFER];
    let mut left = UNIT;
    while left > 0 {
        let most = left.min(BUFFER);
        left -= stream.read(&mut buffer[..most]).ok().filter(|&read| read > 0)?;
    }
    Some(())
}

/// Listens, and fills its own backlog with connections that nobody accepts: Linux drops the SYNs of all others.
fn blackhole() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let filler = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    say_where(&listener);
    thread::park();
    drop(filler);
}

fn tls_config(folder: &Path, resume: bool) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("node.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("node.key")).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    if resume {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    } else {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Arc::new(config)
}
