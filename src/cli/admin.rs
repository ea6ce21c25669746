//! Asks the daemon on its admin socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::console::Console;
use super::{Exit, NoDaemon, Which, open_socket, socket_candidates};
use crate::admin::view::{ErrorView, ProblemView};
use crate::config::{self, visible};

/// Which daemon.
#[derive(Debug, Args)]
pub(super) struct AdminArguments {
    /// The daemon's admin socket [default: $PORTOLAN_ADMIN, the configuration's, /run/portolan/admin.sock,
    /// $XDG_RUNTIME_DIR/portolan/admin.sock]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

/// A daemon that can be asked.
pub(super) struct Admin {
    candidates: Vec<PathBuf>,
    runtime: Runtime,
}

/// Why there is no answer, or none that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody listens.
    #[error(transparent)]
    NoDaemon(#[from] NoDaemon),
    /// What listens there speaks otherwise.
    #[error("what listens there is no portolan daemon, or it is broken: {0}")]
    NoAnswer(String),
    /// The daemon refuses.
    #[error("{}", .0.detail)]
    Refused(Box<ErrorView>),
    /// This process cannot go on.
    #[error("cannot start: {0}")]
    Local(#[from] io::Error),
}

/// A page of a list is at most this large.
const MAX_ANSWER: usize = 64 << 20;

/// How long a daemon may take to answer. A reload of a large table takes seconds.
const PATIENCE: Duration = Duration::from_secs(300);

impl Admin {
    /// Finds out where to ask; nothing is asked yet.
    pub(super) fn new(arguments: &AdminArguments) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var_os(name);
        let candidates = socket_candidates(Which::Admin, arguments.admin.as_deref(), configured, variable);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { candidates, runtime })
    }

    /// GET of a path, with its query.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None)
    }

    /// POST of JSON, or of nothing.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: Option<String>) -> Result<T, Failure> {
        self.ask(Method::POST, path, body)
    }

    /// DELETE of a path.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, None)
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<String>) -> Result<T, Failure> {
        let asked = async {
            match tokio::time::timeout(PATIENCE, exchange(&self.candidates, method, path, body)).await {
                Ok(answered) => answered,
                Err(_elapsed) => Err(Failure::NoAnswer("it did not answer in time".to_owned())),
            }
        };
        let (status, body) = self.runtime.block_on(asked)?;
        let strange = |error: serde_json::Error| Failure::NoAnswer(format!("{status}, and {error}"));
        if status.is_success() {
            serde_json::from_slice(&body).map_err(strange)
        } else {
            Err(Failure::Refused(Box::new(serde_json::from_slice(&body).map_err(strange)?)))
        }
    }
}

/// One request on a connection of its own.
async fn exchange(
    candidates: &[PathBuf],
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), Failure> {
    let broken = |error: &dyn std::error::Error| Failure::NoAnswer(error.to_string());
    let stream = open_socket(Which::Admin, candidates).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "portolan");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::<Bytes>::from(body.unwrap_or_default())).map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| Failure::NoAnswer(error.to_string()))?.to_bytes();
    connection.abort();
    Ok((status, body))
}

/// The admin socket of the configuration, if there is one that can be read.
fn configured() -> Option<PathBuf> {
    let path = config::find_config(None).ok()?;
    let config = config::read_config(&path, config::Scope::Text, &mut config::Problems::default())?;
    config.admin.path.or_else(|| Some(config.socket.path?.with_file_name("admin.sock")))
}

impl Failure {
    /// Says what is wrong, and how the command ends with it: files with problems are the caller's to mend.
    pub(super) fn tell(&self, console: &mut Console<'_>) -> io::Result<Exit> {
        if let Self::Refused(error) = self {
            show(&error.problems, console)?;
        }
        match self {
            // The one problem has been said in full.
            Self::Refused(error) if matches!(error.problems.as_slice(), [only] if only.message == error.detail) => {}
            // Several lines, of our own words.
            Self::NoDaemon(error) => writeln!(console.err, "error: {error}")?,
            error => console.complain(&error.to_string())?,
        }
        Ok(match self {
            Self::NoDaemon(_) | Self::NoAnswer(_) => Exit::NoDaemon,
            Self::Refused(error) if error.code == "invalid" => Exit::Problems,
            Self::Refused(_) => Exit::Refused,
            Self::Local(_) => Exit::Problems,
        })
    }
}

/// Shows problems as `check` does.
pub(super) fn show(problems: &[ProblemView], console: &mut Console<'_>) -> io::Result<()> {
    for problem in problems {
        for line in problem.rendered.trim_end().lines() {
            writeln!(console.err, "{}", visible(line))?;
        }
        writeln!(console.err)?;
    }
    Ok(())
}
