//! `[registrar]` of `portolan.toml`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Spanned;

use super::forward::users;
use super::problem::Problem;
use super::section::{Keys, Section, brief};
use super::settings::RegistrarConfig;
use super::socket::Scope;

pub(super) const KEYS: Keys = Keys { heading: "[registrar]", known: &["listen", "nodes", "users"], later: &[] };

const NODES: RangeInclusive<i64> = 1..=65_536;

/// The door, if it is written, and where each of its addresses stands.
pub(super) fn registrar(root: &Section<'_>, scope: Scope) -> (Option<RegistrarConfig>, Vec<Spanned<SocketAddr>>) {
    let Some(section) = root.section("registrar", &KEYS) else { return (None, Vec::new()) };
    if !section.has("listen") {
        let problem = Problem::error("the registrar has no `listen`");
        let help = "write where it listens: listen = \"127.0.0.1:4499\", or an array of addresses";
        section.document().report_missing(section.span(), problem.help(help));
    }
    let texts = section.texts("listen").unwrap_or_default();
    let listen: Vec<_> = texts.iter().filter_map(|text| address(&section, text)).collect();
    let nodes = section.integer("nodes", NODES).and_then(|nodes| usize::try_from(nodes).ok());
    let config = RegistrarConfig {
        listen: listen.iter().map(|address| *address.get_ref()).collect(),
        nodes: nodes.unwrap_or(RegistrarConfig::NODES),
        users: users(&section, scope),
    };
    (Some(config), listen)
}

fn address(section: &Section<'_>, text: &Spanned<&str>) -> Option<Spanned<SocketAddr>> {
    let written = brief(text.get_ref());
    let Ok(address) = SocketAddr::from_str(text.get_ref()) else {
        let problem = Problem::error(format!("`listen` has \"{written}\", which is no address"));
        section.report(text.span(), problem.help("write an address and a port, such as \"127.0.0.1:4499\""));
        return None;
    };
    let ip = address.ip().to_canonical();
    if ip.is_unspecified() {
        let message = format!("`listen` has \"{written}\": an answer must leave from the address that was asked");
        let help = "write each address: listen = [\"127.0.0.1:4499\", \"127.0.0.2:4499\"]";
        section.report(text.span(), Problem::error(message).help(help));
        return None;
    }
    if !ip.is_loopback() {
        let message = format!("the registrar on {address} is open to the network, where anybody may register any node");
        let problem = Problem::warning(message).help("listen on addresses of loopback unless that is meant");
        section.report(text.span(), problem);
    }
    Some(Spanned::new(text.span(), address))
}
