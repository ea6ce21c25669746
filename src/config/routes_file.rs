//! `routes.toml`: what may be written in it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::daemon_file;
use super::problem::Problem;
use super::read::read;
use super::route_settings::settings;
use super::routes_parts::{HEADER, PART};
use super::section::{Keys, Section};
use super::source::{Part, Source};
use super::tls::{Policies, Written};
use super::upstream::reach;
use crate::route::{Origin, Pattern, Reach, Route};

pub(super) const KEYS: Keys = Keys { heading: "", known: &["route", "allow_empty"], later: &["proxy_route"] };

pub(super) const ROUTE_KEYS: Keys = Keys {
    heading: "[[route]]",
    known: &[
        "match",
        "weight",
        "host",
        "port",
        "tls",
        "connect_timeout",
        "race_after",
        "source",
        "proxy_protocol",
        "max_relays",
        "idle_timeout",
        "keepalive",
        "resolver",
        "final",
        "name",
        "description",
        "disabled",
    ],
    later: &["dialect", "handshake_version", "proto_version", "cookie", "flags", "atom_mapping", "log_level", "allow"],
};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `routes.toml`
    Routes,
    /// `portolan.toml`
    Daemon,
}

/// What a file seems to be: `[[route]]`, `[[proxy_route]]` and `allow_empty` stand in a routes file only. One that
/// cannot be read, or has no known key, counts as a routes file; loading it says what is wrong. So does a pipe, which
/// can be read only once.
pub fn kind_of(path: &Path) -> Kind {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Kind::Routes;
    }
    let text = read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let parts = Part::split(&Source::new(path, text), PART, HEADER);
    let [part] = parts.as_slice() else { return Kind::Routes };
    let (root, _) = DeTable::parse_recoverable(part.text());
    let has = |keys: &Keys| keys.known.iter().chain(keys.later).any(|key| root.get_ref().contains_key(*key));
    if has(&daemon_file::KEYS) && !has(&KEYS) { Kind::Daemon } else { Kind::Routes }
}

/// A route and where its pattern stands; `written` gets its TLS policy. Every key is read before one that is wrong ends
/// it.
pub(super) fn route(
    section: &Section<'_>,
    policies: &Policies<'_>,
    written: &mut Vec<Written>,
) -> Option<(Route, Range<usize>)> {
    let text = section.string("match");
    if !section.has("match") {
        let problem =
            Problem::error("the route has no `match`").help("write which nodes it is for: match = '^prod-db@'");
        section.document().report_missing(section.span(), problem);
    }
    let pattern = text.as_ref().and_then(|text| pattern(section, text));
    let name = section.line("name").map(|name| *name.get_ref());
    let called = name.or(text.as_ref().map(|text| *text.get_ref())).unwrap_or_default();
    let tls = policies.read(section, called, written);
    let reach = reach(section, policies.context());
    let weight = section.integer("weight", i64::MIN..=i64::MAX).unwrap_or(100);
    let settings = settings(section, reach.as_ref().map_or(&[], Reach::upstreams));
    let is_final = section.boolean("final").unwrap_or(false);
    let description = section.string("description").map(|text| (*text.get_ref()).into());

    let span = text?.span();
    let source = section.document().source();
    let origin = Origin::File { file: Arc::clone(source.path()), line: source.line_number(span.start) };
    let (pattern, reach, name) = (pattern?, reach?, name.map(Into::into));
    let route = Route { pattern, weight, reach, tls, settings, is_final, name, description, origin };
    Some((route, source.in_file(&span)))
}

fn pattern(section: &Section<'_>, text: &Spanned<&str>) -> Option<Pattern> {
    const LITERAL: &str = "write the pattern as a literal string, '...', in which a backslash is a backslash";
    if let Some(control) = text.get_ref().chars().find(|c| c.is_control()) {
        let message =
            format!("the pattern has the control character U+{:04X}, which no node name has", u32::from(control));
        section.report(text.span(), Problem::error(message).help(LITERAL));
        return None;
    }
    match Pattern::parse(text.get_ref()) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let problem = Problem::error(format!("`match` is not a pattern: {error}"));
            let span = section.span_inside(text, error.place());
            section.report(span, problem.help(error.help()));
            None
        }
    }
}
