//! TLS handshakes against servers in this process, and reloads between them.

mod openssl;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

use super::certs::{Authority, Issued};
use super::{Opened, TrustError, Trusts};
use crate::dial::DialError;
use crate::route::{Host, Identity, TlsPolicy};
use crate::stream::ReadAhead;

/// A folder with the authority's `ca.pem`, which the policies of most tests name.
pub(super) struct Lab {
    folder: TempDir,
    pub(super) authority: Authority,
    pub(super) ca: PathBuf,
}

impl Lab {
    pub(super) fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("portolan test"));
        let ca = authority.write(folder.path(), "ca");
        Self { folder, authority, ca }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn policy(&self) -> TlsPolicy {
        TlsPolicy { ca: Some(self.ca.clone()), ..TlsPolicy::default() }
    }

    pub(super) fn client(&self) -> Identity {
        let (cert, key) = self.authority.client("us").write(self.path(), "client");
        Identity { cert, key }
    }
}

fn localhost() -> Host {
    Host::Name("localhost".into())
}

/// Opens the policy and makes one handshake.
async fn handshake(policy: TlsPolicy, host: &Host, address: SocketAddr) -> Result<TlsStream<ReadAhead>, DialError> {
    let policy = Arc::new(policy);
    let mut trusts = Trusts::new(None);
    assert_eq!(trusts.open(&policy), Ok(Opened::Fresh));
    handshake_with(&trusts, &policy, host, address).await
}

async fn handshake_with(
    trusts: &Trusts,
    policy: &TlsPolicy,
    host: &Host,
    address: SocketAddr,
) -> Result<TlsStream<ReadAhead>, DialError> {
    let tcp = TcpStream::connect(address).await.unwrap();
    trusts.get(policy).unwrap().handshake(policy, host, tcp, || {}).await
}

async fn refusal(policy: TlsPolicy, host: &Host, address: SocketAddr) -> String {
    handshake(policy, host, address).await.unwrap_err().to_string()
}

/// An echo server in this process that ends with the test.
async fn echo_server(issued: &Issued) -> SocketAddr {
    echo_server_with_key(issued, issued, rustls::DEFAULT_VERSIONS).await
}

/// One that has the certificate of the one and the key of the other.
async fn echo_server_with_key(
    certificate: &Issued,
    key: &Issued,
    versions: &[&'static SupportedProtocolVersion],
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(certificate.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let tcp = listener.accept().await.unwrap().0;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us ends the handshake; that is its test, not ours.
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = tls.read(&mut buffer).await {
                    tls.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    address
}

async fn echo(tls: &mut TlsStream<ReadAhead>) {
    tls.write_all(b"portolan\n").await.unwrap();
    let mut answer = [0; 9];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"portolan\n");
}

/// A peer that answers the ClientHello with these bytes and ends.
async fn scripted(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut tcp = listener.accept().await.unwrap().0;
        let mut hello = [0; 2048];
        let _read = tcp.read(&mut hello).await.unwrap();
        tcp.write_all(answer).await.unwrap();
    });
    address
}

#[tokio::test]
async fn names_and_addresses_of_the_certificate_are_good() {
    let lab = Lab::new();
    let address = echo_server(&lab.authority.server(&["localhost", "*.wild.example", "127.0.0.1", "::1"])).await;
    let hosts = [localhost(), Host::Name("a.wild.example".into()), Host::Ip("127.0.0.1".parse().unwrap())];
    for host in hosts.iter().chain([&Host::Ip("::1".parse().unwrap())]) {
        echo(&mut handshake(lab.policy(), host, address).await.unwrap()).await;
    }
    assert_eq!(
        refusal(lab.policy(), &Host::Ip("10.0.0.1".parse().unwrap()), address).await,
        "certificate refused: is not valid for name `10.0.0.1`, only for localhost, *.wild.example, 127.0.0.1, ::1"
    );
}

#[tokio::test]
async fn a_server_name_takes_the_place_of_the_host() {
    let lab = Lab::new();
    let address = echo_server(&lab.authority.server(&["db.internal"])).await;
    let policy = TlsPolicy { server_name: Some("db.internal".to_owned()), ..lab.policy() };
    let mut tls = handshake(policy, &Host::Ip("127.0.0.1".parse().unwrap()), address).await.unwrap();
    echo(&mut tls).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_in_words() {
    let lab = Lab::new();
    let names = ["localhost"];

    let expired = refusal(lab.policy(), &localhost(), echo_server(&lab.authority.expired_server(&names)).await).await;
    assert!(expired.starts_with("certificate refused: expired on 2020-02-01T00:00:00Z (this machine's"), "{expired}");

    let future = refusal(lab.policy(), &localhost(), echo_server(&lab.authority.future_server(&names)).await).await;
    assert!(future.starts_with("certificate refused: is not valid before 2500-01-01T00:00:00Z"), "{future}");

    assert_eq!(
        refusal(lab.policy(), &localhost(), echo_server(&Authority::new("stranger").server(&names)).await).await,
        "certificate refused: is issued by an authority that is not trusted, or the peer leaves out an intermediate \
         certificate"
    );
    assert_eq!(
        refusal(lab.policy(), &localhost(), echo_server(&Authority::new("portolan test").server(&names)).await).await,
        "certificate refused: has a wrong signature: its authority has the name of a trusted one and another key, or \
         the peer's key is not the certificate's"
    );
    assert_eq!(
        refusal(lab.policy(), &localhost(), echo_server(&lab.authority.client("localhost")).await).await,
        "certificate refused: is not made for servers: its extendedKeyUsage lacks serverAuth"
    );
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_refused_in_words() {
    let lab = Lab::new();
    let issued = Issued::self_signed_authority(&["localhost"]);
    let (cert, _key) = issued.write(lab.path(), "own");
    let policy = TlsPolicy { ca: Some(cert), ..TlsPolicy::default() };
    assert_eq!(
        refusal(policy, &localhost(), echo_server(&issued).await).await,
        "certificate refused: is an authority's own (CA:TRUE), self-signed perhaps: a server needs one that an \
         authority signed"
    );
}

#[tokio::test]
async fn a_pin_is_checked_besides_the_chain() {
    let lab = Lab::new();
    let issued = lab.authority.server(&["localhost"]);
    let address = echo_server(&issued).await;
    let pinned = |pins: &[[u8; 32]]| TlsPolicy { pins: pins.to_vec(), ..lab.policy() };

    echo(&mut handshake(pinned(&[[7; 32], issued.pin]), &localhost(), address).await.unwrap()).await;
    assert_eq!(
        refusal(pinned(&[[7; 32]]), &localhost(), address).await,
        format!("certificate refused: has a key that is not pinned: its pin is `{}`", issued.pin_text())
    );
    let elsewhere = Host::Name("elsewhere".into());
    assert_eq!(
        refusal(pinned(&[issued.pin]), &elsewhere, address).await,
        "certificate refused: is not valid for name `elsewhere`, only for localhost"
    );
}

#[tokio::test]
async fn skipping_verification_leaves_the_pins() {
    let lab = Lab::new();
    let issued = Authority::new("stranger").expired_server(&["elsewhere"]);
    let address = echo_server(&issued).await;
    let skip = TlsPolicy { insecure_skip_verify: true, ..TlsPolicy::default() };

    echo(&mut handshake(skip.clone(), &localhost(), address).await.unwrap()).await;
    echo(&mut handshake(TlsPolicy { pins: vec![issued.pin], ..skip.clone() }, &localhost(), address).await.unwrap())
        .await;
    let other_pin = TlsPolicy { pins: vec![[7; 32]], ..skip.clone() };
    assert!(refusal(other_pin, &localhost(), address).await.contains("not pinned"));
    // A file that is named is used in no way, and still looked at.
    echo(&mut handshake(TlsPolicy { ca: Some(lab.ca.clone()), ..skip }, &localhost(), address).await.unwrap()).await;
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_even_if_nothing_is_verified() {
    let lab = Lab::new();
    let (stolen, own) = (lab.authority.server(&["localhost"]), lab.authority.server(&["localhost"]));
    let skip = TlsPolicy { insecure_skip_verify: true, pins: vec![stolen.pin], ..TlsPolicy::default() };
    for version in rustls::DEFAULT_VERSIONS {
        let address = echo_server_with_key(&stolen, &own, &[version]).await;
        for policy in [lab.policy(), skip.clone()] {
            let refused = refusal(policy, &localhost(), address).await;
            assert!(refused.starts_with("certificate refused: has a wrong signature"), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_peer_without_tls_is_told_from_one_that_goes_away() {
    let lab = Lab::new();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"220 smtp ready\r\n"] {
        let address = scripted(answer).await;
        assert_eq!(
            refusal(lab.policy(), &localhost(), address).await,
            "TLS handshake failed: the peer does not speak TLS"
        );
    }
    let address = scripted(b"").await;
    assert_eq!(handshake(lab.policy(), &localhost(), address).await.unwrap_err(), DialError::Terminated);
    // A fatal alert, protocol_version.
    let address = scripted(b"\x15\x03\x01\x00\x02\x02\x46").await;
    assert_eq!(
        refusal(lab.policy(), &localhost(), address).await,
        "the peer sent the TLS alert protocol_version: it speaks neither TLS 1.2 nor TLS 1.3"
    );
}

#[tokio::test]
async fn a_host_that_no_certificate_can_bear_is_refused_before_a_byte_is_sent() {
    let lab = Lab::new();
    let address = scripted(b"").await;
    assert_eq!(
        refusal(lab.policy(), &Host::Name("a b".into()), address).await,
        "TLS handshake failed: `a b` is no name that a certificate can bear: set tls.server_name"
    );
}

#[tokio::test]
async fn what_did_not_change_is_kept_with_its_sessions() {
    let lab = Lab::new();
    let address = echo_server(&lab.authority.server(&["localhost"])).await;
    let policy = Arc::new(lab.policy());
    let kind = |tls: &TlsStream<ReadAhead>| tls.get_ref().1.handshake_kind();

    let mut first = Trusts::new(None);
    assert_eq!(first.open(&policy), Ok(Opened::Fresh));
    assert_eq!(first.open(&policy), Ok(Opened::Kept));
    let mut tls = handshake_with(&first, &policy, &localhost(), address).await.unwrap();
    echo(&mut tls).await;
    assert_eq!(kind(&tls), Some(HandshakeKind::Full));

    let mut second = Trusts::new(Some(&first));
    let equal = Arc::new(TlsPolicy::clone(&policy));
    assert_eq!(second.open(&equal), Ok(Opened::Kept));
    assert!(Arc::ptr_eq(first.get(&policy).unwrap(), second.get(&policy).unwrap()));
    drop(first);
    let tls = handshake_with(&second, &policy, &localhost(), address).await.unwrap();
    assert_eq!(kind(&tls), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn a_file_that_was_replaced_is_renewed_and_a_bad_one_keeps_the_old() {
    let lab = Lab::new();
    let address = echo_server(&lab.authority.server(&["localhost"])).await;
    let policy = Arc::new(lab.policy());
    let mut first = Trusts::new(None);
    assert_eq!(first.open(&policy), Ok(Opened::Fresh));
    echo(&mut handshake_with(&first, &policy, &localhost(), address).await.unwrap()).await;

    std::fs::write(&lab.ca, "garbage").unwrap();
    let mut second = Trusts::new(Some(&first));
    let bad = TrustError {
        key: "ca",
        path: Some(lab.ca.clone()),
        message: "is not PEM: no line begins with `-----BEGIN`".to_owned(),
    };
    assert_eq!(second.open(&policy), Ok(Opened::KeptOld(bad.clone())));
    echo(&mut handshake_with(&second, &policy, &localhost(), address).await.unwrap()).await;
    assert_eq!(Trusts::new(None).open(&policy), Err(bad));

    Authority::new("another").write(lab.path(), "ca");
    let mut third = Trusts::new(Some(&second));
    assert_eq!(third.open(&policy), Ok(Opened::Renewed));
    // Not even by a session of the old Trust.
    let refused = handshake_with(&third, &policy, &localhost(), address).await.unwrap_err();
    assert!(matches!(refused, DialError::Certificate(_)), "{refused}");
}
