//! `portolan.toml`: what may be written in it.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::document::walk;
use super::forward::{self, forward};
use super::problem::{Problem, Problems};
use super::registrar::registrar;
use super::resolver::{discovery, resolvers};
use super::route_settings::{DIALING, RELAYS, SILENCE};
use super::routes_list::routes;
use super::section::{Keys, Section};
use super::settings::{
    AdminConfig, Config, DialConfig, ForwardAddress, ForwardConfig, Limits, LogConfig, LogFormat, LogLevel,
    SocketAccess, SocketConfig,
};
use super::socket::{Scope, access, same_path, socket_path};
use super::source::Source;

pub(super) const KEYS: Keys = Keys {
    heading: "",
    known: &[
        "routes",
        "state",
        "socket",
        "admin",
        "forward",
        "registrar",
        "dial",
        "discovery",
        "resolver",
        "limits",
        "log",
    ],
    later: &["node", "gateway"],
};

pub(super) const SOCKET_KEYS: Keys =
    Keys { heading: "[socket]", known: &["path", "mode", "owner", "group"], later: &["allow"] };

pub(super) const ADMIN_KEYS: Keys = Keys { heading: "[admin]", known: &["path", "mode", "owner", "group"], later: &[] };

pub(super) const DIAL_KEYS: Keys =
    Keys { heading: "[dial]", known: &["connect_timeout", "establish", "race_after"], later: &[] };

pub(super) const LIMITS_KEYS: Keys = Keys {
    heading: "[limits]",
    known: &["relays", "drain_timeout", "half_close_timeout", "idle_timeout", "leases", "lease_idle_timeout"],
    later: &[],
};

pub(super) const LOG_KEYS: Keys = Keys { heading: "[log]", known: &["level", "format"], later: &[] };

const DRAINING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);

/// Each has a port, of which the kernel gives out 28,000.
const LEASES: RangeInclusive<i64> = 0..=20_000;

const LEVELS: [(&str, LogLevel); 6] = [
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const FORMATS: [(&str, LogFormat); 4] = [
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journald", LogFormat::Journald),
];

/// Reads `portolan.toml`; where there was a problem stands the default.
pub(super) fn read_config(source: &Arc<Source>, scope: Scope, problems: &mut Problems) -> Config {
    walk(source, &KEYS, problems, |root| {
        let (socket, path_of_socket) = socket(root, scope);
        let (admin, path_of_admin) = admin(root, scope);
        let forwards: Vec<_> =
            root.sections("forward", &forward::KEYS).iter().filter_map(|section| forward(section, scope)).collect();
        let resolvers = resolvers(root);
        let discovery = discovery(root, &resolvers);
        let (registrar, registrars) = registrar(root, scope);
        check_addresses(root, path_of_socket.into_iter().chain(path_of_admin).collect(), &forwards, registrars);
        Config {
            path: Arc::clone(source.path()),
            routes: routes(root, &resolvers),
            socket,
            admin,
            state: root.path("state").map(Spanned::into_inner),
            forwards: forwards.into_iter().map(Spanned::into_inner).collect(),
            registrar,
            dial: dial(root),
            limits: limits(root),
            log: log(root),
            resolvers,
            discovery,
        }
    })
}

fn socket(root: &Section<'_>, scope: Scope) -> (SocketConfig, Option<Spanned<PathBuf>>) {
    let Some(section) = root.section("socket", &SOCKET_KEYS) else {
        return (SocketConfig { path: None, access: SocketAccess::default() }, None);
    };
    let path = bound(&section);
    let access = access(&section, scope, SocketAccess::default());
    (SocketConfig { path: path.as_ref().map(|path| path.get_ref().clone()), access }, path)
}

fn admin(root: &Section<'_>, scope: Scope) -> (AdminConfig, Option<Spanned<PathBuf>>) {
    let default = SocketAccess { mode: 0o600, ..SocketAccess::default() };
    let Some(section) = root.section("admin", &ADMIN_KEYS) else {
        return (AdminConfig { path: None, access: default }, None);
    };
    let path = bound(&section);
    let access = access(&section, scope, default);
    (AdminConfig { path: path.as_ref().map(|path| path.get_ref().clone()), access }, path)
}

fn bound(section: &Section<'_>) -> Option<Spanned<PathBuf>> {
    let path = section.path("path")?;
    let span = path.span();
    Some(Spanned::new(span, socket_path(section, path)?))
}

/// Two doors cannot be one socket; port 0 is a free one each time.
fn check_addresses(
    root: &Section<'_>,
    sockets: Vec<Spanned<PathBuf>>,
    forwards: &[Spanned<ForwardConfig>],
    registrars: Vec<Spanned<SocketAddr>>,
) {
    let as_unix = |path: Spanned<PathBuf>| {
        Spanned::new(path.span(), ForwardAddress::Unix(path.into_inner(), SocketAccess::default()))
    };
    let mut seen: Vec<Spanned<ForwardAddress>> = Vec::new();
    let listens = forwards.iter().map(|forward| Spanned::new(forward.span(), forward.get_ref().listen.clone()));
    let as_tcp = |at: Spanned<SocketAddr>| Spanned::new(at.span(), ForwardAddress::Tcp(at.into_inner()));
    let registrars = registrars.into_iter().map(as_tcp);
    for address in sockets.into_iter().map(as_unix).chain(listens).chain(registrars) {
        let same = |other: &&Spanned<ForwardAddress>| match (address.get_ref(), other.get_ref()) {
            (ForwardAddress::Tcp(one), ForwardAddress::Tcp(other)) => one == other && one.port() != 0,
            (ForwardAddress::Unix(one, _), ForwardAddress::Unix(other, _)) => same_path(one, other),
            _ => false,
        };
        match seen.iter().find(same) {
            Some(first) => {
                let problem = Problem::error("the address is taken").label("written again here");
                let problem = problem.related(root.document().place(&first.span()), "first written here");
                root.report(address.span(), problem.help("give each its own"));
            }
            None => seen.push(address),
        }
    }
}

fn dial(root: &Section<'_>) -> DialConfig {
    let default = DialConfig::default();
    let Some(section) = root.section("dial", &DIAL_KEYS) else { return default };
    let dial = DialConfig {
        connect_timeout: section.duration("connect_timeout", &DIALING).unwrap_or(default.connect_timeout),
        race_after: section.timeout("race_after", &DIALING, default.race_after),
        establish: section.duration("establish", &DIALING).unwrap_or(default.establish),
    };
    if section.has("race_after") && dial.race_after.is_some_and(|race_after| race_after >= dial.connect_timeout) {
        let message = "`race_after` has no effect: an attempt has ended by its `connect_timeout` before";
        let problem = Problem::warning(message).help("write a shorter one, or \"never\"");
        section.report(section.key_span("race_after"), problem);
    }
    dial
}

fn limits(root: &Section<'_>) -> Limits {
    let default = Limits::default();
    let Some(section) = root.section("limits", &LIMITS_KEYS) else { return default };
    let relays = section.integer("relays", RELAYS).and_then(|relays| usize::try_from(relays).ok());
    let leases = section.integer("leases", LEASES).and_then(|leases| usize::try_from(leases).ok());
    let lease_idle_timeout = section.duration("lease_idle_timeout", &SILENCE);
    Limits {
        relays: relays.unwrap_or(default.relays),
        drain_timeout: section.duration("drain_timeout", &DRAINING).unwrap_or(default.drain_timeout),
        half_close_timeout: section.timeout("half_close_timeout", &SILENCE, default.half_close_timeout),
        idle_timeout: section.timeout("idle_timeout", &SILENCE, default.idle_timeout),
        leases: leases.unwrap_or(default.leases),
        lease_idle_timeout: lease_idle_timeout.unwrap_or(default.lease_idle_timeout),
    }
}

fn log(root: &Section<'_>) -> LogConfig {
    let default = LogConfig::default();
    let Some(section) = root.section("log", &LOG_KEYS) else { return default };
    LogConfig {
        level: section.choice("level", &LEVELS).unwrap_or(default.level),
        format: section.choice("format", &FORMATS).unwrap_or(default.format),
    }
}
