//! `portolan forwards`: the forwards of the running daemon, and how a program gets one of its own.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::admin::{Admin, AdminArguments};
use super::console::Console;
use super::view::{Users, age, write_columns};
use super::{Exit, Which, configured_socket, socket_candidates};
use crate::admin::view::{ForwardList, ForwardView, LeaseTimeView};
use crate::client::{Client, ConnectError};
use crate::config::visible;
use crate::node::NodeName;

/// Lists the forwards that are open, those of the configuration and then the leases: address, node, users, connections,
/// and how long a lease has left.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask for a forward to a node, for this user alone, and write its address
    Lease(Lease),
}

#[derive(Debug, Args)]
struct List {
    /// Write one JSON object for each forward, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
struct Lease {
    /// The daemon's socket [default: $PORTOLAN_SOCKET, the configuration's, /run/portolan/portolan.sock,
    /// $XDG_RUNTIME_DIR/portolan/portolan.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Write it as JSON, with the time after which it ends when it is of no use
    #[arg(long)]
    json: bool,
    /// The node, such as prod-db@10.0.1.50
    #[arg(value_name = "NODE", value_parser = NodeName::parse)]
    node: NodeName,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    match &arguments.command {
        None => list(&arguments.list, console),
        Some(Command::Lease(lease)) => self::lease(lease, console),
    }
}

fn list(list: &List, console: &mut Console<'_>) -> io::Result<Exit> {
    match Admin::new(&list.admin).and_then(|admin| admin.get::<ForwardList>("/v1/forwards")) {
        Err(failure) => return failure.tell(console),
        Ok(ForwardList { forwards }) if list.json => forwards.iter().try_for_each(|forward| console.json(forward))?,
        Ok(ForwardList { forwards }) => {
            let mut users = Users::default();
            let head = Some(HEAD.map(str::to_owned)).filter(|_| !forwards.is_empty());
            let rows = head.into_iter().chain(forwards.iter().map(|forward| cells(forward, &mut users)));
            write_columns(rows, &[3], console.out)?;
        }
    }
    Ok(Exit::Ok)
}

const HEAD: [&str; 5] = ["address", "node", "users", "open", "lease"];

fn cells(view: &ForwardView, users: &mut Users) -> [String; 5] {
    let ForwardView { address, node, users: who, open, lease } = view;
    let who = match who {
        None => "all".to_owned(),
        Some(who) if who.is_empty() => "nobody".to_owned(),
        Some(who) => who.iter().map(|uid| users.name(*uid).to_owned()).collect::<Vec<_>>().join(", "),
    };
    let left = match lease {
        None => String::new(),
        Some(LeaseTimeView { left_ms: None, .. }) => "in use".to_owned(),
        Some(LeaseTimeView { left_ms: Some(left), .. }) => format!("{} left", age(Duration::from_millis(*left))),
    };
    [address.clone(), node.clone(), who, open.to_string(), left]
}

fn lease(lease: &Lease, console: &mut Console<'_>) -> io::Result<Exit> {
    let asked = lease.socket.as_deref();
    let client = Client::among(socket_candidates(Which::Main, asked, configured_socket, |name| std::env::var_os(name)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(client.lease(lease.node.as_str())) {
        Ok(leased) if lease.json => console.json(&leased)?,
        Ok(leased) => writeln!(console.out, "{}", visible(&format!("{}:{}", leased.host, leased.port)))?,
        Err(error) => {
            console.complain(&error.to_string())?;
            return Ok(if matches!(error, ConnectError::Refused(_)) { Exit::Refused } else { Exit::NoDaemon });
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_one_line() {
        let forward = |users: Option<&[u32]>, lease: Option<Option<u64>>| ForwardView {
            address: "127.0.0.1:7001".to_owned(),
            node: "db@prod".to_owned(),
            users: users.map(<[u32]>::to_vec),
            open: 2,
            lease: lease.map(|left_ms| LeaseTimeView { idle_timeout_ms: 300_000, left_ms }),
        };
        let mut users = Users::of([(1000, "ann"), (1001, "bob")]);
        for (view, who, left) in [
            (forward(None, None), "all", ""),
            (forward(Some(&[]), None), "nobody", ""),
            (forward(Some(&[1000, 1001]), None), "ann, bob", ""),
            (forward(Some(&[1000]), Some(None)), "ann", "in use"),
            (forward(Some(&[1000]), Some(Some(61_000))), "ann", "1m 1s left"),
        ] {
            assert_eq!(cells(&view, &mut users), ["127.0.0.1:7001", "db@prod", who, "2", left]);
        }
    }
}
