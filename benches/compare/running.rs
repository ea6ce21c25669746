//! One peer with its upstream, started for one measure and ended with it.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Failure;
use crate::certs::Authority;
use crate::peers::{Entry, Peer, Reload, Setting, Words};
use crate::process::{Core, Process, Used};
use crate::task::{ASK, Door, Kind, Load, Outcome};

/// A peer must listen after so long.
const START: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// A peer that listens, its upstreams, and the door in question.
pub(crate) struct Running {
    peer: &'static Peer,
    setting: Setting,
    door: Door,
    /// Where the upstreams are; the loads are on the other one.
    core: Core,
    words: Words,
    proxies: Vec<Process>,
    upstreams: Vec<Process>,
    folder: TempDir,
}

impl Running {
    /// Starts all of it; `resume` is whether a TLS upstream does, `core` where the upstreams are, and `user` whose the
    /// proxies are, if not ours.
    pub(crate) fn start(
        peer: &'static Peer,
        entry: Entry,
        setting: Setting,
        resume: bool,
        core: Core,
        user: Option<&str>,
    ) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let ca = folder.path().join("ca.pem");
        if matches!(setting, Setting::Tls | Setting::Silent) {
            certificates(folder.path());
        }
        let mut upstreams = Vec::new();
        let mut upstream = |kind| start_upstream(kind, core, folder.path(), &mut upstreams);
        let address = match setting {
            Setting::Tls | Setting::Silent => upstream(Kind::Tls { resume })?,
            Setting::Plain | Setting::Failover | Setting::Reload => upstream(Kind::Plain { mark: ASK })?,
        };
        let primary = match setting {
            Setting::Failover => upstream(Kind::Blackhole)?,
            Setting::Silent => upstream(Kind::Silent)?,
            Setting::Plain | Setting::Tls | Setting::Reload => address,
        };
        let (unix, head) = (folder.path().join("unix.sock"), folder.path().join("head.sock"));
        let [port, control] = free_ports()?;
        let tcp = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let words = Words(vec![
            ("folder", folder.path().display().to_string()),
            ("unix", unix.display().to_string()),
            ("head", head.display().to_string()),
            ("tcp", tcp.to_string()),
            ("port", port.to_string()),
            ("control", control.to_string()),
            ("upstream", address.to_string()),
            ("primary", primary.to_string()),
            ("ca", ca.display().to_string()),
            ("this", env::current_exe()?.display().to_string()),
            ("portolan", env!("CARGO_BIN_EXE_portolan").to_owned()),
        ]);
        let door = match (peer.is_direct(), entry, setting) {
            (true, _, Setting::Tls) => Door::Tls { address, ca, resume },
            (true, ..) => Door::Tcp(address),
            (false, Entry::Head, _) => Door::Head(head),
            (false, Entry::HandOff, _) => Door::HandOff(head),
            (false, Entry::Unix, _) => Door::Unix(unix),
            (false, Entry::Tcp, _) => Door::Tcp(tcp),
        };
        let mut running = Self { peer, setting, door, core, words, proxies: Vec::new(), upstreams, folder };
        running.write_files()?;
        running.start_proxies(user)?;
        Ok(running)
    }

    /// So many it can hold.
    pub(crate) fn most_relays(&self) -> usize {
        self.peer.most_relays
    }

    /// Loads the door from a process of its own.
    pub(crate) fn load(&self, load: &Load) -> Result<Outcome, Failure> {
        outcome(&mut self.start_load(load)?)
    }

    /// The same, for a load that says more than its outcome.
    pub(crate) fn start_load(&self, load: &Load) -> Result<Process, Failure> {
        let core = serde_json::to_string(&self.core.other())?;
        Ok(Process::this(&["load", &core, &serde_json::to_string(&self.door)?, &serde_json::to_string(load)?])?)
    }

    /// What the processes of the proxy have used and hold; nothing for direct.
    pub(crate) fn used(&self) -> Result<Used, Failure> {
        Ok(Used::of(&self.proxies)?)
    }

    /// Starts another upstream, whose answers bear this mark; no file names it yet.
    pub(crate) fn start_another(&mut self, mark: u8) -> Result<SocketAddr, Failure> {
        start_upstream(Kind::Plain { mark }, self.core, self.folder.path(), &mut self.upstreams)
    }

    /// From now on the files name this upstream; the peer is not told yet.
    pub(crate) fn point_to(&mut self, upstream: SocketAddr) -> Result<(), Failure> {
        for (word, value) in &mut self.words.0 {
            if *word == "upstream" {
                *value = upstream.to_string();
            }
        }
        self.write_files()
    }

    /// Tells the peer to read its files again, and does not wait for it.
    pub(crate) fn reload(&self) -> Result<(), Failure> {
        match self.peer.reload.ok_or("it has no reload")? {
            Reload::Signal(signal) => {
                let first = self.proxies.first().ok_or("it has no process")?;
                let pid = rustix::process::Pid::from_raw(first.id().cast_signed()).ok_or("it has no number")?;
                rustix::process::kill_process(pid, signal)?;
            }
            Reload::Command(command) => {
                let command = self.words.command(command);
                Command::new(&command[0]).args(&command[1..]).output()?;
            }
        }
        Ok(())
    }

    fn write_files(&self) -> Result<(), Failure> {
        for (name, text) in self.peer.files(self.setting, &self.words) {
            // As an editor does it: one that is watched is never half there.
            let (file, new) = (self.folder.path().join(name), self.folder.path().join(format!("{name}.new")));
            fs::write(&new, text)?;
            fs::rename(new, file)?;
        }
        Ok(())
    }

    fn start_proxies(&mut self, user: Option<&str>) -> Result<(), Failure> {
        for mut words in self.peer.commands(&self.words) {
            if let Some(user) = user {
                let prefix = ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", "--"];
                words.splice(0..0, prefix.map(str::to_owned));
            }
            let log = fs::File::create(self.folder.path().join("stderr"))?;
            let mut process = Process::start(Command::new(&words[0]).args(&words[1..]).stderr(log))?;
            process.ignore_output();
            self.proxies.push(process);
        }
        if self.proxies.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        while !listens(&self.door)? {
            let ended = self.proxies.iter_mut().find_map(|process| process.check().err());
            if let Some(error) = ended {
                return Err(format!("{error}: {}", self.complaints()).into());
            }
            if begun.elapsed() > START {
                return Err(format!("it does not listen: {}", self.complaints()).into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

/// The last line of a load.
pub(crate) fn outcome(load: &mut Process) -> Result<Outcome, Failure> {
    Ok(serde_json::from_str(&load.line()?)?)
}

fn start_upstream(kind: Kind, core: Core, folder: &Path, upstreams: &mut Vec<Process>) -> Result<SocketAddr, Failure> {
    let [core, kind] = [serde_json::to_string(&core)?, serde_json::to_string(&kind)?];
    let mut process = Process::this(&["upstream", &core, &kind, &folder.display().to_string()])?;
    let address = process.line()?.parse()?;
    upstreams.push(process);
    Ok(address)
}

fn certificates(folder: &Path) {
    let authority = Authority::new("bench");
    // nginx compares names alone.
    authority.server(&["127.0.0.1", "node.bench"]).write(folder, "node");
    authority.write(folder, "ca");
}

/// Ports that nobody has at the moment.
fn free_ports<const N: usize>() -> Result<[u16; N], Failure> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Whether somebody listens there, without a connection that the peer would have to dial for.
fn listens(door: &Door) -> Result<bool, Failure> {
    match door {
        Door::Unix(path) | Door::Head(path) | Door::HandOff(path) => {
            if !path.exists() {
                return Ok(false);
            }
            let path = path.display().to_string();
            let table = fs::read_to_string("/proc/net/unix")?;
            // The fourth field is __SO_ACCEPTCON. HAProxy binds another name and moves it here, where the table has the
            // first one.
            Ok(table.lines().any(|line| line.contains(&path) && line.split_whitespace().nth(3) == Some("00010000")))
        }
        Door::Tcp(address) | Door::Tls { address, .. } => {
            let local = format!("0100007F:{:04X}", address.port());
            let table = fs::read_to_string("/proc/net/tcp")?;
            Ok(table
                .lines()
                .map(|line| line.split_whitespace().skip(1))
                .any(|mut fields| fields.next() == Some(&local) && fields.nth(1) == Some("0A")))
        }
    }
}
