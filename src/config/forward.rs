//! `[[forward]]` of `portolan.toml`.

use std::net::SocketAddr;
use std::str::FromStr;

use toml::Spanned;

use super::owner::resolve_user;
use super::problem::Problem;
use super::section::{Keys, Section, brief};
use super::settings::{ForwardAddress, ForwardConfig, SocketAccess};
use super::socket::{ACCESS_KEYS, Scope, access, socket_path};
use crate::node::NodeName;

pub(super) const KEYS: Keys =
    Keys { heading: "[[forward]]", known: &["listen", "node", "users", "open", "mode", "owner", "group"], later: &[] };

/// A forward and the span of its address. `None` when it lacks either half; that has been reported.
pub(super) fn forward(section: &Section<'_>, scope: Scope) -> Option<Spanned<ForwardConfig>> {
    for (key, help) in [
        ("listen", "write where it listens: listen = \"127.0.0.1:7001\" or \"unix:db.sock\""),
        ("node", "write which node its clients are connected to: node = \"db@prod\""),
    ] {
        if !section.has(key) {
            let problem = Problem::error(format!("the forward has no `{key}`")).help(help);
            section.document().report_missing(section.span(), problem);
        }
    }
    let open = section.boolean("open").unwrap_or(false);
    let users = users(section, scope);
    let node = node(section);
    let listen = section.text("listen")?;
    let address = match listen.get_ref().strip_prefix("unix:") {
        Some(path) => unix(section, Spanned::new(listen.span(), path), scope)?,
        None => tcp(section, &listen, open)?,
    };
    Some(Spanned::new(listen.span(), ForwardConfig { listen: address, node: node?, users: users.filter(|_| !open) }))
}

/// Whoever is written; nobody, if that is wrong.
pub(super) fn users(section: &Section<'_>, scope: Scope) -> Option<Vec<String>> {
    section.value("users")?;
    let names = section.texts("users").unwrap_or_default();
    for name in &names {
        if scope == Scope::Machine
            && let Err(error) = resolve_user(name.get_ref())
        {
            let help = "create it, or write another user, by name or number";
            section.report(name.span(), Problem::error(error.to_string()).help(help));
        }
    }
    Some(names.into_iter().map(|name| (*name.get_ref()).to_owned()).collect())
}

fn node(section: &Section<'_>) -> Option<NodeName> {
    let text = section.string("node")?;
    let node = NodeName::parse(text.get_ref());
    if let Err(error) = &node {
        section.report(text.span(), Problem::error(error.to_string()).help("write a name such as \"db@prod\""));
    }
    node.ok()
}

fn unix(section: &Section<'_>, path: Spanned<&str>, scope: Scope) -> Option<ForwardAddress> {
    for key in ["open", "users"] {
        if section.has(key) {
            let problem = Problem::error(format!("`{key}` is for a TCP forward"));
            section.report(section.key_span(key), problem.help("remove it: `mode`, `owner` and `group` say who may"));
        }
    }
    let access = access(section, scope, SocketAccess::default());
    if path.get_ref().is_empty() {
        let problem = Problem::error("`listen` has no path").help("write it behind `unix:`, such as \"unix:db.sock\"");
        section.report(path.span(), problem);
        return None;
    }
    let path = section.as_path("listen", &path)?;
    Some(ForwardAddress::Unix(socket_path(section, path)?, access))
}

fn tcp(section: &Section<'_>, listen: &Spanned<&str>, open: bool) -> Option<ForwardAddress> {
    for key in ACCESS_KEYS {
        if section.has(key) {
            let problem = Problem::error(format!("`{key}` is for a forward on a Unix socket"));
            section.report(section.key_span(key), problem.help("remove it, or listen on \"unix:/path\""));
        }
    }
    if open && section.has("users") {
        let problem = Problem::error("`users` says who may use the forward, and `open = true` that everybody may");
        section.report(section.key_span("users"), problem.help("remove one of the two"));
    }
    if !open && !section.has("users") {
        let problem = Problem::error("it is not written who may use the TCP forward");
        let help = "write `users = ['app']`, or `open = true` for every user of this machine";
        section.document().report_missing(listen.span(), problem.help(help));
    }
    let Ok(address) = SocketAddr::from_str(listen.get_ref()) else {
        let message = format!("`listen` is \"{}\", which is no address", brief(listen.get_ref()));
        let help = "write an address and a port, \"127.0.0.1:7001\" or \"[::1]:7001\", or \"unix:/path\"";
        section.report(listen.span(), Problem::error(message).help(help));
        return None;
    };
    if open && !address.ip().is_loopback() {
        let message = format!("the forward on {address} is open to the network, not to this machine's users only");
        let problem = Problem::warning(message).help("listen on 127.0.0.1 or [::1] unless that is meant");
        section.report(listen.span(), problem);
    }
    Some(ForwardAddress::Tcp(address))
}
