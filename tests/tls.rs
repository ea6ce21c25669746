//! TLS to upstreams, against peers of other makes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use crate::support::HANG;
use crate::support::certs::{Authority, Issued};
use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::{Daemon, Folder, text, utf8};
use crate::support::node::Node;
use crate::support::tls::Lab;

/// curl over SOCKS5 on the daemon's Unix socket, the server being this node.
fn curl(socket: &Path, node: &str, args: &[&str]) -> Output {
    let proxy = format!("socks5h://localhost{}", utf8(socket));
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "--noproxy", "", "--max-time", &HANG.as_secs().to_string()]);
    curl.args(["-x", &proxy, "--connect-to", &format!("::{node}:443")]).args(args).output().unwrap()
}

/// Says a line to `openssl s_server -rev`, which turns it around.
fn turned(daemon: &Daemon, node: &str) -> String {
    let mut stream = connect(&daemon.socket(), node);
    stream.write_all(b"portolan\n").unwrap();
    line(&mut stream)
}

/// Asks for a node of which the only attempt fails, and returns how, with the error of `Proxy-Status`.
fn refusal(daemon: &Daemon, node: &str) -> (String, String) {
    let (_, answer) = upgrade(&daemon.socket(), node);
    let problem = answer.problem();
    let attempts = problem["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{problem}");
    assert_eq!((&attempts[0]["stage"], &problem["code"]), (&"tls".into(), &"all_failed".into()), "{problem}");
    let status = answer.header("Proxy-Status").split("error=").nth(1).unwrap();
    (attempts[0]["error"].as_str().unwrap().to_owned(), status.split(';').next().unwrap().to_owned())
}

#[test]
fn curl_speaks_plain_http_and_portolan_puts_it_into_tls() {
    let lab = Lab::new();
    let (new, old) = (lab.openssl(&["-www", "-tls1_3"]), lab.openssl(&["-www", "-tls1_2"]));
    let tls = lab.trusting("");
    let daemon = Daemon::start(&(new.route("^new@", &tls) + &old.route("^old@", &tls)));
    for (node, spoken) in [("new@tls", "New, TLSv1.3,"), ("old@tls", "New, TLSv1.2,")] {
        let page = curl(&daemon.socket(), node, &["http://example.org/"]);
        assert!(page.status.success(), "{}", text(&page.stderr));
        assert!(text(&page.stdout).contains(spoken), "{}", text(&page.stdout));
    }
}

#[test]
fn curl_speaks_tls_itself_through_a_plain_route() {
    let lab = Lab::new();
    let server = lab.openssl(&["-www"]);
    let daemon = Daemon::start(&server.route("^web@", ""));
    let page = curl(&daemon.socket(), "web@tls", &["--cacert", lab.ca(), "https://127.0.0.1/"]);
    assert!(text(&page.stdout).contains("New, TLSv1.3,"), "{}", text(&page.stderr));
    let stranger = Authority::new("stranger").write(lab.path(), "stranger");
    let page = curl(&daemon.socket(), "web@tls", &["--cacert", utf8(&stranger), "https://127.0.0.1/"]);
    assert_eq!(page.status.code(), Some(60), "the certificate is curl's to judge: {}", text(&page.stderr));
}

#[test]
fn the_python_client_of_the_readme_reaches_a_tls_server_by_its_name() {
    let lab = Lab::new();
    let server = lab.openssl(&["-rev"]);
    let daemon = Daemon::start(&server.route("^prod-db@", &lab.trusting("")));
    let readme = include_str!("../README.md");
    let client = readme.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let script = format!(
        "{client}\ns = connect('prod-db@10.0.1.50')\ns.sendall(b'portolan\\n')\nprint(s.makefile().readline())"
    );
    let done = Command::new("python3").args(["-c", &script]).current_dir(daemon.folder.path("")).output().unwrap();
    assert_eq!(text(&done.stdout).trim(), "nalotrop", "{}", text(&done.stderr));
}

#[test]
fn without_a_ca_the_system_is_trusted() {
    let lab = Lab::new();
    let server = lab.openssl(&["-rev"]);
    let folder = Folder::new(&server.route("^db@", "tls = true"), "");
    let mut command = folder.command(&["run", "--config", "portolan.toml"]);
    // Where OpenSSL, and so portolan, looks for the system's authorities.
    command.env("SSL_CERT_FILE", lab.ca()).env_remove("SSL_CERT_DIR");
    let daemon = Daemon::spawn(folder, command);
    assert_eq!(turned(&daemon, "db@x"), "nalotrop");

    let folder = Folder::new(&server.route("^db@", "tls = true"), "");
    let mut command = folder.command(&["run", "--config", "portolan.toml"]);
    let stranger = Authority::new("stranger").write(lab.path(), "stranger");
    command.env("SSL_CERT_FILE", stranger).env_remove("SSL_CERT_DIR");
    let daemon = Daemon::spawn(folder, command);
    assert!(refusal(&daemon, "db@x").0.contains("an authority that is not trusted"));
}

#[test]
fn files_are_relative_to_the_routes_file() {
    let lab = Lab::new();
    let server = lab.openssl(&["-rev"]);
    let folder = Folder::new(&server.route("^db@", "tls = { ca = \"authority.pem\" }"), "");
    folder.write("authority.pem", &lab.authority.pem());
    let mut command = folder.command(&["run", "--config"]);
    command.arg(folder.path("portolan.toml")).current_dir("/");
    assert_eq!(turned(&Daemon::spawn(folder, command), "db@x"), "nalotrop");
}

#[test]
fn a_peer_that_wants_our_certificate_gets_it() {
    let lab = Lab::new();
    let ask = ["-rev", "-Verify", "1", "-verify_return_error", "-CAfile", lab.ca()];
    let (new, old) = (lab.openssl(&[&ask[..], &["-tls1_3"]].concat()), lab.openssl(&[&ask[..], &["-tls1_2"]].concat()));
    let (with, without) = (lab.trusting(&lab.identity()), lab.trusting(""));
    let routes = [new.route("^new@with", &with), old.route("^old@with", &with), old.route("^old@less", &without)];
    let daemon = Daemon::start(&routes.concat());
    assert_eq!(turned(&daemon, "new@with"), "nalotrop");
    assert_eq!(turned(&daemon, "old@with"), "nalotrop");
    let (error, status) = refusal(&daemon, "old@less");
    assert_eq!(
        error,
        "the peer sent the TLS alert handshake_failure: it has no cipher in common with us, or wants a client \
         certificate (tls.cert, tls.key)"
    );
    assert_eq!(status, "tls_alert_received");
}

#[test]
fn under_tls_1_3_a_peer_refuses_our_certificate_when_the_client_is_connected_already() {
    let lab = Lab::new();
    let server = lab.openssl(&["-rev", "-tls1_3", "-Verify", "1", "-verify_return_error", "-CAfile", lab.ca()]);
    let daemon = Daemon::start(&server.route("^db@", &lab.trusting("")));
    let mut stream = connect(&daemon.socket(), "db@x");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let closed = daemon.wait_for("relay closed");
    assert_eq!((&closed["by"], &closed["end"]), (&"upstream".into(), &"failed".into()), "{closed}");
    assert!(closed["ms"].is_number(), "{closed}");
    assert_eq!(
        closed["error"],
        "the peer sent the TLS alert certificate_required: it wants a client certificate (tls.cert, tls.key)"
    );
}

#[test]
fn a_server_name_and_pins_say_who_is_meant() {
    let lab = Lab::new();
    let issued = lab.authority.server(&["db.internal"]);
    let server = lab.openssl_with(&issued, &["-rev"]);
    let other = "HRXYDmvTpVA86pBReimZNTnjEoU7/BSs4PsptMibv5M=";
    let named = |more: &str| lab.trusting(&format!(", server_name = 'db.internal'{more}"));
    let pinned = |pins: &str| named(&format!(", pin_sha256 = [{pins}]"));
    let right = format!("'{other}', '{}'", issued.pin_text());
    let daemon = Daemon::start(
        &(server.route("^named@", &named(""))
            + &server.route("^pinned@", &pinned(&right))
            + &server.route("^wrong-pin@", &pinned(&format!("'{other}'")))
            + &server.route("^wrong-name@", &lab.trusting(""))),
    );
    assert_eq!(turned(&daemon, "named@x"), "nalotrop");
    assert_eq!(turned(&daemon, "pinned@x"), "nalotrop");
    assert_eq!(
        refusal(&daemon, "wrong-pin@x"),
        (
            format!("certificate refused: has a key that is not pinned: its pin is `{}`", issued.pin_text()),
            "tls_certificate_error".to_owned()
        )
    );
    assert_eq!(
        refusal(&daemon, "wrong-name@x").0,
        "certificate refused: is not valid for name `127.0.0.1`, only for db.internal"
    );
}

/// The peers that a route with TLS cannot be up with: what is told of each, and the error of its `Proxy-Status`.
#[test]
fn a_route_whose_tls_fails_says_why_and_the_next_is_taken() {
    let lab = Lab::new();
    let own = |issued: &Issued| lab.openssl_with(issued, &["-rev"]);
    let expired = own(&lab.authority.expired_server(&["127.0.0.1"]));
    let future = own(&lab.authority.future_server(&["127.0.0.1"]));
    let stranger = own(&Authority::new("stranger").server(&["127.0.0.1"]));
    let client = own(&lab.authority.client("127.0.0.1"));
    let (plain, backup) = (Node::named("plain"), Node::named("backup"));
    let ended = Node::new(|mut stream| drop(stream.read(&mut [0; 4096])));
    let tls = lab.trusting("") + "\nweight = 200";
    let routes = [expired.route("^expired@", &tls), future.route("^future@", &tls), stranger.route("^stranger@", &tls)]
        .concat()
        + &[client.route("^client@", &tls), plain.route("^plain@", &tls), ended.route("^ended@", &tls)].concat()
        + &backup.route("@backup$", "");
    let daemon = Daemon::start_with(&routes, "[log]\nlevel = \"debug\"\n");
    for (node, error, status) in [
        (
            "expired",
            "certificate refused: expired on 2020-02-01T00:00:00Z (this machine's clock says ",
            "tls_certificate_error",
        ),
        ("future", "certificate refused: is not valid before 2500-01-01T00:00:00Z (this ", "tls_certificate_error"),
        (
            "stranger",
            "certificate refused: is issued by an authority that is not trusted, or the peer leaves out an \
            intermediate certificate",
            "tls_certificate_error",
        ),
        (
            "client",
            "certificate refused: is not made for servers: its extendedKeyUsage lacks ",
            "tls_certificate_error",
        ),
        ("plain", "TLS handshake failed: the peer does not speak TLS", "tls_protocol_error"),
        ("ended", "connection closed by the peer", "connection_terminated"),
    ] {
        let mark = daemon.mark();
        assert_eq!(line(&mut connect(&daemon.socket(), &format!("{node}@backup"))), "backup");
        let failed = daemon.wait_after(mark, "attempt failed");
        assert_eq!((&failed["stage"], &failed["route"]), (&"tls".into(), &format!("^{node}@").into()));
        assert!(failed["error"].as_str().unwrap().starts_with(error), "{failed}");
        assert_eq!(daemon.wait_after(mark, "relay closed")["attempts"], 2);

        // It is ejected now, and tried all the same where there is no other.
        let mark = daemon.mark();
        let (told, told_status) = refusal(&daemon, &format!("{node}@alone"));
        assert!(told.starts_with(error), "{node}: {told}");
        assert_eq!(told_status, status, "{node}");
        daemon.wait_after(mark, "refused");
    }
}

#[test]
fn a_peer_that_accepts_and_is_silent_is_given_up() {
    let lab = Lab::new();
    let silent = Node::new(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
    let backup = Node::named("backup");
    let tls = lab.trusting("") + "\nweight = 200\nconnect_timeout = \"50ms\"";
    let daemon = Daemon::start(&(silent.route("^db@", &tls) + &backup.route("@backup$", "")));
    assert_eq!(line(&mut connect(&daemon.socket(), "db@backup")), "backup");
    assert_eq!(daemon.wait_for("relay closed")["attempts"], 2);
    assert_eq!(refusal(&daemon, "db@alone"), ("timed out".to_owned(), "connection_timeout".to_owned()));
}

#[test]
fn insecure_skip_verify_is_warned_about_at_load_and_at_each_use() {
    let lab = Lab::new();
    let issued = Authority::new("stranger").expired_server(&["elsewhere"]);
    let server = lab.openssl_with(&issued, &["-rev"]);
    let skip = "tls = { insecure_skip_verify = true }";
    let pinned = format!("tls = {{ insecure_skip_verify = true, pin_sha256 = '{}' }}", issued.pin_text());
    let daemon = Daemon::start(&(server.route("^any@", skip) + &server.route("^pinned@", &pinned)));
    let lines = daemon.lines();
    let warned: Vec<_> = lines.iter().filter(|line| line["level"] == "WARN").collect();
    let told = warned.iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>().join("\n");
    for (warning, place) in [
        ("the route `^any@` does not verify who answers: anybody between here and there can", "routes.toml:5:9"),
        ("the route `^pinned@` verifies the peer's key alone: neither chain nor dates nor name", "routes.toml:11:9"),
    ] {
        assert!(told.contains(&format!("warning: {warning}\n")) && told.contains(place), "{told}");
    }

    for (node, pins) in [("any@x", 0), ("any@x", 0), ("pinned@x", 1)] {
        let mark = daemon.mark();
        assert_eq!(turned(&daemon, node), "nalotrop");
        let warned = daemon.wait_after(mark, "insecure_skip_verify");
        assert_eq!((&warned["level"], &warned["pins"]), (&"WARN".into(), &pins.into()), "{warned}");
    }
}

#[test]
fn an_end_without_close_notify_is_a_reset_and_one_with_it_an_end() {
    let lab = Lab::new();
    // Both end TCP in order; only the first says so in TLS, which is what tells an end from a cut.
    let said = lab.python("tls.sendall(b'bye\\n')\ntls.unwrap()\ntls.close()");
    let unsaid = lab.python("tls.sendall(b'bye\\n')\ntls.close()");
    let forward = |node: &str| format!("[[forward]]\nlisten = '127.0.0.1:0'\nnode = '{node}'\nopen = true\n");
    for (peer, end) in [(&said, "finished"), (&unsaid, "reset")] {
        let daemon = Daemon::start_with(&peer.route("^db@", &lab.trusting("")), &forward("db@x"));
        let mut stream = TcpStream::connect(daemon.forward()).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        assert_eq!(line(&mut stream), "bye");
        let rest = stream.read(&mut [0]);
        match end {
            "finished" => assert_eq!(rest.unwrap(), 0),
            _ => assert_eq!(rest.unwrap_err().kind(), ErrorKind::ConnectionReset),
        }
        drop(stream);
        let closed = daemon.wait_for("relay closed");
        assert_eq!((&closed["by"], &closed["end"]), (&"upstream".into(), &end.into()), "{closed}");
    }
}

#[test]
fn an_end_of_the_client_is_a_close_notify_and_the_answer_still_comes() {
    let lab = Lab::new();
    let server = lab.python(
        "asked = b''\nwhile piece := tls.recv(65536):\n    asked += piece\n\
         tls.sendall(b'%d bytes and an end\\n' % len(asked))\ntls.unwrap()",
    );
    let daemon = Daemon::start(&server.route("^db@", &lab.trusting("")));
    let mut stream = connect(&daemon.socket(), "db@x");
    stream.write_all(&vec![7; 300_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "300000 bytes and an end\n");
}
