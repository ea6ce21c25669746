//! Certificates for tests: an authority, what it signs, and the PEM files of it.

#![allow(dead_code, reason = "each crate that includes this file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PublicKeyData, date_time_ymd,
};

/// A certificate authority that lives as long as the test.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Issued {
    /// The certificate in PEM.
    pub(crate) cert: String,
    /// The private key in PEM (PKCS#8).
    pub(crate) key: String,
    /// SHA-256 of the public key's SubjectPublicKeyInfo.
    pub(crate) pin: [u8; 32],
}

impl Authority {
    /// An authority with a key of its own; two of the same name are strangers to each other.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// The authority's certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes the authority's certificate as `folder/name.pem`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(format!("{name}.pem"));
        fs::write(&path, self.pem()).unwrap();
        path
    }

    /// A server's certificate for these names and addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Issued {
        self.sign(server_params(names))
    }

    /// A server's certificate that was valid in January 2020.
    pub(crate) fn expired_server(&self, names: &[&str]) -> Issued {
        let mut params = server_params(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
        self.sign(params)
    }

    /// A server's certificate that will be valid in January 2500.
    pub(crate) fn future_server(&self, names: &[&str]) -> Issued {
        let mut params = server_params(names);
        params.not_before = date_time_ymd(2500, 1, 1);
        params.not_after = date_time_ymd(2500, 2, 1);
        self.sign(params)
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: cert.pem(), pin: pin(&key), key: key.serialize_pem() }
    }
}

impl Issued {
    /// A server's certificate that is its own authority, as `openssl req -x509` makes it.
    pub(crate) fn self_signed_authority(names: &[&str]) -> Self {
        let mut params = server_params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self { cert: cert.pem(), pin: pin(&key), key: key.serialize_pem() }
    }

    /// Writes `folder/name.pem` and `folder/name.key`, and says where they are, in this order.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&cert, &self.cert).unwrap();
        fs::write(&key, &self.key).unwrap();
        (cert, key)
    }

    /// The pin as it is written in a route.
    pub(crate) fn pin_text(&self) -> String {
        BASE64.encode(self.pin)
    }
}

fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn pin(key: &KeyPair) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.subject_public_key_info());
    digest.as_ref().try_into().unwrap()
}
