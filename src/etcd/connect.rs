//! A connection to an endpoint.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};

use super::{EtcdConfig, EtcdTls};
use crate::aside::blocking;
use crate::config::visible;

/// A call takes no longer, and neither does a connect.
pub(super) const CALL: Duration = Duration::from_secs(5);

/// How long a connection may be silent before it is asked whether it is there. etcd hangs up on who asks more often than
/// every 5 s.
const PING: Duration = Duration::from_secs(10);

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", told(.0))]
    Etcd(#[from] Error),
    /// A file or a secret cannot be had.
    #[error("{0}")]
    File(String),
}

/// Files and secrets are read anew: they may have changed since.
pub(super) async fn connect(config: &EtcdConfig, endpoint: &str) -> Result<Client, Failure> {
    let (config, is_tls) = (config.clone(), endpoint.starts_with("https:"));
    let read = blocking(move || options(&config, is_tls)).await;
    let options = read.map_err(|panic| Failure::File(panic.to_string()))?.map_err(Failure::File)?;
    Ok(Client::connect([endpoint], Some(options)).await?)
}

/// What an error says on one line, without the words of the protocol beneath, but with what lies at the bottom of it: a
/// connection that is refused, a certificate that nobody trusts.
pub(super) fn told(error: &Error) -> String {
    let (mut said, mut beneath) = match error {
        Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        other => (other.to_string(), other.source()),
    };
    while let Some(source) = beneath {
        beneath = source.source();
        let bottom = source.to_string();
        if beneath.is_none() && !said.contains(&bottom) {
            said = format!("{said}: {bottom}");
        }
    }
    visible(&said).into_owned()
}

fn options(config: &EtcdConfig, is_tls: bool) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CALL)
        .with_keep_alive(PING, CALL)
        .with_keep_alive_while_idle(true)
        // A member that is cut off from the others would else say nothing to a watch, for as long as that lasts.
        .with_require_leader(true)
        .with_tcp_keepalive(PING);
    if is_tls {
        // The library by itself would trust nobody.
        options = options.with_tls(tls(config.tls.as_ref().unwrap_or(&EtcdTls::default()))?);
    }
    if let Some((user, password)) = &config.user {
        options = options.with_user(user, password.read()?).with_auto_token_refresh(true);
    }
    Ok(options)
}

fn tls(tls: &EtcdTls) -> Result<TlsOptions, String> {
    let file = |path: &Path| fs::read(path).map_err(|error: io::Error| format!("{}: {error}", path.display()));
    let mut with = match &tls.ca {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(file(ca)?)),
        None => TlsOptions::new().with_native_roots(),
    };
    if let Some((cert, key)) = &tls.identity {
        with = with.identity(Identity::from_pem(file(cert)?, file(key)?));
    }
    if let Some(name) = &tls.server_name {
        with = with.domain_name(name);
    }
    Ok(with)
}
