//! Certificates and keys that change while the daemon runs.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::support::certs::{Authority, Issued};
use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder};
use crate::support::node::Node;

/// A node that says "secret" over TLS.
fn tls_node(issued: &Issued) -> Node {
    let certs = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(certs, key).unwrap());
    Node::new(move |mut tcp: TcpStream| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        // A client that does not trust us ends the handshake.
        drop(rustls::Stream::new(&mut tls, &mut tcp).write_all(b"secret\n"));
    })
}

#[test]
fn an_authority_is_read_again_and_a_bad_one_keeps_the_old() {
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let node = tls_node(&ours.server(&["127.0.0.1"]));
    let folder = Folder::new(&node.route("db", "tls = { ca = 'ca.pem' }"), "");
    folder.write("ca.pem", &ours.pem());
    let daemon = Daemon::in_folder(folder);
    let reload_with = |ca: &str| {
        let mark = daemon.mark();
        daemon.folder.replace("ca.pem", ca);
        let reloaded = daemon.wait_after(mark, "reload");
        assert_eq!((&reloaded["message"], &reloaded["changes"]), (&"reloaded".into(), &"+0 -0 ~0".into()));
        daemon.said(mark, "WARN")
    };
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "secret");

    let kept = "\
warning: `ca.pem` is not PEM: no line begins with `-----BEGIN`; what was read from it before stays in force
 --> routes.toml:5:14
  |
5 | tls = { ca = 'ca.pem' }
  |              ^^^^^^^^
  |
  = help: put it right, or name another file";
    assert_eq!(reload_with("half of a file"), [kept]);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "secret");

    assert_eq!(reload_with(&other.pem()), Vec::<String>::new());
    let mark = daemon.mark();
    let (_, answer) = upgrade(&daemon.socket(), "db@x");
    assert_eq!((answer.status, &answer.problem()["attempts"][0]["stage"]), (502, &"tls".into()));
    // The log comes behind the answer; its line belongs before the next reload.
    daemon.wait_after(mark, "refused");

    assert_eq!(reload_with(&(other.pem() + &ours.pem())), Vec::<String>::new());
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "secret");
}

#[test]
fn a_certificate_and_its_key_may_be_renewed_one_after_the_other() {
    let ours = Authority::new("ours");
    let node = tls_node(&ours.server(&["127.0.0.1"]));
    let tls = "tls = { ca = 'ca.pem', cert = 'us.pem', key = 'us.key' }";
    let folder = Folder::new(&node.route("db", tls), "");
    let (old, new) = (ours.client("us"), ours.client("us"));
    folder.write("ca.pem", &ours.pem());
    folder.write("us.pem", &old.cert);
    folder.write("us.key", &old.key);
    let daemon = Daemon::in_folder(folder);

    let mark = daemon.mark();
    daemon.folder.replace("us.pem", &new.cert);
    assert_eq!(daemon.wait_after(mark, "reload")["message"], "reloaded");
    let said = daemon.said(mark, "WARN").concat();
    assert!(said.contains("; what was read from it before stays in force\n --> routes.toml:5:"), "{said}");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "secret");

    let mark = daemon.mark();
    daemon.folder.replace("us.key", &new.key);
    assert_eq!(daemon.wait_after(mark, "reload")["message"], "reloaded");
    assert_eq!(daemon.said(mark, "WARN"), Vec::<String>::new());
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "secret");
}

#[test]
fn a_new_route_with_a_missing_authority_is_refused_until_that_is_there() {
    let ours = Authority::new("ours");
    let node = tls_node(&ours.server(&["127.0.0.1"]));
    let daemon = Daemon::start(&node.route("other", ""));
    let mark = daemon.mark();
    daemon.folder.replace("routes.toml", &node.route("db", "tls = { ca = 'ca.pem' }"));
    let refused = daemon.wait_after(mark, "reload");
    assert_eq!(
        (&refused["generation"], &refused["why"]),
        (&1.into(), &"routes.toml:5:14: `ca.pem` does not exist".into())
    );
    daemon.folder.write("ca.pem", &ours.pem());
    assert_eq!(daemon.wait_after(mark, "reloaded")["changes"], "+1 -1 ~0");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@x")), "secret");
}
