//! TLS to upstreams: what a policy's files hold becomes a [`Trust`], and a Trust makes TLS handshakes.

mod failure;
mod files;
mod sources;
mod trusts;
mod verify;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use failure::of_relay;
pub use trusts::{Opened, TrustError, Trusts};

use crate::dial::DialError;
use crate::route::{Host, TlsPolicy};
use crate::stream::ReadAhead;

/// What one [`TlsPolicy`] trusts and proves, read from its files; [`Trusts::get`] has it.
///
/// - TLS 1.3 and 1.2, no ALPN; the server name goes out in the ClientHello (SNI) unless it is an address (RFC 6066,
///   section 3).
/// - The peer's chain must lead to an authority of the policy's `ca` file, or of the system, and its certificate must
///   bear the server name among its subjectAltNames (RFC 6125; the common name is not looked at).
/// - The pins of the policy are checked besides, not instead.
/// - Revocation is not checked: there is no list and no OCSP. Take an authority out of the `ca` file, or pin keys.
/// - Sessions are resumed (tickets of up to 32 server names), without the certificates being verified again. A Trust
///   of other content begins without any.
#[derive(Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    /// SHA-256 over everything that was read; equal means that nothing changed.
    fingerprint: [u8; 32],
}

impl Trust {
    /// Makes the TLS handshake with a peer that is connected already; `policy` is the one that this Trust was opened
    /// for, `host` the upstream's. The caller bounds the time.
    ///
    /// Under TLS 1.3 the peer looks at our certificate after this has returned: its refusal is then the first thing
    /// that a read returns (RFC 8446, section 4.4.2.4), and no attempt's error.
    ///
    /// `answered` is called when the peer's first bytes are there: the ServerHello, if it speaks TLS.
    pub async fn handshake(
        &self,
        policy: &TlsPolicy,
        host: &Host,
        tcp: TcpStream,
        answered: impl Fn(),
    ) -> Result<TlsStream<ReadAhead>, DialError> {
        if policy.insecure_skip_verify {
            tracing::warn!(
                %host,
                pins = policy.pins.len(),
                "insecure_skip_verify: neither chain nor name of the peer's certificate is verified"
            );
        }
        let name = server_name(policy, host)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let mut handshake = connector.connect(name, ReadAhead::new(tcp));
        let done = poll_fn(|cx| {
            // A peer says nothing before our ClientHello, which is written by the first poll.
            if handshake.get_ref().is_some_and(|stream| stream.tcp().poll_read_ready(cx).is_ready()) {
                answered();
            }
            Pin::new(&mut handshake).poll(cx)
        });
        done.await.map_err(|error| failure::of_handshake(&error))
    }
}

/// The name or address that the peer's certificate must bear.
fn server_name(policy: &TlsPolicy, host: &Host) -> Result<ServerName<'static>, DialError> {
    let name = match (&policy.server_name, host) {
        (Some(name), _) => name.as_str(),
        (None, Host::Ip(ip)) => return Ok(ServerName::from(*ip)),
        (None, Host::Name(name)) => name,
    };
    ServerName::try_from(name.to_owned()).map_err(|_invalid| {
        DialError::Tls(format!("`{}` is no name that a certificate can bear: set tls.server_name", name.escape_debug()))
    })
}

#[cfg(test)]
#[path = "../../../tests/support/certs.rs"]
pub(crate) mod certs;
#[cfg(test)]
mod tests;
