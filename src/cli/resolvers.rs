//! `portolan resolvers`: how the running daemon's resolvers fare, what they know, and how they are made to forget it.

use std::io;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Exit;
use super::admin::{Admin, AdminArguments, Failure};
use super::console::Console;
use super::pages::Pages;
use super::upstreams::last_error;
use super::view::{age, write_columns};
use crate::admin::segment;
use crate::admin::view::{
    AnswerPage, AnswerView, FlushedView, KnownState, KnownView, ResolverList, ResolverState, ResolverView,
};
use crate::config::{plural, visible};
use crate::node::NodeName;

/// Lists the resolvers: how their services fare, what they were asked, of how many nodes they know something. With a
/// name, lists what that one knows of each node.
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
    /// Make them forget what they know, so that the next request asks anew
    Flush(Flush),
}

#[derive(Debug, Args)]
struct List {
    /// The resolver whose answers are listed
    #[arg(value_name = "NAME")]
    resolver: Option<String>,
    /// Write one JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
struct Flush {
    /// The resolver [default: all]
    #[arg(value_name = "NAME")]
    resolver: Option<String>,
    /// Only what is known of this node
    #[arg(long, value_name = "NODE", value_parser = NodeName::parse)]
    node: Option<NodeName>,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let List { resolver, json, admin } = &arguments.list;
    match (&arguments.command, resolver) {
        (Some(Command::Flush(flush)), _) => self::flush(flush, console),
        (None, Some(resolver)) => answers(resolver, *json, admin, console),
        (None, None) => list(*json, admin, console),
    }
}

fn resolvers(admin: &Admin) -> Result<Vec<ResolverView>, Failure> {
    admin.get::<ResolverList>("/v1/resolvers").map(|list| list.resolvers)
}

fn list(json: bool, admin: &AdminArguments, console: &mut Console<'_>) -> io::Result<Exit> {
    match Admin::new(admin).and_then(|admin| resolvers(&admin)) {
        Err(failure) => return failure.tell(console),
        Ok(list) if json => list.iter().try_for_each(|resolver| console.json(resolver))?,
        Ok(list) => {
            let head = Some(HEAD.map(str::to_owned)).filter(|_| !list.is_empty());
            write_columns(head.into_iter().chain(list.iter().map(cells)), &[3, 4, 5, 6, 7], console.out)?;
        }
    }
    Ok(Exit::Ok)
}

const HEAD: [&str; 9] = ["name", "type", "state", "nodes", "asked", "answered", "unknown", "failed", "last error"];

fn cells(view: &ResolverView) -> [String; 9] {
    [
        format!("{}{}", view.name, if view.default { " (discovery)" } else { "" }),
        view.kind.clone(),
        state(view),
        view.names.to_string(),
        view.asked.to_string(),
        view.answered.to_string(),
        view.unknown.to_string(),
        view.failed.to_string(),
        view.last_error.as_ref().map(last_error).unwrap_or_default(),
    ]
}

fn state(view: &ResolverView) -> String {
    match (view.state, view.oldest_served_ms) {
        (ResolverState::Idle, _) => "not asked yet".to_owned(),
        (ResolverState::Up, _) => "up".to_owned(),
        (ResolverState::Away, None) => "away".to_owned(),
        (ResolverState::Away, Some(ms)) => {
            format!("away, answers up to {} old serve", age(Duration::from_millis(ms)))
        }
    }
}

fn answers(resolver: &str, json: bool, admin: &AdminArguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let admin = match Admin::new(admin) {
        Ok(admin) => admin,
        Err(failure) => return failure.tell(console),
    };
    let path = format!("/v1/resolvers/{}/answers", segment(resolver));
    for page in Pages::<AnswerPage>::new(&admin, &path, "") {
        match page {
            Err(failure) => return failure.tell(console),
            Ok(page) if json => page.iter().try_for_each(|known| console.json(known))?,
            Ok(page) => write_columns(page.iter().map(known), &[], console.out)?,
        }
    }
    Ok(Exit::Ok)
}

/// A node, what is known of it, and what that is worth.
fn known(view: &KnownView) -> [String; 3] {
    let answers: Vec<_> = view.answers.iter().map(answer).collect();
    let said = view.error.clone().unwrap_or_else(|| answers.join(", "));
    [view.node.clone(), said, worth(view.state, view.age_ms, view.left_ms)]
}

/// For how long something holds, or how old it is.
pub(super) fn worth(state: KnownState, age_ms: u64, left_ms: u64) -> String {
    let [said, left] = [age_ms, left_ms].map(|ms| age(Duration::from_millis(ms)));
    match state {
        KnownState::Stale => format!("old, said {said} ago"),
        _ => format!("said {said} ago, holds for {left}"),
    }
}

/// An answer as a person reads it.
pub(super) fn answer(view: &AnswerView) -> String {
    let AnswerView { host, port, tls, certified, handshake, proto } = view;
    let place = match port {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    };
    let certified = certified.as_ref().map(|name| format!("as {name}"));
    let tls = tls.map(|tls| if tls { "TLS" } else { "no TLS" }.to_owned());
    let more = [certified, tls, handshake.clone(), proto.clone()];
    [place].into_iter().chain(more.into_iter().flatten()).collect::<Vec<_>>().join(" ")
}

fn flush(flush: &Flush, console: &mut Console<'_>) -> io::Result<Exit> {
    let (admin, names) = match whom(flush) {
        Ok(found) => found,
        Err(failure) => return failure.tell(console),
    };
    let query = flush.node.as_ref().map(|node| format!("?node={}", segment(node.as_str()))).unwrap_or_default();
    for name in names {
        match admin.post::<FlushedView>(&format!("/v1/resolvers/{}/flush{query}", segment(&name)), None) {
            Err(failure) => return failure.tell(console),
            Ok(FlushedView { flushed }) => {
                writeln!(console.out, "{}: {} forgotten", visible(&name), plural(flushed, "node"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Whose answers are to be forgotten, and who is asked for it.
fn whom(flush: &Flush) -> Result<(Admin, Vec<String>), Failure> {
    let admin = Admin::new(&flush.admin)?;
    let names = match &flush.resolver {
        Some(name) => vec![name.clone()],
        None => resolvers(&admin)?.into_iter().map(|resolver| resolver.name).collect(),
    };
    Ok((admin, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(host: &str, port: Option<u16>) -> AnswerView {
        AnswerView { host: host.to_owned(), port, tls: None, certified: None, handshake: None, proto: None }
    }

    #[test]
    fn an_answer_says_what_the_service_said() {
        assert_eq!(answer(&view("10.0.0.1", Some(4370))), "10.0.0.1:4370");
        assert_eq!(answer(&view("fd00::1", Some(4370))), "[fd00::1]:4370");
        assert_eq!(answer(&view("db.example", None)), "db.example");
        let full = AnswerView {
            tls: Some(true),
            certified: Some("db.example".to_owned()),
            handshake: Some("EHS:R1".to_owned()),
            ..view("10.0.0.1", Some(1))
        };
        assert_eq!(answer(&full), "10.0.0.1:1 as db.example TLS EHS:R1");
    }

    #[test]
    fn a_node_is_one_line_with_what_is_known_of_it() {
        let known_of = |state, error: Option<&str>, left_ms| KnownView {
            node: "db@x".to_owned(),
            state,
            answers: if error.is_none() { vec![view("a", Some(1)), view("b", Some(2))] } else { Vec::new() },
            error: error.map(str::to_owned),
            age_ms: 61_999,
            left_ms,
        };
        assert_eq!(
            known(&known_of(KnownState::Fresh, None, 500)),
            ["db@x", "a:1, b:2", "said 1m 1s ago, holds for 0s"]
        );
        assert_eq!(known(&known_of(KnownState::Stale, None, 0)), ["db@x", "a:1, b:2", "old, said 1m 1s ago"]);
        let none = known(&known_of(KnownState::Negative, Some("knows no such node"), 3000));
        assert_eq!(none, ["db@x", "knows no such node", "said 1m 1s ago, holds for 3s"]);
    }

    #[test]
    fn a_service_that_is_away_says_how_old_what_serves_is() {
        let view = |state, oldest_served_ms| ResolverView {
            name: "fleet".to_owned(),
            kind: "etcd".to_owned(),
            default: true,
            state,
            since: None,
            asked: 9,
            answered: 5,
            unknown: 3,
            failed: 1,
            asking: 0,
            names: 4,
            oldest_served_ms,
            last_error: None,
        };
        let up = ["fleet (discovery)", "etcd", "up", "4", "9", "5", "3", "1", ""];
        assert_eq!(cells(&view(ResolverState::Up, None)), up);
        assert_eq!(state(&view(ResolverState::Idle, None)), "not asked yet");
        assert_eq!(state(&view(ResolverState::Away, None)), "away");
        assert_eq!(state(&view(ResolverState::Away, Some(125_000))), "away, answers up to 2m 5s old serve");
    }
}
