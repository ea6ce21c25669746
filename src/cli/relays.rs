//! `portolan relays`: the relays of the running daemon, and their end.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Exit;
use super::admin::{Admin, AdminArguments};
use super::console::Console;
use super::pages::Pages;
use super::view::{Users, age, bytes, write_columns};
use crate::admin::segment;
use crate::admin::view::{ClientView, CloseView, ClosedView, RelayPage, RelayView};
use crate::config::plural;

/// Lists the relays that are open, by number: who asked, for which node, by which route, where it leads, bytes up and
/// down, age.
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
    /// Close relays; a TCP peer gets a reset
    Close(Close),
}

#[derive(Debug, Args)]
struct List {
    /// Only those that were dialed by the route with this pattern, as it is written
    #[arg(long, value_name = "MATCH")]
    route: Option<String>,
    /// Only those to this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Write one JSON object for each relay, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
struct Close {
    #[command(flatten)]
    which: Which,
    /// Write how many were closed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Those that were dialed by the route with this pattern, whether it is in the table still or not
    #[arg(long, value_name = "MATCH")]
    route: Option<String>,
    /// Those to this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The one with this number; may be given several times
    #[arg(long, value_name = "NUMBER")]
    id: Vec<u64>,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    match &arguments.command {
        None => list(&arguments.list, console),
        Some(Command::Close(close)) => self::close(close, console),
    }
}

fn list(list: &List, console: &mut Console<'_>) -> io::Result<Exit> {
    let admin = match Admin::new(&list.admin) {
        Ok(admin) => admin,
        Err(failure) => return failure.tell(console),
    };
    let mut users = Users::default();
    let mut head = Some(HEAD.map(str::to_owned));
    for page in Pages::<RelayPage>::new(&admin, "/v1/relays", &list.filter()) {
        let page = match page {
            Ok(page) => page,
            Err(failure) => return failure.tell(console),
        };
        if list.json {
            page.iter().try_for_each(|relay| console.json(relay))?;
        } else {
            let head = head.take().filter(|_| !page.is_empty()).into_iter();
            write_columns(head.chain(page.iter().map(|relay| cells(relay, &mut users))), &[0, 5, 6, 7], console.out)?;
        }
    }
    Ok(Exit::Ok)
}

impl List {
    fn filter(&self) -> String {
        let mut filter = String::new();
        for (key, text) in [("match", &self.route), ("node", &self.node)] {
            if let Some(text) = text {
                // A String takes everything.
                let _infallible = write!(filter, "&{key}={}", segment(text));
            }
        }
        filter
    }
}

const HEAD: [&str; 8] = ["id", "client", "node", "route", "address", "up", "down", "age"];

fn cells(relay: &RelayView, users: &mut Users) -> [String; 8] {
    let RelayView { id, client, node, pattern, resolver, address, up, down, ms } = relay;
    let client = match client {
        Some(ClientView::Process { uid, pid: Some(pid) }) => format!("{} {pid}", users.name(*uid)),
        Some(ClientView::Process { uid, pid: None }) => users.name(*uid).to_owned(),
        Some(ClientView::Tcp { address }) => address.clone(),
        None => "-".to_owned(),
    };
    let course = match (pattern, resolver) {
        (Some(pattern), _) => pattern.clone(),
        (None, Some(resolver)) => format!("resolver {resolver}"),
        (None, None) => "-".to_owned(),
    };
    let age = age(Duration::from_millis(*ms));
    [id.to_string(), client, node.clone(), course, address.clone(), bytes(*up), bytes(*down), age]
}

/// Exits with 1 when there was none to close.
fn close(close: &Close, console: &mut Console<'_>) -> io::Result<Exit> {
    let which = serde_json::to_string(&close.which.view())?;
    let closed = Admin::new(&close.admin).and_then(|admin| admin.post::<ClosedView>("/v1/relays/close", Some(which)));
    let none = matches!(closed, Ok(ClosedView { closed: 0 }));
    match closed {
        Err(failure) => return failure.tell(console),
        Ok(closed) if close.json => console.json(&closed)?,
        Ok(ClosedView { closed: 0 }) => {}
        Ok(ClosedView { closed }) => writeln!(console.out, "closed {}", plural(closed, "relay"))?,
    }
    if none {
        console.complain("no such relay is open; `portolan relays` lists those that are")?;
    }
    Ok(if none { Exit::Problems } else { Exit::Ok })
}

impl Which {
    fn view(&self) -> CloseView {
        match self {
            Self { route: Some(pattern), .. } => CloseView::Match(pattern.clone()),
            Self { node: Some(node), .. } => CloseView::Node(node.clone()),
            Self { id, .. } => CloseView::Ids(id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_one_line() {
        let relay = |client| RelayView {
            id: 7,
            client,
            node: "db@prod".to_owned(),
            pattern: Some("^db@".to_owned()),
            resolver: None,
            address: "10.0.1.50:4370".to_owned(),
            up: 1,
            down: 2048,
            ms: 90_000,
        };
        let mut users = Users::of([(1000, "ann")]);
        for (client, shown) in [
            (Some(ClientView::Process { uid: 1000, pid: Some(4711) }), "ann 4711"),
            (Some(ClientView::Process { uid: 1000, pid: None }), "ann"),
            (Some(ClientView::Process { uid: u32::MAX - 7, pid: Some(1) }), "uid 4294967288 1"),
            (Some(ClientView::Tcp { address: "127.0.0.1:9".to_owned() }), "127.0.0.1:9"),
            (None, "-"),
        ] {
            let line = ["7", shown, "db@prod", "^db@", "10.0.1.50:4370", "1 B", "2.0 KiB", "1m 30s"];
            assert_eq!(cells(&relay(client), &mut users), line);
        }
    }
}
