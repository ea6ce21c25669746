//! `portolan connect NAME`: joins stdin and stdout to a node, for example as an ssh `ProxyCommand`.

mod join;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Exit, Which, socket_candidates};
use crate::client::{Client, ConnectError};
use crate::node::NodeName;
use crate::request::{FailedAttempt, MAX_DEADLINE};

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
    let asked = args.socket.as_deref();
    let client = Client::among(socket_candidates(Which::Main, asked, configured, |name| std::env::var_os(name)));
    let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(connect(args, &client, tokio::io::stdin(), tokio::io::stdout()));
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
    #[error("{}", told(.0))]
    NotConnected(#[from] ConnectError),
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
            Self::NotConnected(ConnectError::Refused(_)) => Exit::Refused,
            Self::Cut(_) => Exit::Cut,
            Self::NotConnected(_) => Exit::NoDaemon,
        }
    }
}

/// The whole command, over any input and output.
async fn connect<I, O>(args: &ConnectArgs, client: &Client, input: I, output: O) -> Result<(), Failure>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let asked = client.connect(args.node.as_str());
    let asked = args.timeout.map_or(asked, |timeout| asked.deadline(timeout));
    let (stream, tail) = asked.open().await?.into_parts();
    join::join(stream, &tail, input, output).await
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout >= Duration::from_micros(1) && timeout <= MAX_DEADLINE => Ok(timeout),
        Ok(_) => Err("it must be more than 0 and at most 1h".to_owned()),
        Err(error) => Err(format!("{error}; write a duration such as 2s or 1500ms")),
    }
}

/// A refusal, and each attempt on a line of its own. Peers and files wrote parts of it, so it may not steer a terminal.
fn told(error: &ConnectError) -> String {
    let ConnectError::Refused(problem) = error else { return error.to_string() };
    let mut lines = vec![error.to_string()];
    for attempt in &problem.attempts {
        let (address, stage, error) = (&attempt.address, &attempt.stage, &attempt.error);
        lines.push(format!("  {address}, {stage}: {error} ({} ms){}", attempt.ms, course(attempt)));
    }
    if problem.more_attempts > 0 {
        lines.push(format!("  and {} more attempts", problem.more_attempts));
    }
    lines.iter().map(|line| line.replace(char::is_control, "\u{fffd}")).collect::<Vec<_>>().join("\n")
}

/// What an attempt was made for, behind it.
fn course(attempt: &FailedAttempt) -> String {
    let route = attempt.pattern.as_ref().map(|pattern| format!(", route {pattern}"));
    let resolver = attempt.resolver.as_ref().map(|resolver| format!(", resolver {resolver}"));
    route.into_iter().chain(resolver).collect()
}

#[cfg(test)]
mod tests;
