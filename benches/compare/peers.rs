//! Who is measured, and how each is started. What they are told is in `peers/`, beside this file.
//!
//! A line there that begins with `@word` is meant for the settings of that name alone (`@tls|silent`: for both), and
//! `{word}` is replaced.

use std::env;
use std::path::{Path, PathBuf};

/// What is between the client and the upstream, beyond the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Plain,
    /// The proxy speaks TLS to the upstream; it may resume sessions where the upstream lets it.
    Tls,
    /// The primary's SYNs are lost; there is a backup.
    Failover,
    /// The primary accepts and is silent where TLS is expected; there is a backup.
    Silent,
    /// The same as plain, with what a reload without loss needs.
    Reload,
}

impl Setting {
    /// Its name in the files.
    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Failover => "failover",
            Self::Silent => "silent",
            Self::Reload => "reload",
        }
    }
}

/// How a peer is told to read its files again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reload {
    /// A signal to its first process.
    Signal(rustix::process::Signal),
    /// A command.
    Command(&'static [&'static str]),
}

/// The doors of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Entry {
    /// A Unix socket, where a head names the node; portolan's alone.
    Head,
    /// The same, where the client is handed the upstream's socket and portolan is out of the way.
    HandOff,
    /// A Unix socket that leads to one node.
    Unix,
    /// A TCP port that leads to one node.
    Tcp,
}

impl Entry {
    /// Measured without being asked for.
    pub(crate) fn usual(self) -> bool {
        self != Self::HandOff
    }
}

/// One that is measured.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// The program, and what to do where it is missing; `None` is part of this repository.
    pub(crate) program: Option<&'static str>,
    /// How it says its version.
    pub(crate) version: &'static [&'static str],
    pub(crate) entries: &'static [Entry],
    pub(crate) settings: &'static [Setting],
    /// A word of its own for the lines of its files.
    word: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// The command of each of its processes.
    processes: &'static [&'static [&'static str]],
    pub(crate) reload: Option<Reload>,
    /// So many idle relays it is asked to hold at most.
    pub(crate) most_relays: usize,
    /// The measures that it is fit for, by name; none: all of its settings.
    pub(crate) measures: &'static [&'static str],
}

const BOTH: &[Entry] = &[Entry::Unix, Entry::Tcp];
const RELAYS: &[Setting] = &[Setting::Plain];
const ALL: &[Setting] = &[Setting::Plain, Setting::Tls, Setting::Failover, Setting::Silent, Setting::Reload];
const HAPROXY_CFG: &[(&str, &str)] = &[("haproxy.cfg", include_str!("peers/haproxy.cfg"))];
const HAPROXY: &[&[&str]] = &[&["haproxy", "-W", "-db", "-f", "{folder}/haproxy.cfg"]];

/// What most have.
const PLAIN: Peer = Peer {
    name: "",
    program: None,
    version: &[],
    entries: BOTH,
    settings: RELAYS,
    word: "",
    files: &[],
    processes: &[],
    reload: None,
    most_relays: usize::MAX,
    measures: &[],
};

/// All of them; direct, which has no proxy, comes first.
pub(crate) const PEERS: &[Peer] = &[
    Peer { name: "direct", entries: &[Entry::Tcp], settings: &[Setting::Plain, Setting::Tls], ..PLAIN },
    Peer {
        name: "portolan",
        version: &["{portolan}", "--version"],
        entries: &[Entry::Head, Entry::Unix, Entry::Tcp, Entry::HandOff],
        settings: ALL,
        files: &[
            ("portolan.toml", include_str!("peers/portolan.toml")),
            ("routes.toml", include_str!("peers/routes.toml")),
        ],
        processes: &[&["{portolan}", "run", "--config", "{folder}/portolan.toml"]],
        reload: Some(Reload::Signal(rustix::process::Signal::HUP)),
        ..PLAIN
    },
    // No proxy to be used: what the kernel alone costs.
    Peer {
        name: "bare epoll",
        processes: &[&["{this}", "proxy", "bare", "{unix}", "{tcp}", "{upstream}"]],
        measures: &["rtt", "conn1", "conn64"],
        ..PLAIN
    },
    Peer { name: "tokio copy", processes: &[&["{this}", "proxy", "copy", "{unix}", "{tcp}", "{upstream}"]], ..PLAIN },
    Peer {
        name: "tokio splice",
        processes: &[&["{this}", "proxy", "splice", "{unix}", "{tcp}", "{upstream}"]],
        ..PLAIN
    },
    Peer {
        name: "tokio-rustls",
        settings: &[Setting::Tls],
        processes: &[&["{this}", "proxy", "tls", "{unix}", "{tcp}", "{upstream}", "{ca}"]],
        ..PLAIN
    },
    Peer {
        name: "Go io.Copy",
        program: Some("go-proxy"),
        processes: &[&["go-proxy", "{unix}", "{tcp}", "{upstream}"]],
        // A relay has six descriptors: two pipes, while it waits for bytes.
        most_relays: 2_500,
        ..PLAIN
    },
    Peer {
        name: "HAProxy",
        program: Some("haproxy"),
        version: &["haproxy", "-v"],
        settings: ALL,
        files: HAPROXY_CFG,
        processes: HAPROXY,
        // To the master, which starts a new worker; that takes the listeners over from the old one.
        reload: Some(Reload::Signal(rustix::process::Signal::USR2)),
        ..PLAIN
    },
    Peer {
        name: "HAProxy splice",
        program: Some("haproxy"),
        word: "splice",
        files: HAPROXY_CFG,
        processes: HAPROXY,
        ..PLAIN
    },
    Peer {
        name: "nginx",
        program: Some("nginx"),
        version: &["nginx", "-v"],
        settings: ALL,
        files: &[("nginx.conf", include_str!("peers/nginx.conf"))],
        processes: &[&["nginx", "-c", "{folder}/nginx.conf", "-e", "{folder}/nginx.log"]],
        reload: Some(Reload::Signal(rustix::process::Signal::HUP)),
        ..PLAIN
    },
    Peer {
        name: "sozu",
        program: Some("sozu"),
        version: &["sozu", "--version"],
        entries: &[Entry::Tcp],
        settings: &[Setting::Plain, Setting::Reload],
        files: &[("sozu.toml", include_str!("peers/sozu.toml"))],
        processes: &[&["sozu", "-c", "{folder}/sozu.toml", "start"]],
        reload: Some(Reload::Command(&["sozu", "-c", "{folder}/sozu.toml", "reload", "-f", "{folder}/sozu.toml"])),
        // A relay has six descriptors.
        most_relays: 2_500,
        ..PLAIN
    },
    Peer {
        name: "rathole",
        program: Some("rathole"),
        version: &["rathole", "--version"],
        entries: &[Entry::Tcp],
        files: &[
            ("rathole-server.toml", include_str!("peers/rathole-server.toml")),
            ("rathole-client.toml", include_str!("peers/rathole-client.toml")),
        ],
        processes: &[&["rathole", "{folder}/rathole-server.toml"], &["rathole", "{folder}/rathole-client.toml"]],
        ..PLAIN
    },
    Peer {
        // A process for each connection; 64 KiB at a time instead of 8.
        name: "socat",
        program: Some("socat"),
        version: &["socat", "-V"],
        processes: &[
            &["socat", "-b65536", "UNIX-LISTEN:{unix},fork,backlog=4096,mode=666", "TCP:{upstream},nodelay"],
            &[
                "socat",
                "-b65536",
                "TCP-LISTEN:{port},bind=127.0.0.1,fork,backlog=4096,nodelay",
                "TCP:{upstream},nodelay",
            ],
        ],
        // A relay has a process.
        most_relays: 0,
        ..PLAIN
    },
    Peer {
        name: "stunnel",
        program: Some("stunnel4"),
        version: &["stunnel4", "-version"],
        settings: &[Setting::Tls],
        files: &[("stunnel.conf", include_str!("peers/stunnel.conf"))],
        processes: &[&["stunnel4", "{folder}/stunnel.conf"]],
        ..PLAIN
    },
];

impl Peer {
    /// Who is compared with; no proxy.
    pub(crate) fn is_direct(&self) -> bool {
        self.name == "direct"
    }

    /// Whether its program is there.
    pub(crate) fn found(&self) -> bool {
        self.program.is_none_or(|program| find(program).is_some())
    }

    /// Its files in this setting, by name.
    pub(crate) fn files(&self, setting: Setting, words: &Words) -> Vec<(&'static str, String)> {
        self.files.iter().map(|(name, text)| (*name, words.fill(&self.chosen(text, setting)))).collect()
    }

    /// Its commands, each as program and arguments.
    pub(crate) fn commands(&self, words: &Words) -> Vec<Vec<String>> {
        self.processes.iter().map(|command| words.command(command)).collect()
    }

    fn chosen(&self, text: &str, setting: Setting) -> String {
        let mine = |line: &str| {
            let Some(marked) = line.strip_prefix('@') else { return Some(line.to_owned()) };
            let (marks, rest) = marked.split_once(' ')?;
            let here = |mark: &str| {
                // A reload is one of a plain table.
                mark == self.word || mark == setting.word() || (mark == "plain" && setting == Setting::Reload)
            };
            marks.split('|').any(here).then(|| format!(" {rest}"))
        };
        text.lines().filter_map(mine).map(|line| line + "\n").collect()
    }
}

/// What stands for `{word}`.
pub(crate) struct Words(pub(crate) Vec<(&'static str, String)>);

impl Words {
    /// A command with its program's whole path.
    pub(crate) fn command(&self, command: &[&str]) -> Vec<String> {
        let mut filled: Vec<_> = command.iter().map(|word| self.fill(word)).collect();
        if let Some(path) = filled.first().and_then(|program| find(program)) {
            filled[0] = path.display().to_string();
        }
        filled
    }

    fn fill(&self, text: &str) -> String {
        let replace = |text: String, (word, value): &(&str, String)| text.replace(&format!("{{{word}}}"), value);
        self.0.iter().fold(text.to_owned(), replace)
    }
}

/// Where `install.sh` puts what Debian does not have.
pub(crate) fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/compare/bin")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [installed(), "/usr/sbin".into()].into_iter().chain(env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
