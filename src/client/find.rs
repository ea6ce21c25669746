//! Where a client finds the daemon's socket.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use crate::config;

/// Which of the daemon's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Where clients ask: `--socket`, `$PORTOLAN_SOCKET`, `portolan.sock`.
    Main,
    /// The admin API: `--admin`, `$PORTOLAN_ADMIN`, `admin.sock`.
    Admin,
}

impl Which {
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Main => ("--socket", "PORTOLAN_SOCKET", "portolan.sock"),
            Self::Admin => ("--admin", "PORTOLAN_ADMIN", "admin.sock"),
        }
    }
}

/// The sockets to try, in this order; never empty.
///
/// What was named wins alone, so that a command never talks to another daemon than the one that was meant: `asked`
/// (`--socket`), then `$PORTOLAN_SOCKET`, then what `configured` yields. Without any of them it is
/// `/run/portolan/portolan.sock`, then `$XDG_RUNTIME_DIR/portolan/portolan.sock`. For the admin socket the names are
/// those of [`Which::Admin`]. `variable` reads the environment ([`std::env::var_os`]); an empty variable is an unset
/// one.
pub fn socket_candidates(
    which: Which,
    asked: Option<&Path>,
    configured: impl FnOnce() -> Option<PathBuf>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<PathBuf> {
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (_, name, file) = which.words();
    let named = asked.map(Path::to_owned).or_else(|| variable(name)).or_else(configured);
    if let Some(named) = named {
        return vec![named];
    }
    [Some(PathBuf::from("/run")), variable("XDG_RUNTIME_DIR")]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("portolan").join(file))
        .collect()
}

/// The main socket that the configuration names, if there is one that can be read.
pub fn configured_socket() -> Option<PathBuf> {
    let path = config::find_config(None).ok()?;
    config::read_config(&path, config::Scope::Text, &mut config::Problems::default())?.socket.path
}

/// Opens the first of the candidates on which somebody listens.
pub async fn open_socket(which: Which, candidates: &[PathBuf]) -> Result<UnixStream, NoDaemon> {
    let mut tried = Vec::new();
    for path in candidates {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tried.push((path.clone(), error)),
        }
    }
    Err(NoDaemon { which, tried })
}

/// Nobody listens on any of the sockets.
#[derive(Debug)]
pub struct NoDaemon {
    /// Of which kind they are.
    pub which: Which,
    /// The paths, and why each of them could not be opened.
    pub tried: Vec<(PathBuf, io::Error)>,
}

impl std::error::Error for NoDaemon {}

impl fmt::Display for NoDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no daemon there; tried")?;
        for (path, error) in &self.tried {
            write!(f, "  {}: ", path.display())?;
            match error.kind() {
                io::ErrorKind::NotFound => writeln!(f, "there is no such socket")?,
                io::ErrorKind::ConnectionRefused => writeln!(f, "nobody listens on it any more")?,
                io::ErrorKind::PermissionDenied => writeln!(f, "permission denied: ask who may open it")?,
                _ => writeln!(f, "{error}")?,
            }
        }
        let (flag, variable, _) = self.which.words();
        write!(f, "start one with `portolan run`, or name its socket with {flag} or ${variable}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(asked: Option<&str>, configured: Option<&str>, environment: &[(&str, &str)]) -> Vec<PathBuf> {
        let variable = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        socket_candidates(Which::Main, asked.map(Path::new), || configured.map(PathBuf::from), variable)
    }

    #[test]
    fn what_was_named_wins_alone() {
        let environment = [("PORTOLAN_SOCKET", "/env"), ("XDG_RUNTIME_DIR", "/xdg")];
        assert_eq!(paths(Some("/asked"), Some("/conf"), &environment), [Path::new("/asked")]);
        assert_eq!(paths(None, Some("/conf"), &environment), [Path::new("/env")]);
        assert_eq!(paths(None, Some("/conf"), &[("PORTOLAN_SOCKET", "")]), [Path::new("/conf")]);
    }

    #[test]
    fn without_a_name_the_system_comes_before_the_user() {
        let system = Path::new("/run/portolan/portolan.sock");
        assert_eq!(paths(None, None, &[]), [system]);
        assert_eq!(
            paths(None, None, &[("XDG_RUNTIME_DIR", "/run/user/7")]),
            [system, Path::new("/run/user/7/portolan/portolan.sock")]
        );
    }

    #[tokio::test]
    async fn the_first_that_listens_is_opened_and_otherwise_all_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let [gone, left, live] = ["gone", "left", "live"].map(|name| folder.path().join(name));
        drop(tokio::net::UnixListener::bind(&left).unwrap());
        let both = [gone.clone(), left.clone()];
        assert_eq!(
            open_socket(Which::Main, &both).await.unwrap_err().to_string(),
            format!(
                "no daemon there; tried\n  {}: there is no such socket\n  {}: nobody listens on it any more\n\
                 start one with `portolan run`, or name its socket with --socket or $PORTOLAN_SOCKET",
                gone.display(),
                left.display()
            )
        );
        let _listener = tokio::net::UnixListener::bind(&live).unwrap();
        assert!(open_socket(Which::Main, &[gone, left, live]).await.is_ok());
    }
}
