//! A client of the daemon, for programs: asks on the socket to be connected to a node by name.
//!
//! ```
//! use std::time::Duration;
//!
//! use portolan::client::Client;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! /// What the node says to a question.
//! async fn ask(client: &Client, question: &str) -> Result<String, Box<dyn std::error::Error>> {
//!     let mut tunnel = client.connect("prod-db@10.0.1.50").deadline(Duration::from_secs(2)).open().await?;
//!     tunnel.write_all(question.as_bytes()).await?;
//!     tunnel.shutdown().await?;
//!     let mut answer = String::new();
//!     tunnel.read_to_string(&mut answer).await?;
//!     Ok(answer)
//! }
//! # use std::io::{Read, Write};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("s");
//! # let listener = std::os::unix::net::UnixListener::bind(&path)?;
//! # let daemon = std::thread::spawn(move || -> std::io::Result<()> {
//! #     let (mut client, _) = listener.accept()?;
//! #     client.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\nan answer")?;
//! #     client.read_to_end(&mut Vec::new()).map(drop)
//! # });
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # assert_eq!(runtime.block_on(ask(&Client::at(path), "a question"))?, "an answer");
//! # daemon.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Client::find`] looks for the daemon where every client does.
//!
//! With [`Connect::handoff`] the connection itself comes over the socket, and no byte of it goes through the daemon.
//! Whether it may is the route's to say, and so the operator's: who can do without asks again.
//!
//! ```no_run
//! # async fn example() -> Result<(), portolan::client::ConnectError> {
//! use portolan::client::{Client, ConnectError};
//!
//! let client = Client::find();
//! match client.connect("prod-db@10.0.1.50").handoff().open().await {
//!     Ok(tcp) => println!("connected to {:?}", tcp.peer_addr()),
//!     Err(ConnectError::Refused(problem)) if problem.code == "no_handoff" => {
//!         let _relayed = client.connect("prod-db@10.0.1.50").open().await?;
//!     }
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

mod ask;
mod find;
mod lease;
mod tunnel;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub use find::{NoDaemon, Which, configured_socket, open_socket, socket_candidates};
pub use tunnel::Tunnel;

use crate::node::{BadNodeName, NodeName};
use crate::request::{LeaseView, Problem};
use ask::{Answer, Question};

/// Knows where the daemon is; every request opens a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    sockets: Vec<PathBuf>,
}

impl Client {
    /// Of the daemon where every client looks: `$PORTOLAN_SOCKET`, else `socket.path` of the configuration, else
    /// `/run/portolan/portolan.sock`, then `$XDG_RUNTIME_DIR/portolan/portolan.sock`.
    pub fn find() -> Self {
        Self::among(socket_candidates(Which::Main, None, configured_socket, |name| std::env::var_os(name)))
    }

    /// Of the daemon with this socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self::among(vec![socket.into()])
    }

    /// Of the first daemon that listens.
    pub(crate) fn among(sockets: Vec<PathBuf>) -> Self {
        Self { sockets }
    }

    /// A forward to a node for this process's user: every connection to its address is one to the node. It ends when it
    /// is of no use for `idle_timeout_ms`, so ask before each connection; asked again it is the same one. Nobody is
    /// dialed for it: a node that cannot be reached resets the connection.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let lease = portolan::client::Client::find().lease("prod-db@10.0.1.50").await?;
    /// let tcp = tokio::net::TcpStream::connect((lease.host.as_str(), lease.port)).await?;
    /// # drop(tcp);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lease(&self, node: &str) -> Result<LeaseView, ConnectError> {
        let node = NodeName::parse(node)?;
        let mut stream = open_socket(Which::Main, &self.sockets).await?;
        lease::ask(&mut stream, &node).await
    }

    /// A request to be connected to a node; nothing is asked before `open`.
    pub fn connect<'a>(&'a self, node: &'a str) -> Connect<'a> {
        Connect { client: self, node, deadline: None }
    }
}

/// A request that is not made yet.
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is asked before `open`"]
pub struct Connect<'a> {
    client: &'a Client,
    node: &'a str,
    deadline: Option<Duration>,
}

impl<'a> Connect<'a> {
    /// How much later than its own deadline a daemon may answer before it is taken for dead.
    const MARGIN: Duration = Duration::from_secs(1);

    /// How long to wait for the connection: more than 0, at most 1 h, and never longer than the daemon's
    /// `dial.establish`, which also holds without it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Asks for the connection itself in place of a relay. Only a route of plain TCP can give it: otherwise the request
    /// is refused as `no_handoff`.
    pub fn handoff(self) -> Handoff<'a> {
        Handoff(self)
    }

    /// Asks, and waits for the answer.
    pub async fn open(self) -> Result<Tunnel, ConnectError> {
        let (stream, answer) = self.ask(false).await?;
        Ok(Tunnel::new(stream, answer.tail))
    }

    async fn ask(self, handoff: bool) -> Result<(UnixStream, Answer), ConnectError> {
        let question = Question { node: NodeName::parse(self.node)?, deadline: self.deadline, handoff };
        let mut stream = open_socket(Which::Main, &self.client.sockets).await?;
        let asked = question.ask(&mut stream);
        let answer = match self.deadline {
            None => asked.await?,
            Some(deadline) => match timeout(deadline.saturating_add(Self::MARGIN), asked).await {
                Ok(answer) => answer?,
                Err(_elapsed) => return Err(ConnectError::NoAnswer("it did not answer in time".to_owned())),
            },
        };
        Ok((stream, answer))
    }
}

/// A request for the connection itself that is not made yet.
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is asked before `open`"]
pub struct Handoff<'a>(Connect<'a>);

impl Handoff<'_> {
    /// As [`Connect::deadline`].
    pub fn deadline(self, deadline: Duration) -> Self {
        Self(self.0.deadline(deadline))
    }

    /// Asks, and waits for the answer. The stream is this process's alone: neither a reload nor the end of the daemon
    /// touches it. It has `TCP_NODELAY`, keepalive and `TCP_USER_TIMEOUT` set, as the daemon's own have.
    pub async fn open(self) -> Result<TcpStream, ConnectError> {
        let (_asked, answer) = self.0.ask(true).await?;
        if !answer.handed_off {
            return Err(ConnectError::NoAnswer("it connected without a hand-off".to_owned()));
        }
        let full = || io::Error::other("the system had no room for it; is the limit of descriptors reached?");
        let stream = std::net::TcpStream::from(answer.descriptor.ok_or_else(full)?);
        // It comes blocking, as every program expects it.
        stream.set_nonblocking(true)?;
        Ok(TcpStream::from_std(stream)?)
    }
}

/// Why a program is not connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name can't be a node's.
    #[error(transparent)]
    BadName(#[from] BadNodeName),
    /// Nobody listens on the socket.
    #[error(transparent)]
    NoDaemon(#[from] NoDaemon),
    /// Somebody does who answers as no daemon would, or not at all.
    #[error("what listens there is no portolan daemon, or it is broken: {0}")]
    NoAnswer(String),
    /// The daemon says no, and why: `code` is for programs, `attempts` has each attempt.
    #[error("refused: {}", .0.detail)]
    Refused(Box<Problem>),
    /// The daemon has handed the connection off, and it did not arrive.
    #[error("the descriptor did not arrive: {0}")]
    NoDescriptor(#[from] io::Error),
}
