//! What a policy's files and the system hold: read whole, compared by fingerprint, and only then parsed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, Error, InconsistentKeys, OtherError, RootCertStore};
use rustls_native_certs::CertificateResult;

use super::verify::Verifier;
use super::{Trust, TrustError, files};
use crate::route::{Identity, TlsPolicy};

/// What one policy is made of, as bytes.
pub(super) struct Sources {
    /// SHA-256 over all of it.
    pub(super) fingerprint: [u8; 32],
    authorities: Authorities,
    /// The client certificate's file, and its key's.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Where the authorities come from.
enum Authorities {
    /// The PEM file at this path.
    File(PathBuf, Vec<u8>),
    System(SystemRoots),
    /// `insecure_skip_verify` without a file.
    Nobody,
}

/// What the system trusts.
#[derive(Debug, Clone)]
pub(super) struct SystemRoots {
    /// SHA-256 over the certificates.
    pub(super) fingerprint: [u8; 32],
    roots: Arc<RootCertStore>,
}

impl Sources {
    /// Reads the files that the policy names; asks for the system's authorities only if they are wanted.
    pub(super) fn read(
        policy: &TlsPolicy,
        system: impl FnOnce() -> Result<SystemRoots, TrustError>,
    ) -> Result<Self, TrustError> {
        let authorities = match &policy.ca {
            // Read even if nothing is verified: who ends the exception later shall not find a bad file only then.
            Some(path) => Authorities::File(path.clone(), files::read("ca", path)?),
            None if policy.insecure_skip_verify => Authorities::Nobody,
            None => Authorities::System(system()?),
        };
        let identity = match &policy.identity {
            Some(Identity { cert, key }) => Some((files::read("cert", cert)?, files::read("key", key)?)),
            None => None,
        };

        let mut hash = Context::new(&SHA256);
        match &authorities {
            Authorities::File(_, content) => absorb(&mut hash, content),
            Authorities::System(system) => absorb(&mut hash, &system.fingerprint),
            Authorities::Nobody => {}
        }
        if let Some((cert, key)) = &identity {
            absorb(&mut hash, cert);
            absorb(&mut hash, key);
        }
        Ok(Self { fingerprint: finish(hash), authorities, identity })
    }

    /// Parses what was read.
    pub(super) fn trust(self, policy: &TlsPolicy, provider: &Arc<CryptoProvider>) -> Result<Trust, TrustError> {
        let internal = |error: &dyn std::fmt::Display| TrustError {
            key: "tls",
            path: None,
            message: format!("TLS cannot be set up: {error}"),
        };
        let roots = match self.authorities {
            Authorities::File(path, content) => Some(Arc::new(own_roots(&path, &content)?)),
            Authorities::System(system) => Some(system.roots),
            Authorities::Nobody => None,
        };
        let chain = match roots.filter(|_| !policy.insecure_skip_verify) {
            Some(roots) => {
                let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
                Some(builder.build().map_err(|error| internal(&error))?)
            }
            None => None,
        };
        let verifier =
            Verifier { chain, pins: policy.pins.clone(), algorithms: provider.signature_verification_algorithms };
        let config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| internal(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        // A process's first random bytes take some 25 ms to gather: better here than in a request's handshake. What
        // is wrong with them, that says.
        drop(provider.secure_random.fill(&mut [0; 32]));
        let config = match (self.identity, &policy.identity) {
            (Some((cert, key)), Some(files)) => {
                let certified = own_certificate(files, &cert, &key, provider)?;
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Trust { config: Arc::new(config), fingerprint: self.fingerprint })
    }
}

impl SystemRoots {
    /// Reads them where OpenSSL would, `SSL_CERT_FILE` and `SSL_CERT_DIR` included.
    pub(super) fn load() -> Result<Self, TrustError> {
        Self::of(rustls_native_certs::load_native_certs())
    }

    /// Single certificates that cannot be read are skipped: nobody here can mend them.
    fn of(found: CertificateResult) -> Result<Self, TrustError> {
        let mut hash = Context::new(&SHA256);
        for certificate in &found.certs {
            absorb(&mut hash, certificate);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
            return Err(TrustError {
                key: "tls",
                path: None,
                message: format!(
                    "the system trusts no certificate authority{why}: install its ca-certificates package, or name a \
                     file with `ca`"
                ),
            });
        }
        Ok(Self { fingerprint: finish(hash), roots: Arc::new(roots) })
    }
}

/// The authorities of a `ca` file; each of them must be good.
fn own_roots(path: &Path, content: &[u8]) -> Result<RootCertStore, TrustError> {
    let certificates = files::certificates(content).map_err(|message| wrong("ca", path, message))?;
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|_unreadable| wrong("ca", path, not_x509(index)))?;
    }
    Ok(roots)
}

/// Our certificate's chain and its key, which must belong together.
fn own_certificate(
    files: &Identity,
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TrustError> {
    let chain = files::certificates(cert).map_err(|message| wrong("cert", &files.cert, message))?;
    let key = files::private_key(key).map_err(|message| wrong("key", &files.key, message))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| wrong("key", &files.key, format!("holds a key that cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err(wrong("key", &files.key, format!("is not the key of the certificate in `{}`", files.cert.display())))
        }
        // What `openssl x509 -req` makes by default. It cannot be compared here, but it is the peer who must like it.
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(why))))
            if why.to_string() == "UnsupportedCertVersion" =>
        {
            Ok(certified)
        }
        Err(_unreadable) => Err(wrong("cert", &files.cert, not_x509(0))),
    }
}

fn not_x509(index: usize) -> String {
    format!("holds something that is no X.509 certificate: entry {}", index + 1)
}

fn wrong(key: &'static str, path: &Path, message: String) -> TrustError {
    TrustError { key, path: Some(path.to_owned()), message }
}

/// The length goes first, so that bytes cannot move from one part to the next unseen.
fn absorb(hash: &mut Context, part: &[u8]) {
    hash.update(&(part.len() as u64).to_be_bytes());
    hash.update(part);
}

fn finish(hash: Context) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::dial::tls::certs::Authority;
    use crate::dial::tls::tests::Lab;
    use crate::dial::tls::{Opened, Trusts};

    #[test]
    fn a_system_without_authorities_is_told_to_get_some() {
        assert_eq!(
            SystemRoots::of(CertificateResult::default()).unwrap_err().to_string(),
            "the system trusts no certificate authority: install its ca-certificates package, or name a file with `ca`"
        );
    }

    #[test]
    fn one_broken_certificate_of_the_system_is_skipped() {
        let mut found = CertificateResult::default();
        found.certs.push(CertificateDer::from(vec![0x30, 0]));
        found.certs.push(CertificateDer::from_pem_slice(Authority::new("a").pem().as_bytes()).unwrap());
        assert_eq!(SystemRoots::of(found).unwrap().roots.len(), 1);
    }

    #[test]
    fn a_policy_that_cannot_be_opened_says_which_key_is_to_blame() {
        let lab = Lab::new();
        let client = lab.client();
        let (other_cert, _) = lab.authority.client("other").write(lab.path(), "other");
        let error = |policy: TlsPolicy| Trusts::new(None).open(&Arc::new(policy)).unwrap_err();
        let with_identity = |cert: &Path, key: &Path| TlsPolicy {
            identity: Some(Identity { cert: cert.to_owned(), key: key.to_owned() }),
            ..lab.policy()
        };

        let mismatch = error(with_identity(&other_cert, &client.key));
        assert_eq!(mismatch.key, "key");
        assert_eq!(
            mismatch.to_string(),
            format!("`{}` is not the key of the certificate in `{}`", client.key.display(), other_cert.display())
        );
        assert_eq!(error(with_identity(&client.key, &client.cert)).key, "cert");
        assert_eq!(error(with_identity(&client.cert, &client.cert)).key, "key");

        let junk = lab.path().join("junk.pem");
        std::fs::write(&junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let no_authority = error(TlsPolicy { ca: Some(junk.clone()), ..TlsPolicy::default() });
        assert_eq!(no_authority.message, "holds something that is no X.509 certificate: entry 1");
        assert_eq!(error(with_identity(&junk, &client.key)).key, "cert");

        let name = error(TlsPolicy { server_name: Some("db:4370".to_owned()), ..lab.policy() });
        assert_eq!(name.key, "server_name");
        assert_eq!(
            name.to_string(),
            "`db:4370` is neither a DNS name nor an address: write what the peer's certificate bears, without a port"
        );
    }

    #[test]
    fn keys_and_certificates_as_openssl_writes_them_are_read() {
        let lab = Lab::new();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            let done = command.args(arguments.split(' ')).current_dir(lab.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        let open = |key: &str| {
            let identity = Identity { cert: lab.path().join("own.pem"), key: lab.path().join(key) };
            Trusts::new(None).open(&Arc::new(TlsPolicy { identity: Some(identity), ..lab.policy() }))
        };
        // PKCS#8, PKCS#1 and an encrypted PKCS#8 of one RSA key; the certificate is of X.509 version 1.
        openssl("req -new -newkey rsa:2048 -nodes -keyout pkcs8.key -out own.csr -subj /CN=own");
        openssl("x509 -req -in own.csr -signkey pkcs8.key -out own.pem");
        openssl("rsa -in pkcs8.key -traditional -out pkcs1.key");
        openssl("pkcs8 -topk8 -in pkcs8.key -passout pass:secret -out encrypted.key");
        openssl("rsa -in pkcs8.key -traditional -aes128 -passout pass:secret -out old-encrypted.key");
        assert_eq!(open("pkcs8.key"), Ok(Opened::Fresh));
        assert_eq!(open("pkcs1.key"), Ok(Opened::Fresh));
        for encrypted in ["encrypted.key", "old-encrypted.key"] {
            let error = open(encrypted).unwrap_err();
            assert!(error.message.starts_with("is encrypted; portolan reads plain PEM keys"), "{error}");
        }
        // SEC1, behind the parameters of its curve.
        openssl("ecparam -name prime256v1 -genkey -out sec1.key");
        openssl("req -x509 -key sec1.key -out own.pem -subj /CN=own");
        assert_eq!(open("sec1.key"), Ok(Opened::Fresh));
    }
}
