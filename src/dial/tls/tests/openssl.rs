//! TLS handshakes against `openssl s_server`.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use super::{Lab, handshake, localhost, refusal};
use crate::dial::tls::certs::Issued;
use crate::dial::tls::failure;
use crate::route::{Host, Identity, TlsPolicy};
use crate::stream::ReadAhead;

/// `openssl s_server`, which turns every line around and sends it back; it ends when this is dropped.
struct OpenSsl {
    child: Child,
    address: SocketAddr,
    /// Kept open: to write into a closed one would end the server.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl OpenSsl {
    fn new(lab: &Lab, issued: &Issued, arguments: &[&str]) -> Self {
        let (cert, key) = issued.write(lab.path(), "server");
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-rev", "-cert"])
            .arg(cert)
            .arg("-key")
            .arg(key)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok()).unwrap();
        Self { child, address, _stdout: lines }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn reversed(tls: &mut TlsStream<ReadAhead>) {
    tls.write_all(b"portolan\n").await.unwrap();
    let mut answer = [0; 9];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"nalotrop\n");
}

#[tokio::test]
async fn openssl_speaks_both_versions() {
    let lab = Lab::new();
    let issued = lab.authority.server(&["localhost"]);
    for (version, spoken) in
        [("-tls1_2", rustls::ProtocolVersion::TLSv1_2), ("-tls1_3", rustls::ProtocolVersion::TLSv1_3)]
    {
        let server = OpenSsl::new(&lab, &issued, &[version]);
        let mut tls = handshake(lab.policy(), &localhost(), server.address).await.unwrap();
        reversed(&mut tls).await;
        assert_eq!(tls.get_ref().1.protocol_version(), Some(spoken));
    }
}

#[tokio::test]
async fn openssl_with_a_bad_certificate_is_refused() {
    let lab = Lab::new();
    let good = lab.authority.server(&["localhost"]);
    let server = OpenSsl::new(&lab, &good, &[]);
    assert_eq!(
        refusal(lab.policy(), &Host::Name("elsewhere".into()), server.address).await,
        "certificate refused: is not valid for name `elsewhere`, only for localhost"
    );
    let wrong_pin = TlsPolicy { pins: vec![[7; 32]], ..lab.policy() };
    assert!(refusal(wrong_pin, &localhost(), server.address).await.contains("not pinned"));
    let right_pin = TlsPolicy { pins: vec![good.pin], ..lab.policy() };
    reversed(&mut handshake(right_pin, &localhost(), server.address).await.unwrap()).await;

    for version in ["-tls1_2", "-tls1_3"] {
        let server = OpenSsl::new(&lab, &lab.authority.expired_server(&["localhost"]), &[version]);
        assert!(refusal(lab.policy(), &localhost(), server.address).await.contains("expired on 2020-02-01"));
        let skip = TlsPolicy { insecure_skip_verify: true, ..TlsPolicy::default() };
        reversed(&mut handshake(skip, &localhost(), server.address).await.unwrap()).await;
    }
}

#[tokio::test]
async fn openssl_asks_for_our_certificate() {
    let lab = Lab::new();
    let issued = lab.authority.server(&["localhost"]);
    let ca = lab.ca.to_str().unwrap();
    let with_certificate = TlsPolicy { identity: Some(lab.client()), ..lab.policy() };
    let ask = ["-Verify", "1", "-verify_return_error", "-CAfile", ca];

    let server = OpenSsl::new(&lab, &issued, &[&ask[..], &["-tls1_2"]].concat());
    reversed(&mut handshake(with_certificate.clone(), &localhost(), server.address).await.unwrap()).await;
    assert_eq!(
        refusal(lab.policy(), &localhost(), server.address).await,
        "the peer sent the TLS alert handshake_failure: it has no cipher in common with us, or wants a client \
         certificate (tls.cert, tls.key)"
    );

    let server = OpenSsl::new(&lab, &issued, &[&ask[..], &["-tls1_3"]].concat());
    reversed(&mut handshake(with_certificate, &localhost(), server.address).await.unwrap()).await;
    // The peer judges us when our side of the handshake is over already.
    let mut tls = handshake(lab.policy(), &localhost(), server.address).await.unwrap();
    let refused = tls.read_u8().await.unwrap_err();
    assert_eq!(
        failure::of_handshake(&refused).to_string(),
        "the peer sent the TLS alert certificate_required: it wants a client certificate (tls.cert, tls.key)"
    );
}

#[tokio::test]
async fn the_commands_of_the_documentation_work() {
    let folder = tempfile::tempdir().unwrap();
    let text = include_str!("../../../../docs/tls.md");
    let scripts: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(scripts.len(), 6);
    let mut outputs = Vec::new();
    for script in scripts {
        let done = Command::new("sh").args(["-euc", script]).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{script}{}", String::from_utf8_lossy(&done.stderr));
        outputs.push(String::from_utf8(done.stdout).unwrap());
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let pin = BASE64.decode(outputs[4].trim()).unwrap().try_into().unwrap();
    assert_eq!(outputs[4], outputs[5]);

    let lab = Lab::new();
    let issued = Issued { cert: read("prod-db.pem"), key: read("prod-db.key"), pin };
    let ca = folder.path().join("ca.pem");
    let ask = ["-Verify", "1", "-verify_return_error", "-CAfile", ca.to_str().unwrap()];
    let server = OpenSsl::new(&lab, &issued, &ask);
    let policy = TlsPolicy {
        identity: Some(Identity { cert: folder.path().join("portolan.pem"), key: folder.path().join("portolan.key") }),
        pins: vec![pin],
        ca: Some(ca),
        ..TlsPolicy::default()
    };
    for host in [Host::Name("prod-db.internal".into()), Host::Ip("10.0.1.50".parse().unwrap())] {
        reversed(&mut handshake(policy.clone(), &host, server.address).await.unwrap()).await;
    }
}
