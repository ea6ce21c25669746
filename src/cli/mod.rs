//! The commands: arguments are read here, one file does the work of each.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// `portolan run`
mod run;
/// `portolan check`
mod check;
/// What `lookup` and the other commands show of a route.
mod view;
/// `portolan lookup`
mod lookup;
/// What it asks
mod resolve;
/// `portolan connect`
pub mod connect;
/// `portolan routes`
mod routes;
/// `portolan routes push`
mod push;
/// `portolan relays`
mod relays;
/// `portolan forwards`
mod forwards;
/// `portolan upstreams`
mod upstreams;
/// `portolan resolvers`
mod resolvers;
/// `portolan explain`
mod explain;
/// `portolan reload`
mod reload;
/// `portolan diff`
mod diff;
/// `portolan demo`
mod demo;
/// `portolan completions` and `portolan man`
mod papers;
/// Where a command reads and writes.
mod console;
/// How a command asks the daemon.
mod admin;
/// How it asks for a list.
mod pages;

use crate::client::{NoDaemon, Which, configured_socket, open_socket, socket_candidates};
use console::Console;

use crate::config;

/// Static routes between nodes: dials the best-weighted route to a node by name, fails over, and relays.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 problems found, 2 usage, 3 refused, 4 cut, 5 no daemon there.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT; SIGHUP reloads
    Run(run::Arguments),
    /// Check configuration and routes files, offline, with the daemon's own loader
    Check(check::Arguments),
    /// Say which routes match a node, in the order in which they would be tried
    Lookup(lookup::Arguments),
    /// List, add and remove routes of the running daemon
    Routes(routes::Arguments),
    /// List the relays that are open, and close them
    Relays(relays::Arguments),
    /// List the forwards that are open, and ask for one
    Forwards(forwards::Arguments),
    /// List the upstreams that requests have wanted, and make them healthy
    Upstreams(upstreams::Arguments),
    /// List the resolvers and what they know, and make them forget it
    Resolvers(resolvers::Arguments),
    /// Say what a request for a node would do now: every candidate, in order, and why
    Explain(explain::Arguments),
    /// Make the running daemon read its files again, and wait for what comes of it
    Reload(reload::Arguments),
    /// Say what a reload of the running daemon would change
    Diff(diff::Arguments),
    /// Join stdin and stdout to a node, through the running daemon
    Connect(connect::ConnectArgs),
    /// Show it all in a temporary folder: two nodes, a daemon, a failover, a reload
    Demo,
    /// Write the completions of a shell to stdout
    Completions(papers::CompletionsArguments),
    /// Write the manual into a folder, one page for each command, or its first page to stdout
    Man(papers::ManArguments),
}

/// How a command ended; clap has code 2, for arguments that are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is done.
    Ok = 0,
    /// What was looked at has problems, or was not found; the daemon cannot start.
    Problems = 1,
    /// The daemon refused the request.
    Refused = 3,
    /// The connection was cut after it was up.
    Cut = 4,
    /// Nobody listens on the socket, or no daemon does.
    NoDaemon = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reads the arguments and does what they say. Arguments that are wrong end the process with code 2.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments).into(),
        Command::Connect(arguments) => connect::run(&arguments, configured_socket).into(),
        Command::Demo => on_console(demo::run),
        Command::Check(arguments) => on_console(|console| check::run(&arguments, console)),
        Command::Lookup(arguments) => on_console(|console| lookup::run(&arguments, console)),
        Command::Routes(arguments) => on_console(|console| routes::run(&arguments, console)),
        Command::Relays(arguments) => on_console(|console| relays::run(&arguments, console)),
        Command::Forwards(arguments) => on_console(|console| forwards::run(&arguments, console)),
        Command::Upstreams(arguments) => on_console(|console| upstreams::run(&arguments, console)),
        Command::Resolvers(arguments) => on_console(|console| resolvers::run(&arguments, console)),
        Command::Explain(arguments) => on_console(|console| explain::run(&arguments, console)),
        Command::Reload(arguments) => on_console(|console| reload::run(&arguments, console)),
        Command::Diff(arguments) => on_console(|console| diff::run(&arguments, console)),
        Command::Completions(arguments) => on_console(|console| papers::completions(&arguments, definition(), console)),
        Command::Man(arguments) => on_console(|console| papers::man(&arguments, definition(), console)),
    }
}

fn definition() -> clap::Command {
    Arguments::command()
}

/// Runs a command that only reads and writes. Who closes our stdout (`portolan lookup - | head`) has read enough.
fn on_console(run: impl FnOnce(&mut Console<'_>) -> io::Result<Exit>) -> ExitCode {
    match Console::of_process(run) {
        Ok(exit) => exit.into(),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(&format!("cannot read or write: {}", config::reason(&error)));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn usage_is_code_2() {
        for arguments in [&["portolan", "check", "--knd"][..], &["portolan", "lookup"], &["portolan"]] {
            assert_eq!(Arguments::try_parse_from(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
