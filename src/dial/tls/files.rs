//! PEM files (RFC 7468), and what is wrong with them in words.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TrustError;

/// No PEM file may be larger, in bytes; the authorities of a whole system take a quarter of a megabyte.
const MAX_FILE: u64 = 4 << 20;

/// Reads a file whole; `key` is the one of `tls` that names it.
pub(super) fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TrustError> {
    let wrong = |message: String| TrustError { key, path: Some(path.to_owned()), message };
    let unreadable = |error: io::Error| wrong(io_message(&error));

    // Asked before it is opened: to open a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(wrong("is a folder: name a PEM file".to_owned()));
    }
    if !metadata.is_file() {
        return Err(wrong("is not a regular file: name a PEM file".to_owned()));
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content)).map_err(unreadable)?;
    if content.len() as u64 > MAX_FILE {
        return Err(wrong(format!("is larger than {} MiB: is it a PEM file?", MAX_FILE >> 20)));
    }
    // A byte order mark would hide the first section from the parser.
    if content.starts_with(b"\xef\xbb\xbf") {
        content.drain(..3);
    }
    Ok(content)
}

/// All certificates of a file, at least one.
pub(super) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(content) {
        found.push(certificate.map_err(|error| pem_message(&error, found.len() + 1))?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(not_pem(content).unwrap_or_else(|| {
        if contains(content, b"PRIVATE KEY-----") {
            "holds a private key and no certificate: are the files of `cert` and `key` swapped?".to_owned()
        } else if contains(content, b"-----BEGIN TRUSTED CERTIFICATE-----") {
            "holds OpenSSL's own form of certificates: convert them with `openssl x509 -in FILE -out OTHER.pem`"
                .to_owned()
        } else {
            "holds no certificate: no line is `-----BEGIN CERTIFICATE-----`".to_owned()
        }
    }))
}

/// The first private key of a file: PKCS#8, PKCS#1 or SEC1.
pub(super) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // PKCS#8 says so in its label (RFC 7468, section 11), the older forms in a header (RFC 1421, section 4.6.1.1).
    if contains(content, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(content, b"Proc-Type: 4,ENCRYPTED") {
        return Err(
            "is encrypted; portolan reads plain PEM keys: take the passphrase off with `openssl pkey -in FILE \
             -out PLAIN.key` and keep the file to its owner (mode 0600)"
                .to_owned(),
        );
    }
    match PrivateKeyDer::from_pem_slice(content) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(not_pem(content).unwrap_or_else(|| {
            if contains(content, b"-----BEGIN CERTIFICATE-----") {
                "holds a certificate and no private key: are the files of `cert` and `key` swapped?".to_owned()
            } else {
                "holds no private key: no line is `-----BEGIN PRIVATE KEY-----`, nor the same with RSA or EC".to_owned()
            }
        })),
        Err(error) => Err(pem_message(&error, 1)),
    }
}

/// What a file is that is no PEM at all.
fn not_pem(content: &[u8]) -> Option<String> {
    if content.is_empty() {
        Some("is empty".to_owned())
    } else if content.first() == Some(&0x30) && !content.is_ascii() {
        // 0x30 opens an ASN.1 SEQUENCE, as every certificate and key begins.
        Some(
            "is DER, not PEM: convert it with `openssl x509 -inform der` (a key: `openssl pkey -inform der`)"
                .to_owned(),
        )
    } else if !contains(content, b"-----BEGIN ") {
        Some("is not PEM: no line begins with `-----BEGIN`".to_owned())
    } else {
        None
    }
}

fn pem_message(error: &pem::Error, number: usize) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let label = String::from_utf8_lossy(end_marker);
            format!("ends inside `-----BEGIN {}-----`: was it cut short?", label.escape_debug())
        }
        pem::Error::IllegalSectionStart { line } => {
            let line: String = String::from_utf8_lossy(line).chars().take(64).collect();
            format!("has a broken line `{}`", line.escape_debug())
        }
        pem::Error::Base64Decode(_) => format!("is damaged: entry {number} is not base64"),
        other => format!("is not PEM: {other}"),
    }
}

fn io_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "may not be read by the user that portolan runs as: permission denied".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}

fn contains(content: &[u8], needle: &[u8]) -> bool {
    content.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dial::tls::certs::Authority;

    fn no_certificate(content: &[u8]) -> String {
        certificates(content).unwrap_err()
    }

    fn no_key(content: &[u8]) -> String {
        private_key(content).unwrap_err()
    }

    #[test]
    fn every_certificate_of_a_file_is_read() {
        let pem = format!("a comment\n{}# another\r\n{}", Authority::new("a").pem(), Authority::new("b").pem());
        assert_eq!(certificates(pem.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_file_without_a_certificate_says_what_it_holds() {
        let issued = Authority::new("a").client("c");
        assert_eq!(no_certificate(b""), "is empty");
        assert_eq!(no_certificate(b"hello\n"), "is not PEM: no line begins with `-----BEGIN`");
        assert_eq!(
            no_certificate(issued.key.as_bytes()),
            "holds a private key and no certificate: are the files of `cert` and `key` swapped?"
        );
        assert_eq!(
            no_certificate(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
            "holds no certificate: no line is `-----BEGIN CERTIFICATE-----`"
        );
        let der = certificates(issued.cert.as_bytes()).unwrap().remove(0);
        assert_eq!(
            no_certificate(&der),
            "is DER, not PEM: convert it with `openssl x509 -inform der` (a key: `openssl pkey -inform der`)"
        );
    }

    #[test]
    fn a_damaged_file_says_where() {
        let good = Authority::new("a").pem();
        let cut: String = good.chars().take(200).collect();
        assert_eq!(no_certificate(cut.as_bytes()), "ends inside `-----BEGIN CERTIFICATE-----`: was it cut short?");
        let damaged = format!("{good}-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n");
        assert_eq!(no_certificate(damaged.as_bytes()), "is damaged: entry 2 is not base64");
        assert_eq!(no_certificate(b"-----BEGIN CERTIFICATE\n"), "has a broken line `-----BEGIN CERTIFICATE`");
    }

    #[test]
    fn a_file_without_a_plain_key_says_what_it_holds() {
        let issued = Authority::new("a").client("c");
        assert!(private_key(issued.key.as_bytes()).is_ok());
        assert_eq!(
            no_key(issued.cert.as_bytes()),
            "holds a certificate and no private key: are the files of `cert` and `key` swapped?"
        );
        let encrypted = "is encrypted; portolan reads plain PEM keys: take the passphrase off with `openssl pkey -in \
                         FILE -out PLAIN.key` and keep the file to its owner (mode 0600)";
        assert_eq!(no_key(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n"), encrypted);
        assert_eq!(no_key(b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"), encrypted);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| read("ca", path).unwrap_err().message;
        assert_eq!(message(folder.path()), "is a folder: name a PEM file");
        assert_eq!(message(&folder.path().join("none")), "does not exist");
        assert_eq!(message(Path::new("/dev/zero")), "is not a regular file: name a PEM file");
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert_eq!(message(&large), "is larger than 4 MiB: is it a PEM file?");
    }

    #[test]
    fn a_byte_order_mark_hides_no_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, format!("\u{feff}{}", Authority::new("a").pem())).unwrap();
        assert_eq!(certificates(&read("ca", &path).unwrap()).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_and_every_error_says_something(content: Vec<u8>) {
            prop_assert!(!no_certificate(&content).is_empty());
            prop_assert!(!no_key(&content).is_empty());
        }

        #[test]
        fn no_damage_is_a_panic(at in 0..600_usize, byte: u8) {
            let mut content = Authority::new("a").pem().into_bytes();
            if let Some(place) = content.get_mut(at) {
                *place = byte;
            }
            if let Err(message) = certificates(&content) {
                prop_assert!(!message.contains('\n'));
            }
        }
    }
}
