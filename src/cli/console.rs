//! Where a command reads and writes; a test gives it buffers.

use std::io::{self, BufRead, BufWriter, Write};

use serde::Serialize;

use super::Exit;
use crate::config::{Problems, visible};

/// The three streams of a command.
pub(super) struct Console<'a> {
    /// What is piped into it.
    pub(super) input: &'a mut dyn BufRead,
    /// What it was asked for.
    pub(super) out: &'a mut dyn Write,
    /// What is wrong.
    pub(super) err: &'a mut dyn Write,
    /// Whether `err` shows colour.
    pub(super) color: bool,
}

impl Console<'_> {
    /// Runs a command on the streams of the process, which it has for itself meanwhile.
    pub(super) fn of_process(run: impl FnOnce(&mut Console<'_>) -> io::Result<Exit>) -> io::Result<Exit> {
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let mut err = io::stderr().lock();
        // On a terminal, unless NO_COLOR or TERM=dumb say otherwise.
        let color = anstream::AutoStream::choice(&err) != anstream::ColorChoice::Never;
        let mut console = Console { input: &mut io::stdin().lock(), out: &mut out, err: &mut err, color };
        let exit = run(&mut console)?;
        out.flush()?;
        Ok(exit)
    }

    /// Writes an object of JSON, on a line of its own.
    pub(super) fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, object)?;
        writeln!(self.out)
    }

    /// Says what is wrong with files.
    pub(super) fn show(&mut self, problems: &Problems) -> io::Result<()> {
        self.err.write_all(problems.render(self.color).as_bytes())
    }

    /// Says what is wrong otherwise.
    pub(super) fn complain(&mut self, message: &str) -> io::Result<()> {
        write_complaint(self.err, message)
    }
}

/// Says what is wrong when there is no console any more.
pub(super) fn complain(message: &str) {
    // With stderr gone there is nobody left to tell.
    write_complaint(&mut io::stderr().lock(), message).ok();
}

fn write_complaint(err: &mut dyn Write, message: &str) -> io::Result<()> {
    writeln!(err, "error: {}", visible(message))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// What a command wrote and how it ended.
    pub(in crate::cli) struct Ran {
        pub(in crate::cli) exit: Exit,
        pub(in crate::cli) out: String,
        pub(in crate::cli) err: String,
    }

    pub(in crate::cli) fn run(mut input: &[u8], run: impl FnOnce(&mut Console<'_>) -> io::Result<Exit>) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&mut Console { input: &mut input, out: &mut out, err: &mut err, color: false }).unwrap();
        Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }
}
