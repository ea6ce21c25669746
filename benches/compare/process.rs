//! Processes that end with this one, however it ends, and what they have used.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// The hidden mode of [`guard`].
pub(crate) const GUARD: &str = "guard";

/// Outlives the harness by a moment: ends every group that was named to it when its standard input ends.
pub(crate) fn guard() {
    let mut groups = BTreeSet::new();
    for line in io::stdin().lines().map_while(Result::ok) {
        let group: i32 = line[1..].parse().unwrap();
        if line.starts_with('+') {
            groups.insert(group);
        } else {
            groups.remove(&group);
        }
    }
    groups.into_iter().for_each(end_group);
}

static THE_GUARD: LazyLock<Mutex<Child>> = LazyLock::new(|| {
    let mut guard = Command::new(env::current_exe().unwrap());
    guard.arg(GUARD).stdin(Stdio::piped()).process_group(0);
    Mutex::new(guard.spawn().unwrap())
});

fn tell_guard(sign: char, group: u32) {
    let mut guard = THE_GUARD.lock().unwrap();
    writeln!(guard.stdin.as_mut().unwrap(), "{sign}{group}").unwrap();
}

fn end_group(group: i32) {
    // It may have ended by itself.
    let _ended = Pid::from_raw(group).map(|group| kill_process_group(group, Signal::KILL));
}

/// A process in a group of its own; the group is ended when this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it with a pipe to and from it.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", command.get_program().to_string_lossy()))
        })?;
        tell_guard('+', child.id());
        let lines = child.stdout.take().map(BufReader::new);
        Ok(Self { child, lines })
    }

    /// This program again, in one of its hidden modes.
    pub(crate) fn this(arguments: &[&str]) -> io::Result<Self> {
        Self::start(Command::new(env::current_exe()?).args(arguments))
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        let lines = self.lines.as_mut().ok_or("its output is dropped")?;
        if lines.read_line(&mut line)? == 0 {
            return Err("it ended without a word".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Lets it go on: a line to its input.
    pub(crate) fn nudge(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(b"\n"))
    }

    /// What it writes from now on is dropped, so that it never waits for a reader.
    pub(crate) fn ignore_output(&mut self) {
        if let Some(mut lines) = self.lines.take() {
            thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
        }
    }

    /// Why it is of no use any more, if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("it ended with {status}").into()),
            None => Ok(()),
        }
    }

    /// The number of the process and of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the whole group has used and holds.
    pub(crate) fn used(&self) -> io::Result<Used> {
        let mut used = Used::default();
        for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
            let name = entry.file_name();
            if name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
                // Others come and go.
                let _gone = used.add(&name.to_string_lossy(), self.id());
            }
        }
        Ok(used)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.child.id();
        end_group(group.cast_signed());
        let _status = self.child.wait();
        tell_guard('-', group);
    }
}

/// What processes have used and hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Seconds, in user space and in the kernel; those of ended children included.
    pub(crate) cpu: f64,
    /// Resident memory in KiB.
    pub(crate) rss: f64,
    /// The same, shared pages divided by who shares them.
    pub(crate) pss: f64,
    /// Open descriptors.
    pub(crate) descriptors: f64,
}

impl Used {
    /// Of several processes.
    pub(crate) fn of(processes: &[Process]) -> io::Result<Self> {
        let mut all = Self::default();
        for process in processes {
            let used = process.used()?;
            all.cpu += used.cpu;
            all.rss += used.rss;
            all.pss += used.pss;
            all.descriptors += used.descriptors;
        }
        Ok(all)
    }

    fn add(&mut self, process: &str, group: u32) -> Result<(), Failure> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        let stat = read("stat")?;
        // The name, in brackets, may hold anything; from behind it fields are counted from 3, the state.
        let fields: Vec<&str> = stat[stat.rfind(')').ok_or("no name")? + 1..].split_whitespace().collect();
        let number = |field: usize| fields[field - 3].parse::<f64>();
        if number(5)? != f64::from(group) {
            return Ok(());
        }
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        self.cpu += (number(14)? + number(15)? + number(16)? + number(17)?) / ticks;
        let kib = |text: &str, key: &str| -> Result<f64, Failure> {
            let line = text.lines().find(|line| line.starts_with(key)).ok_or("no such line")?;
            Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
        };
        self.rss += kib(&read("status")?, "VmRSS:")?;
        self.pss += kib(&read("smaps_rollup")?, "Pss:")?;
        self.descriptors += fs::read_dir(format!("/proc/{process}/fd"))?.count() as f64;
        Ok(())
    }
}

/// A core of its own for each end, where there are two.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Core {
    First,
    Last,
}

impl Core {
    /// The one where the other end is.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::First => Self::Last,
            Self::Last => Self::First,
        }
    }
}

/// Keeps this process on one core. Unless they are kept apart, the scheduler puts both ends of a direct connection on one
/// core in some rounds and on two in others, and a round trip takes 12 or 58 us.
pub(crate) fn pin(core: Core) -> io::Result<()> {
    let cores = thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(match core {
        Core::First => 0,
        Core::Last => cores - 1,
    });
    Ok(sched_setaffinity(None, &set)?)
}

/// The output of a command that says its version or the like.
pub(crate) fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let mut text = String::new();
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    child.stderr.take()?.read_to_string(&mut text).ok()?;
    child.wait().ok()?;
    Some(text)
}
