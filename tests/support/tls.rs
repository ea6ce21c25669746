//! TLS peers that are other people's: `openssl s_server` and Python's `ssl`, on ports given by the kernel.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::certs::{Authority, Issued};
use super::daemon::utf8;

/// An authority, and a folder for what it signs.
pub struct Lab {
    folder: TempDir,
    pub authority: Authority,
    ca: PathBuf,
}

impl Lab {
    pub fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("portolan test"));
        let ca = authority.write(folder.path(), "ca");
        Self { folder, authority, ca }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> &str {
        utf8(&self.ca)
    }

    /// A `tls` line of a route that trusts this authority alone; `more` is further keys, each behind a comma.
    pub fn trusting(&self, more: &str) -> String {
        format!("tls = {{ ca = '{}'{more} }}", self.ca())
    }

    /// The keys `cert` and `key` of a certificate of our own.
    pub fn identity(&self) -> String {
        let (cert, key) = self.authority.client("portolan").write(self.folder.path(), "ours");
        format!(", cert = '{}', key = '{}'", utf8(&cert), utf8(&key))
    }

    /// A good peer at 127.0.0.1, by `openssl s_server`: `-rev` turns lines around, `-www` is an HTTP server whose page
    /// says what was spoken.
    pub fn openssl(&self, args: &[&str]) -> TlsPeer {
        self.openssl_with(&self.authority.server(&["127.0.0.1"]), args)
    }

    /// The same with a certificate that may be a bad one.
    pub fn openssl_with(&self, issued: &Issued, args: &[&str]) -> TlsPeer {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0"]).args(self.pair(issued)).args(args);
        TlsPeer::start(command, |line| line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.parse().ok())
    }

    /// A good peer at 127.0.0.1 that runs this Python for each `tls`, the accepted `ssl.SSLSocket`; its `recv` raises at
    /// an end without close_notify.
    pub fn python(&self, script: &str) -> TlsPeer {
        let pair = self.pair(&self.authority.server(&["127.0.0.1"]));
        let script = format!(
            "import socket, ssl, sys\n\
             context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
             context.load_cert_chain(sys.argv[2], sys.argv[4])\n\
             listener = socket.create_server(('127.0.0.1', 0))\n\
             print(listener.getsockname()[1], flush=True)\n\
             while True:\n\
             \x20   tls = context.wrap_socket(listener.accept()[0], server_side=True, suppress_ragged_eofs=False)\n\
             \x20   {}\n",
            script.replace('\n', "\n    ")
        );
        let mut command = Command::new("python3");
        command.args(["-c", &script]).args(pair);
        TlsPeer::start(command, |line| line.parse().ok())
    }

    fn pair(&self, issued: &Issued) -> [String; 4] {
        // Each peer has files of its own, though each has read them by the time it listens.
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let (cert, key) = issued.write(&folder, "server");
        ["-cert".to_owned(), utf8(&cert).to_owned(), "-key".to_owned(), utf8(&key).to_owned()]
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A process that speaks TLS; it ends when this is dropped.
pub struct TlsPeer {
    child: Child,
    port: u16,
    /// Kept open: to write into a closed one would end the peer.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl TlsPeer {
    fn start(mut command: Command, port: impl Fn(&str) -> Option<u16>) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| port(&line.unwrap())).unwrap();
        Self { child, port, _stdout: lines }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A `[[route]]` to it.
    pub fn route(&self, pattern: &str, more: &str) -> String {
        let port = self.port;
        format!("[[route]]\nmatch = '{pattern}'\nhost = \"127.0.0.1\"\nport = {port}\n{more}\n\n")
    }
}

impl Drop for TlsPeer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
