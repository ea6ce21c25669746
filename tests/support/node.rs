//! Scripted nodes on ports given by the kernel.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use socket2::SockRef;

/// A node that serves each connection with a script; it ends when it is dropped.
pub struct Node {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// A node with this script.
    pub fn new(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// A node at an address that was a node's before.
    pub fn at(address: SocketAddr, script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(1024).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let (ended, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count, script) = (Arc::clone(&ended), Arc::clone(&accepted), Arc::new(script));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                thread::spawn(move || script(stream));
            }
        });
        Self { address, ended, accepted, thread: Some(thread) }
    }

    /// Says its name and a line end, then echoes until the client ends.
    pub fn named(name: &'static str) -> Self {
        Self::new(move |stream| greet_and_echo(stream, name))
    }

    /// Echoes until the client ends.
    pub fn echo() -> Self {
        Self::new(|stream| greet_and_echo(stream, ""))
    }

    /// Resets each connection as soon as it has read a byte.
    pub fn resetting() -> Self {
        Self::new(|mut stream| {
            drop(stream.read(&mut [0]));
            SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// A `[[route]]` to it.
    pub fn route(&self, pattern: &str, more: &str) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!("[[route]]\nmatch = '{pattern}'\nhost = \"{host}\"\nport = {port}\n{more}\n\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accept, which then sees that it has ended and closes the listener.
        drop(TcpStream::connect(self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn greet_and_echo(mut stream: TcpStream, name: &str) {
    if !name.is_empty() && stream.write_all(format!("{name}\n").as_bytes()).is_err() {
        return;
    }
    let mut buffer = vec![0; 65536];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// A port of loopback where nothing listens. It stays bound, and so free of others, for as long as this lives.
pub struct DeadPort(socket2::Socket);

impl DeadPort {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self(socket)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }

    /// A `[[route]]` to it.
    pub fn route(&self, pattern: &str, more: &str) -> String {
        let port = self.port();
        format!("[[route]]\nmatch = '{pattern}'\nhost = \"127.0.0.1\"\nport = {port}\n{more}\n\n")
    }
}

/// A port of loopback whose backlog is full: a SYN to it gets no answer.
pub struct FullBacklog {
    listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl FullBacklog {
    pub fn new() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into())
    }

    pub fn at(address: SocketAddr) -> Self {
        let socket = |kind| socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        let listener = socket(socket2::Type::STREAM);
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        // A backlog of 0 holds one; the kernel drops the SYN of those beyond.
        let waiting = (0..4).map(|_| {
            let client = socket(socket2::Type::STREAM.nonblocking());
            drop(client.connect(&address));
            client
        });
        let waiting = waiting.collect();
        Self { listener, _waiting: waiting }
    }

    /// A `[[route]]` to it.
    pub fn route(&self, pattern: &str, more: &str) -> String {
        let port = self.listener.local_addr().unwrap().as_socket().unwrap().port();
        format!("[[route]]\nmatch = '{pattern}'\nhost = \"127.0.0.1\"\nport = {port}\n{more}\n\n")
    }
}
