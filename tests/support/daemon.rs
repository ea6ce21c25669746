//! The real binary in a temporary folder.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::HANG;

/// The command under test.
pub const PORTOLAN: &str = env!("CARGO_BIN_EXE_portolan");

/// A folder with the files of a daemon; removed with the last of its clones.
#[derive(Clone)]
pub struct Folder {
    dir: Arc<TempDir>,
}

impl Folder {
    /// A folder with these routes; `extra` is added to `portolan.toml`.
    pub fn new(routes: &str, extra: &str) -> Self {
        let folder = Self { dir: Arc::new(tempfile::tempdir().unwrap()) };
        folder.write("routes.toml", routes);
        let head = "routes = \"routes.toml\"\n";
        folder.write("portolan.toml", &format!("{head}\n{extra}\n[socket]\npath = \"portolan.sock\"\n"));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Puts a file in the place of another in one step, as editors do.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.path(&format!(".{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.path("portolan.sock")
    }

    /// `portolan ARGS` in this folder, run to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `portolan ARGS` in this folder, without the caller's environment getting in the way.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PORTOLAN);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in [
            "PORTOLAN_CONFIG",
            "PORTOLAN_SOCKET",
            "XDG_RUNTIME_DIR",
            "RUNTIME_DIRECTORY",
            "JOURNAL_STREAM",
            "PORTOLAN_ADMIN",
            "STATE_DIRECTORY",
        ] {
            command.env_remove(name);
        }
        command
    }
}

/// A daemon that runs; it is killed when this is dropped.
pub struct Daemon {
    pub folder: Folder,
    child: Child,
    log: Arc<Log>,
}

/// The lines of the daemon's log, as they come.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<Value>, bool)>,
    grown: Condvar,
}

impl Daemon {
    /// Starts a daemon with these routes and waits until it serves.
    pub fn start(routes: &str) -> Self {
        Self::start_with(routes, "")
    }

    /// The same with more in `portolan.toml`.
    pub fn start_with(routes: &str, extra: &str) -> Self {
        Self::in_folder(Folder::new(routes, extra))
    }

    pub fn in_folder(folder: Folder) -> Self {
        let command = folder.command(&["run", "--config", "portolan.toml"]);
        Self::spawn(folder, command)
    }

    /// Starts a prepared command and waits until it serves.
    pub fn spawn(folder: Folder, mut command: Command) -> Self {
        // A process group of its own: a test that is interrupted does not hit it half-way.
        let mut child = command.stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, shared) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                shared.lines.lock().unwrap().0.push(line);
                shared.grown.notify_all();
            }
            shared.lines.lock().unwrap().1 = true;
            shared.grown.notify_all();
        });
        let daemon = Self { folder, child, log };
        daemon.wait_for("serving");
        daemon
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.socket()
    }

    /// The bytes of memory that it has.
    pub fn resident(&self) -> usize {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid().as_raw_nonzero())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    }

    /// How many lines the log has: a mark for [`wait_after`](Self::wait_after).
    pub fn mark(&self) -> usize {
        self.log.lines.lock().unwrap().0.len()
    }

    /// Waits for a line with this message, from the beginning of the log.
    pub fn wait_for(&self, message: &str) -> Value {
        self.wait_after(0, message)
    }

    /// Waits for a line whose message has this text, after a mark.
    pub fn wait_after(&self, mark: usize, message: &str) -> Value {
        // A line that is not JSON is a line of the text format.
        let said = |line: &Value| line["message"].as_str().or(line.as_str()).is_some_and(|text| text.contains(message));
        let began = Instant::now();
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().skip(mark).find(|line| said(line)) {
                return line.clone();
            }
            let left = HANG.saturating_sub(began.elapsed());
            assert!(!lines.1 && !left.is_zero(), "no line with {message:?} in the log:\n{}", text_of(&lines.0));
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap().0.clone()
    }

    /// Replaces `routes.toml`, reloads by SIGHUP, and returns the line that says how it went.
    pub fn reload(&self, routes: &str) -> Value {
        self.folder.replace("routes.toml", routes);
        self.hang_up()
    }

    /// SIGHUP, and the line that says how the reload went.
    pub fn hang_up(&self) -> Value {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_after(mark, "reload")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// SIGTERM, and what came of it.
    pub fn stop(mut self) -> (ExitStatus, Vec<Value>) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> (ExitStatus, Vec<Value>) {
        let began = Instant::now();
        let mut lines = self.log.lines.lock().unwrap();
        // The end of its log is the end of the process.
        while !lines.1 {
            let left = HANG.saturating_sub(began.elapsed());
            assert!(!left.is_zero(), "it does not end:\n{}", text_of(&lines.0));
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
        (self.child.wait().unwrap(), lines.0.clone())
    }

    /// The address of a forward on port 0.
    pub fn forward(&self) -> String {
        self.wait_for("forwarding")["address"].as_str().unwrap().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let lines = self.log.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            eprintln!("the daemon's log:\n{}", text_of(&lines.0));
        }
    }
}

fn text_of(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// The text of a command's output.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A path as text.
pub fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Daemon {
    /// Waits for a line with this message, after a mark, that is also as it is wanted.
    pub fn wait_until(&self, mark: usize, message: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut mark = mark;
        loop {
            self.wait_after(mark, message);
            let lines = self.lines();
            let is_it = |line: &&Value| line["message"].as_str().is_some_and(|text| text.contains(message));
            if let Some(line) = lines.iter().skip(mark).filter(is_it).find(|line| wanted(line)) {
                return line.clone();
            }
            mark = lines.len();
        }
    }

    /// What the log says at this level, after a mark.
    pub fn said(&self, mark: usize, level: &str) -> Vec<String> {
        let lines = self.lines();
        let of_level = lines.iter().skip(mark).filter(|line| line["level"] == level);
        of_level.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// Whether this user may make a user namespace, in which limits and rights can be taken away.
pub fn can_unshare() -> bool {
    let can = Command::new("unshare").args(["--user", "--map-root-user", "true"]).output();
    let can = can.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: unshare(1) may not make a user namespace here");
    }
    can
}

/// A process that runs; it is killed when this is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a daemon that may refuse to; `Err` has what it said before it ended with 1.
pub fn launch(mut command: Command) -> Result<Running, String> {
    let mut running = Running(command.stderr(Stdio::piped()).process_group(0).spawn().unwrap());
    let (stderr, (line, lines)) = (running.0.stderr.take().unwrap(), channel());
    std::thread::spawn(move || {
        // Nobody listens any more once it serves; its log is read on, so that it can be written.
        BufReader::new(stderr).lines().map_while(Result::ok).for_each(|text| drop(line.send(text)));
    });
    let mut said = String::new();
    loop {
        match lines.recv_timeout(HANG) {
            Ok(line) if line.contains("\"message\":\"serving\"") => return Ok(running),
            Ok(line) => said += &(line + "\n"),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("it neither serves nor ends:\n{said}"),
        }
    }
    assert_eq!(running.0.wait().unwrap().code(), Some(1), "{said}");
    Err(said)
}

/// What a daemon says that does not start.
pub fn fails_to_start(command: Command) -> String {
    match launch(command) {
        Ok(_running) => panic!("it serves"),
        Err(said) => said,
    }
}

/// The same command, run by another one, such as `setpriv`.
pub fn run_by(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper[0]);
    wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    wrapped.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

impl Daemon {
    /// Starts a daemon whose log is not read here, and waits until it tells its service manager that it serves.
    pub fn spawn_unread(folder: Folder, mut command: Command, stderr: Stdio) -> Self {
        let manager = super::manager::Manager::in_folder(&folder);
        let child = command.env("NOTIFY_SOCKET", manager.path()).stderr(stderr).process_group(0).spawn().unwrap();
        let log = Log { lines: Mutex::new((Vec::new(), true)), grown: Condvar::new() };
        let daemon = Self { folder, child, log: Arc::new(log) };
        manager.wait_for("READY=1");
        daemon
    }

    /// Waits until the log has this many lines with this message.
    pub fn wait_for_lines(&self, count: usize, message: &str) -> Vec<Value> {
        let began = Instant::now();
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            let found: Vec<_> = lines.0.iter().filter(|line| line["message"] == message).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = HANG.saturating_sub(began.elapsed());
            let missing = format!("{} of {count} lines with {message:?}", found.len());
            assert!(!lines.1 && !left.is_zero(), "{missing} in the log:\n{}", text_of(&lines.0));
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
    }
}
