//! `portolan connect NAME`: joins stdin and stdout to a node, for example as an ssh `ProxyCommand`.

mod join;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use httparse::Status;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Exit, NoDaemon, Which, open_socket, socket_candidates};
use crate::node::NodeName;
use crate::request::{CONNECT_PATH, MAX_DEADLINE, MAX_HEAD, MAX_HEADER_LINES, Problem, UPGRADE_PROTOCOL};

/// Join stdin and stdout to a node
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ConnectArgs {
    /// The daemon's socket [default: $PORTOLAN_SOCKET, the configuration's, /run/portolan/portolan.sock,
    /// $XDG_RUNTIME_DIR/portolan/portolan.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How long to wait for the connection, such as 2s; at most 1h, and never longer than the daemon's own limit
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
    /// The node, such as prod-db@10.0.1.50
    #[arg(value_name = "NAME", value_parser = NodeName::parse)]
    pub node: NodeName,
}

/// Runs the command over the process's own stdin, stdout and stderr, and says how it ended: `Ok` when both sides ended
/// in order, `Problems` when stdin or stdout failed, and `Refused`, `Cut` and `NoDaemon`. (A bad node name
/// is a usage error, 2, when the arguments are read.)
///
/// `configured` finds the socket that the configuration names; it is asked only if nothing nearer names one.
pub fn run(args: &ConnectArgs, configured: impl FnOnce() -> Option<PathBuf>) -> Exit {
    let candidates = socket_candidates(Which::Main, args.socket.as_deref(), configured, |name| std::env::var_os(name));
    let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(connect(args, &candidates, tokio::io::stdin(), tokio::io::stdout()));
            // Not a plain drop: that would wait for a read of stdin which nothing may ever end.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Failure::Local("start", error)),
    };
    let Err(failure) = ended else { return Exit::Ok };
    let exit = failure.exit();
    if exit != Exit::Ok {
        // If stderr is gone as well, nobody is left to tell.
        drop(writeln!(io::stderr(), "portolan: {failure}"));
    }
    exit
}

/// Why the command ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    NoDaemon(#[from] NoDaemon),
    #[error("what listens there is no portolan daemon, or it is broken: {0}")]
    NoAnswer(String),
    #[error("{}", told(.0))]
    Refused(Box<Problem>),
    #[error("the connection was cut: {0}")]
    Cut(io::Error),
    #[error("cannot {0}: {1}")]
    Local(&'static str, io::Error),
    /// Whoever read our output is gone and wants no more of it, which is not worth a word.
    #[error("nobody reads stdout")]
    OutputGone,
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::OutputGone => Exit::Ok,
            Self::Local(..) => Exit::Problems,
            Self::Refused(_) => Exit::Refused,
            Self::Cut(_) => Exit::Cut,
            Self::NoDaemon(_) | Self::NoAnswer(_) => Exit::NoDaemon,
        }
    }
}

/// How much later than its own deadline a daemon may answer before it is taken for dead.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// The whole command, over any input and output.
async fn connect<I, O>(args: &ConnectArgs, candidates: &[PathBuf], input: I, output: O) -> Result<(), Failure>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let mut stream = open_socket(Which::Main, candidates).await?;
    let asked = ask(&mut stream, &args.node, args.timeout);
    let tail = match args.timeout {
        None => asked.await?,
        Some(timeout) => match tokio::time::timeout(timeout + ANSWER_MARGIN, asked).await {
            Ok(asked) => asked?,
            Err(_elapsed) => return Err(Failure::NoAnswer("it did not answer in time".to_owned())),
        },
    };
    join::join(stream, &tail, input, output).await
}

/// Asks for the node; the bytes that came behind the answer are the node's first.
async fn ask(stream: &mut UnixStream, node: &NodeName, timeout: Option<Duration>) -> Result<Vec<u8>, Failure> {
    // A daemon that is full may answer and close before it reads: its answer is what counts, not this error.
    let _answer_counts = stream.write_all(request(node, timeout).as_bytes()).await;
    let mut held = Vec::with_capacity(MAX_HEAD);
    let head = loop {
        if let Some(head) = AnswerHead::parse(&held)? {
            break head;
        }
        if held.len() > MAX_ANSWER {
            return Err(Failure::NoAnswer("its answer does not end".to_owned()));
        }
        match stream.read_buf(&mut held).await {
            Ok(0) => return Err(Failure::NoAnswer("it ended the connection without an answer".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Failure::NoAnswer(error.to_string())),
        }
    };
    let mut body = held.split_off(head.len);
    if head.status == 101 {
        return Ok(body);
    }
    let length = head.content_length.unwrap_or(MAX_ANSWER).min(MAX_ANSWER);
    let missing = length.saturating_sub(body.len());
    // However the body ends, it is judged by what has come.
    let _judged_below = stream.take(missing as u64).read_to_end(&mut body).await;
    body.truncate(length);
    match serde_json::from_slice(&body) {
        Ok(problem) => Err(Failure::Refused(Box::new(problem))),
        Err(_not_ours) => Err(Failure::NoAnswer(format!("it answered with the HTTP status {}", head.status))),
    }
}

/// The longest answer that is read, in bytes; the daemon's own are far shorter.
const MAX_ANSWER: usize = 1 << 20;

/// Left as they are in a path: RFC 3986's unreserved characters, and the `@` of nearly every name.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

fn request(node: &NodeName, timeout: Option<Duration>) -> String {
    let name = utf8_percent_encode(node.as_str(), ENCODED);
    let query = timeout.map(|timeout| format!("?deadline={}us", timeout.as_micros())).unwrap_or_default();
    format!(
        "GET {CONNECT_PATH}{name}{query} HTTP/1.1\r\nHost: portolan\r\n\
         Connection: Upgrade\r\nUpgrade: {UPGRADE_PROTOCOL}\r\n\r\n"
    )
}

/// What the client needs of the answer's head.
struct AnswerHead {
    status: u16,
    content_length: Option<usize>,
    /// Its bytes, the empty line with them.
    len: usize,
}

impl AnswerHead {
    /// `None`: it is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADER_LINES];
        let mut response = httparse::Response::new(&mut lines);
        match response.parse(bytes) {
            Ok(Status::Partial) => Ok(None),
            Ok(Status::Complete(len)) => {
                let length = response.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
                let content_length = length.and_then(|line| str::from_utf8(line.value).ok()?.parse().ok());
                Ok(Some(Self { status: response.code.unwrap_or_default(), content_length, len }))
            }
            Err(error) => Err(Failure::NoAnswer(format!("it does not speak HTTP/1.1: {error}"))),
        }
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout >= Duration::from_micros(1) && timeout <= MAX_DEADLINE => Ok(timeout),
        Ok(_) => Err("it must be more than 0 and at most 1h".to_owned()),
        Err(error) => Err(format!("{error}; write a duration such as 2s or 1500ms")),
    }
}

/// A refusal, and each attempt on a line of its own. Peers and files wrote parts of it, so it may not steer a terminal.
fn told(problem: &Problem) -> String {
    let mut lines = vec![format!("refused: {}", problem.detail)];
    for attempt in &problem.attempts {
        let (address, stage, error) = (&attempt.address, &attempt.stage, &attempt.error);
        lines.push(format!("  {address}, {stage}: {error} ({} ms), route {}", attempt.ms, attempt.pattern));
    }
    if problem.more_attempts > 0 {
        lines.push(format!("  and {} more attempts", problem.more_attempts));
    }
    lines.iter().map(|line| line.replace(char::is_control, "\u{fffd}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
