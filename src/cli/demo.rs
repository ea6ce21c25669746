//! `portolan demo`: the tour for a newcomer, with real nodes, a real daemon and the real commands.

use std::fs;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Exit;
use super::console::Console;
use crate::config::{reason, visible};

/// Runs the tour.
pub(super) fn run(console: &mut Console<'_>) -> io::Result<Exit> {
    match tour(&mut console.out) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(error),
        Err(error) => {
            let message = error.to_string();
            let mut lines = message.lines();
            console.complain(&format!("the demo cannot go on: {}", lines.next().unwrap_or_default()))?;
            // What a command of the tour has said about it.
            for line in lines {
                writeln!(console.err, "  {}", visible(line))?;
            }
            Ok(Exit::Problems)
        }
    }
}

fn tour(out: &mut impl Write) -> io::Result<()> {
    let (folder, portolan) = (temporary_folder()?, std::env::current_exe()?);
    let folder = folder.path();
    let mut step = {
        let mut number = 0;
        move |out: &mut dyn Write, text: &str| {
            number += 1;
            writeln!(out, "{number:>2}. {text}")?;
            // Somebody is watching.
            out.flush()
        }
    };

    let (primary, backup) = (Node::start("primary")?, Node::start("backup")?);
    step(out, &format!("two nodes listen: the primary on port {}, the backup on port {}", primary.port, backup.port))?;

    let routes = format!("{}{}", route("^prod-db@", 200, primary.port), route("^prod-db@.*", 100, backup.port));
    fs::write(folder.join("routes.toml"), &routes)?;
    fs::write(folder.join("portolan.toml"), CONFIG)?;
    step(out, &format!("routes.toml has two routes to prod-db, the primary's heavier ({})", folder.display()))?;
    for line in routes.lines().filter(|line| !line.is_empty()) {
        writeln!(out, "        {line}")?;
    }

    let mut daemon = Daemon::start(&portolan, folder)?;
    step(out, "portolan run: the daemon serves on a Unix socket")?;

    step(out, &format!("portolan connect prod-db@demo  ->  {}", connect(&portolan, folder, "prod-db@demo")?))?;
    writeln!(out, "        {}", daemon.wait_for("relay closed", &["route", "attempts"])?)?;
    drop(primary);
    step(out, "the primary dies")?;
    step(out, &format!("portolan connect prod-db@demo  ->  {}", connect(&portolan, folder, "prod-db@demo")?))?;
    writeln!(out, "        {}", daemon.wait_for("relay closed", &["route", "attempts"])?)?;

    let cache = Node::start("cache")?;
    fs::write(folder.join("routes.toml"), routes.clone() + &route("^cache@", 100, cache.port))?;
    step(out, "routes.toml gets a third route; nobody restarts anything")?;
    writeln!(out, "        {}", daemon.wait_for("reloaded", &["generation", "changes"])?)?;
    step(out, &format!("portolan connect cache@demo    ->  {}", connect(&portolan, folder, "cache@demo")?))?;

    fs::write(folder.join("routes.toml"), routes.replace("weight", "wieght"))?;
    step(out, "routes.toml gets a mistake; the table in force stays")?;
    writeln!(out, "        {}", daemon.wait_for("reload refused", &["why"])?)?;
    step(out, &format!("portolan connect cache@demo    ->  {}", connect(&portolan, folder, "cache@demo")?))?;

    step(out, &format!("the daemon is told to end        ->  {}", daemon.end()?))?;
    writeln!(out, "\nNow your own: config/portolan.toml and config/routes.toml, then `portolan run`.")
}

fn temporary_folder() -> io::Result<TempDir> {
    let parent = std::env::temp_dir();
    tempfile::Builder::new().prefix("portolan-demo-").tempdir_in(&parent).map_err(|error| {
        let (parent, why) = (parent.display(), reason(&error));
        io::Error::other(format!(
            "no folder can be made in {parent}: {why}; set TMPDIR to a folder where you may write"
        ))
    })
}

const CONFIG: &str = "routes = \"routes.toml\"\n\n[socket]\npath = \"portolan.sock\"\n\n[log]\nformat = \"json\"\n";

fn route(pattern: &str, weight: i64, port: u16) -> String {
    format!("[[route]]\nmatch = '{pattern}'\nweight = {weight}\nhost = \"127.0.0.1\"\nport = {port}\n\n")
}

/// What `portolan connect` prints when the node has said what it has to say.
fn connect(portolan: &Path, folder: &Path, node: &str) -> io::Result<String> {
    let mut command = Command::new(portolan);
    command.args(["connect", "--socket", "portolan.sock", node]).current_dir(folder).stdin(Stdio::null());
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A small node: it says who it is and ends. It dies when it is dropped.
struct Node {
    port: u16,
    dead: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(name: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (port, dead) = (listener.local_addr()?.port(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&dead);
        let thread = thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::SeqCst) {
                    break;
                }
                // A client that has gone meanwhile misses nothing.
                drop(writeln!(stream, "I am the {name}"));
            }
        });
        Ok(Self { port, dead, thread: Some(thread) })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::SeqCst);
        // Wakes its accept, so that it notices.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// The daemon, and its log as it comes.
struct Daemon {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Daemon {
    fn start(portolan: &Path, folder: &Path) -> io::Result<Self> {
        let mut command = Command::new(portolan);
        // In the folder and not by its path, which may be longer than that of a Unix socket can be.
        command.args(["run", "--config", "portolan.toml"]).current_dir(folder);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("the daemon has no log"))?;
        let mut daemon = Self { child, log: BufReader::new(stderr).lines() };
        daemon.wait_for("serving", &[])?;
        Ok(daemon)
    }

    /// Waits for a line of the log and returns some of its fields as text.
    fn wait_for(&mut self, message: &str, fields: &[&str]) -> io::Result<String> {
        let mut said = String::new();
        for line in self.log.by_ref() {
            let line = line?;
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event.get("message").and_then(|text| text.as_str()).is_some_and(|text| text.starts_with(message)) {
                let fields = fields.iter().filter_map(|name| Some(format!("{name}={}", event.get(name)?)));
                return Ok(format!("log: {message} {}", fields.collect::<Vec<_>>().join(" ")));
            }
            said = said + &line + "\n";
        }
        Err(io::Error::other(format!("the daemon ended early; its log:\n{said}")))
    }

    fn end(&mut self) -> io::Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.wait_for("ended", &[])?;
        Ok(self.child.wait()?.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, unless the tour was broken off.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
