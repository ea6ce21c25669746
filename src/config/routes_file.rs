//! `routes.toml`: what may be written in it.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::daemon_file;
use super::document::{Document, walk};
use super::problem::{Place, Problem, Problems};
use super::read::read;
use super::section::{Keys, Section, brief};
use super::source::Source;
use super::tls::Policies;
use super::upstream::upstreams;
use crate::route::{BadPattern, Origin, Pattern, Route};

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
        "final",
        "name",
        "description",
        "disabled",
    ],
    later: &[
        "dialect",
        "handshake_version",
        "proto_version",
        "cookie",
        "flags",
        "atom_mapping",
        "log_level",
        "allow",
        "resolver",
        "source",
        "proxy_protocol",
        "max_relays",
        "idle_timeout",
        "keepalive",
    ],
};

/// How long dialing may take.
pub(super) const DIALING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

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
    let (root, _) = DeTable::parse_recoverable(&text);
    let has = |keys: &Keys| keys.known.iter().chain(keys.later).any(|key| root.get_ref().contains_key(*key));
    if has(&daemon_file::KEYS) && !has(&KEYS) { Kind::Daemon } else { Kind::Routes }
}

/// What a routes file holds.
pub(super) struct RoutesFile {
    /// The routes that are not disabled, each with the place of its pattern.
    pub(super) routes: Vec<(Route, Place)>,
    /// How many are disabled.
    pub(super) disabled: usize,
}

/// Reads a routes file; a route with a problem is left out.
pub(super) fn read_routes(source: &Arc<Source>, policies: &mut Policies<'_>, problems: &mut Problems) -> RoutesFile {
    walk(source, &KEYS, problems, |root| {
        let sections = root.sections("route", &ROUTE_KEYS);
        let allow_empty = root.boolean("allow_empty").unwrap_or(false);
        if !root.has("route") && !root.has("proxy_route") && !allow_empty {
            let problem = Problem::error("the file has no [[route]]");
            root.document().report_file(problem.help("write one, or `allow_empty = true` if that is meant"));
        }
        let mut routes = Vec::with_capacity(sections.len());
        let mut disabled = 0;
        for section in &sections {
            let route = route(section, source.path(), policies);
            if section.boolean("disabled").unwrap_or(false) {
                disabled += 1;
            } else if let Some((route, span)) = route {
                routes.push((route, section.document().place(span)));
            }
        }
        RoutesFile { routes, disabled }
    })
}

/// A route and where its pattern stands. Every key is read before one that is wrong ends it.
pub(super) fn route(
    section: &Section<'_>,
    file: &Arc<Path>,
    policies: &mut Policies<'_>,
) -> Option<(Route, Range<usize>)> {
    let text = section.string("match");
    if !section.has("match") {
        let problem =
            Problem::error("the route has no `match`").help("write which nodes it is for: match = '^prod-db@'");
        section.document().report_missing(section.span(), problem);
    }
    let pattern = text.as_ref().and_then(|text| pattern(section, text));
    let name = section.line("name").map(|name| (*name.get_ref()).to_owned());
    let called = name.as_deref().or(text.as_ref().map(|text| *text.get_ref())).map(brief).unwrap_or_default();
    let tls = policies.read(section, &format!("`{called}`"));
    let upstreams = upstreams(section);
    let weight = section.integer("weight", i64::MIN..=i64::MAX).unwrap_or(100);
    let connect_timeout = section.duration("connect_timeout", &DIALING);
    section.race_after();
    let is_final = section.boolean("final").unwrap_or(false);
    let description = section.string("description").map(|text| (*text.get_ref()).to_owned());

    let span = text?.span();
    let line = section.document().source().line_number(span.start);
    let origin = Origin::File { file: Arc::clone(file), line };
    let upstreams = upstreams?;
    let route =
        Route { pattern: pattern?, weight, upstreams, tls, connect_timeout, is_final, name, description, origin };
    Some((route, span))
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
            let span = span_of_error(section.document(), text, &error).unwrap_or(text.span());
            section.report(span, problem.help("a literal character such as ( or [ is written with a backslash: \\("));
            None
        }
    }
}

/// Where in the file the error of a pattern is; known when the pattern stands there as it is.
fn span_of_error(document: &Document, text: &Spanned<&str>, error: &BadPattern) -> Option<Range<usize>> {
    let span = text.span();
    let written = document.source().get(&span);
    let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 };
    let start = span.start + quotes;
    let inside = document.source().get(&(start..span.end.saturating_sub(quotes)));
    let place = error.place();
    (inside == *text.get_ref()).then(|| start + place.start..start + place.end)
}
