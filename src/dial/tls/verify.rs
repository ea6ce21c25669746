//! Who the peer must be: chain and name as rustls verifies them, and the pins besides.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// Verifies chain and name, then pins, then (always) that the peer has the certificate's key.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Chain and name; `None` with `insecure_skip_verify`.
    pub(super) chain: Option<Arc<WebPkiServerVerifier>>,
    /// The keys that are good, as SHA-256 of their SubjectPublicKeyInfo; empty: all.
    pub(super) pins: Vec<[u8; 32]>,
    /// What the handshake may be signed with.
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// The peer's key is none of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("has a key that is not pinned: its pin is `{}`", BASE64.encode(.presented))]
pub(super) struct PinMismatch {
    presented: [u8; 32],
}

impl Verifier {
    /// RFC 7469, section 2.4: the hash of the whole SubjectPublicKeyInfo, algorithm and key.
    fn verify_pin(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let mut presented = [0; 32];
        presented.copy_from_slice(digest(&SHA256, &key).as_ref());
        if self.pins.contains(&presented) {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(PinMismatch { presented }))).into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        self.verify_pin(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
