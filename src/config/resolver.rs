//! `[resolver.NAME]` and `[discovery]`: what may be asked where a node is.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::Problem;
use super::resolver_etcd::{EtcdResolver, etcd};
use super::section::{Keys, Section, brief};
use super::tls::Policies;
use super::upstream::host_port;
use crate::node::NodeName;
use crate::resolve::{Answer, DnsConfig, Epmd, Ergo, Questions, StaticNodes, Template};
use crate::route::{HostPort, TlsPolicy};

/// `[resolver.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Its name: 1 to 64 letters, digits, `-` and `_`.
    pub name: Arc<str>,
    /// What is asked.
    pub kind: ResolverKind,
    /// How it is asked, and for how long answers are kept.
    pub questions: Questions,
    /// How TLS is spoken to a node whose answer says that it speaks TLS.
    pub answer_tls: Arc<TlsPolicy>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolverKind {
    /// Answers that are written here.
    Static(StaticNodes),
    /// The DNS.
    Dns(DnsConfig),
    /// Erlang's port mapper at the node's host, on this port.
    Epmd(u16),
    /// Ergo's registrar at the node's host, on this port.
    Ergo(u16),
    /// etcd.
    Etcd(EtcdResolver),
}

impl ResolverKind {
    /// What `routes = ["etcd:NAME"]` shares a table through; `None`: it is none of the kind that can.
    pub fn etcd(&self) -> Option<&EtcdResolver> {
        match self {
            Self::Etcd(etcd) => Some(etcd),
            Self::Static(_) | Self::Dns(_) | Self::Epmd(_) | Self::Ergo(_) => None,
        }
    }
}

/// `[discovery]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// The resolver that is asked where no route matches, or all that match have failed.
    pub resolver: Arc<str>,
    /// Whether it is asked when a route matched.
    pub after_static_failure: bool,
}

pub(super) const DISCOVERY_KEYS: Keys =
    Keys { heading: "[discovery]", known: &["resolver", "after_static_failure"], later: &[] };

/// Of a resolver whose type is none: what other types have is not wrong for that.
const ANY_KIND: Keys = Keys {
    heading: "[resolver.NAME]",
    known: &[
        "type",
        "answer_tls",
        "timeout",
        "ttl",
        "negative_ttl",
        "stale",
        "names",
        "nodes",
        "servers",
        "resolv_conf",
        "srv",
        "address",
        "port",
        "endpoints",
        "cluster",
        "prefix",
        "user",
        "password",
        "tls",
        "table",
        "table_files",
        "table_insecure",
    ],
    later: &[],
};

pub(super) const STATIC_KEYS: Keys =
    Keys { heading: "[resolver.NAME] of type static", known: &["type", "answer_tls", "nodes"], later: &[] };

pub(super) const DNS_KEYS: Keys = Keys {
    heading: "[resolver.NAME] of type dns",
    known: &[
        "type",
        "servers",
        "resolv_conf",
        "srv",
        "address",
        "port",
        "timeout",
        "ttl",
        "negative_ttl",
        "stale",
        "names",
    ],
    later: &[],
};

pub(super) const EPMD_KEYS: Keys = Keys {
    heading: "[resolver.NAME] of type epmd",
    known: &["type", "port", "timeout", "ttl", "negative_ttl", "stale", "names"],
    later: &[],
};

pub(super) const ERGO_KEYS: Keys = Keys {
    heading: "[resolver.NAME] of type ergo",
    known: &["type", "port", "answer_tls", "timeout", "ttl", "negative_ttl", "stale", "names"],
    later: &[],
};

const NODE_KEYS: Keys = Keys { heading: "an answer of `nodes`", known: &["host", "port", "tls"], later: &[] };

/// The kinds, with the keys that each has.
pub(super) const KINDS: &[(&str, &Keys)] = &[
    ("dns", &DNS_KEYS),
    ("epmd", &EPMD_KEYS),
    ("ergo", &ERGO_KEYS),
    ("etcd", &super::resolver_etcd::KEYS),
    ("static", &STATIC_KEYS),
];

/// How long a resolver may be waited for.
pub(super) const ASKING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// How long answers may be kept.
pub(super) const KEEPING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 24 * 3600);

/// Every resolver that is sound.
pub(super) fn resolvers(root: &Section<'_>) -> Vec<ResolverConfig> {
    let sections = root.named("resolver", "[resolver.NAME]", keys_of);
    sections.iter().filter_map(|(name, section)| resolver(name, section)).collect()
}

fn resolver(name: &Spanned<&str>, section: &Section<'_>) -> Option<ResolverConfig> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.get_ref().is_empty() || name.get_ref().len() > 64 || !name.get_ref().chars().all(is_allowed) {
        let problem = Problem::error(format!("\"{}\" is no name of a resolver", brief(name.get_ref())));
        section.report(name.span(), problem.help("write 1 to 64 letters, digits, `-` and `_`"));
    }
    let answer_tls = Arc::new(Policies::of_resolver(section, name.get_ref()));
    let kind = match section.value("type")?.get_ref().as_str()? {
        "static" => ResolverKind::Static(static_nodes(section)?),
        "dns" => ResolverKind::Dns(dns(section)?),
        "etcd" => ResolverKind::Etcd(etcd(section, name.get_ref())?),
        "ergo" => ResolverKind::Ergo(port(section).unwrap_or(Ergo::PORT)),
        "epmd" => ResolverKind::Epmd(port(section).unwrap_or(Epmd::PORT)),
        _ => return None,
    };
    Some(ResolverConfig { name: (*name.get_ref()).into(), kind, questions: questions(section), answer_tls })
}

/// How it is asked; a kind that does not have one of the keys says so by its [`Keys`].
fn questions(section: &Section<'_>) -> Questions {
    let default = Questions::default();
    let names = section.integer("names", 1..=10_000_000).and_then(|names| usize::try_from(names).ok());
    Questions {
        timeout: section.duration("timeout", &ASKING).unwrap_or(default.timeout),
        ttl: section.duration("ttl", &KEEPING).unwrap_or(default.ttl),
        negative_ttl: section.duration("negative_ttl", &KEEPING).unwrap_or(default.negative_ttl),
        stale: section.timeout("stale", &KEEPING, default.stale),
        names: names.unwrap_or(default.names),
    }
}

/// The keys that a resolver of its type has; a type that is none is reported.
fn keys_of(section: &Section<'_>) -> &'static Keys {
    if !section.has("type") {
        let problem = Problem::error("the resolver has no `type`");
        section.document().report_missing(section.span(), problem.help("write what is asked: type = 'static'"));
    }
    let Some(kind) = section.string("type") else { return &ANY_KIND };
    if let Some((_, keys)) = KINDS.iter().find(|(name, _)| name == kind.get_ref()) {
        return keys;
    }
    let kinds: Vec<_> = KINDS.iter().map(|(name, _)| (*name, ())).collect();
    section.choice::<()>("type", &kinds);
    &ANY_KIND
}

/// `[discovery]`; its resolver must be one of these.
pub(super) fn discovery(root: &Section<'_>, resolvers: &[ResolverConfig]) -> Option<DiscoveryConfig> {
    let section = root.section("discovery", &DISCOVERY_KEYS)?;
    let after_static_failure = section.boolean("after_static_failure").unwrap_or(true);
    if !section.has("resolver") {
        let problem = Problem::error("[discovery] has no `resolver`");
        section.document().report_missing(section.span(), problem.help("name one: resolver = 'fleet'"));
    }
    let name = section.text("resolver")?;
    let Some(known) = resolvers.iter().find(|resolver| &*resolver.name == *name.get_ref()) else {
        // One that is there and has a problem of its own has been reported.
        if !is_written(root, name.get_ref()) {
            section.report(name.span(), no_resolver(name.get_ref()));
        }
        return None;
    };
    Some(DiscoveryConfig { resolver: Arc::clone(&known.name), after_static_failure })
}

/// Whether there is a `[resolver.NAME]`, sound or not.
pub(super) fn is_written(root: &Section<'_>, name: &str) -> bool {
    let all = root.value("resolver").and_then(|all| all.get_ref().as_table());
    all.is_some_and(|all| all.contains_key(name))
}

/// A name that no resolver has.
pub(super) fn no_resolver(name: &str) -> Problem {
    let message = format!("there is no resolver \"{}\"", brief(name));
    Problem::error(message).help(format!("write [resolver.{}] in portolan.toml, or name another", brief(name)))
}

fn port(section: &Section<'_>) -> Option<u16> {
    section.integer("port", 1..=65535).and_then(|port| u16::try_from(port).ok())
}

/// What is asked of the DNS; something must be.
fn dns(section: &Section<'_>) -> Option<DnsConfig> {
    if !section.has("srv") && !section.has("address") {
        let problem = Problem::error("the resolver has neither `srv` nor `address`");
        let help = "write what is asked for: srv = '_ergo._tcp.{name}.{host}', or address = '{host}' and a port";
        section.document().report_missing(section.span(), problem.help(help));
    }
    for (one, other) in [("servers", "resolv_conf"), ("port", "srv")] {
        let is_idle = one == "port" && section.has("srv") && !section.has("address");
        if (one == "servers" && section.has(one) && section.has(other)) || (is_idle && section.has(one)) {
            let problem = Problem::error(format!("`{one}` has no effect beside `{other}`"));
            section.report(section.key_span(one), problem.help("remove one of the two"));
        }
    }
    let servers = if section.has("servers") { servers(section) } else { Some(Vec::new()) };
    let resolv_conf = section.path("resolv_conf").map_or_else(|| "/etc/resolv.conf".into(), Spanned::into_inner);
    let (srv, address, port) = (template(section, "srv"), template(section, "address"), port(section));
    Some(DnsConfig { servers: servers?, resolv_conf, srv, address, port })
}

/// Addresses, with port 53 where none is written.
fn servers(section: &Section<'_>) -> Option<Vec<SocketAddr>> {
    let texts = section.texts("servers")?;
    let server = |text: &Spanned<&str>| {
        let address = text.get_ref();
        let server = address.parse().or_else(|_| address.parse().map(|ip| SocketAddr::new(ip, 53)));
        if server.is_err() {
            let problem = Problem::error(format!("`servers` has \"{}\", which is no address", brief(address)));
            section.report(text.span(), problem.help("write '10.0.0.53', '10.0.0.53:5353' or '[fd00::53]:53'"));
        }
        server.ok()
    };
    let servers: Vec<_> = texts.iter().filter_map(server).collect();
    (servers.len() == texts.len()).then_some(servers)
}

fn template(section: &Section<'_>, key: &str) -> Option<Template> {
    let text = section.text(key)?;
    let template = Template::parse(text.get_ref());
    if let Err(error) = &template {
        let help = "write a name of the DNS, with {node}, {name} or {host} in it";
        section.report(text.span(), Problem::error(format!("`{key}`: {error}")).help(help));
    }
    template.ok()
}

fn static_nodes(section: &Section<'_>) -> Option<StaticNodes> {
    let Some(value) = section.value("nodes") else {
        let problem = Problem::error("the resolver has no `nodes`");
        let help = "write which nodes it knows: nodes = { 'db@x' = '10.0.0.1:4370' }";
        section.document().report_missing(section.span(), problem.help(help));
        return None;
    };
    let Some(table) = value.get_ref().as_table() else {
        section.wrong_type("nodes", value, "a table", "write nodes = { 'db@x' = '10.0.0.1:4370' }");
        return None;
    };
    let mut nodes = StaticNodes::default();
    for (name, value) in table {
        let answers: Vec<_> = match value.get_ref().as_array() {
            Some(items) => items.iter().filter_map(|item| static_answer(section, name.get_ref(), item)).collect(),
            None => static_answer(section, name.get_ref(), value).into_iter().collect(),
        };
        match NodeName::parse(name.get_ref()) {
            Ok(node) if !answers.is_empty() => nodes.insert(node, answers.into()),
            Ok(_) if value.get_ref().as_array().is_some_and(|items| items.is_empty()) => {
                let problem = Problem::error(format!("`{}` has no answer", brief(name.get_ref())));
                section.report(value.span(), problem.help("write at least one, or remove the node"));
            }
            Ok(_) => {}
            Err(error) => {
                let problem = Problem::error(error.to_string());
                section.report(name.span(), problem.help("write the name as clients ask for it"));
            }
        }
    }
    Some(nodes)
}

fn static_answer<'a>(section: &Section<'a>, node: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Answer> {
    let answer = |host: HostPort, port: Option<u16>, tls| Answer {
        host: host.host,
        certified: None,
        port: host.port.or(port),
        tls,
        handshake: None,
        proto: None,
    };
    match value.get_ref() {
        DeValue::String(text) => {
            Some(answer(host_port(section, &Spanned::new(value.span(), text.as_ref()))?, None, None))
        }
        DeValue::Table(table) => {
            let section = Section::open(section.document(), table, value.span(), &NODE_KEYS);
            let port = section.integer("port", 1..=65535).and_then(|port| u16::try_from(port).ok());
            let tls = section.boolean("tls");
            if !section.has("host") {
                let problem = Problem::error(format!("an answer for `{}` has no `host`", brief(node)));
                section.document().report_missing(section.span(), problem.help("write host = '10.0.0.1'"));
            }
            Some(answer(host_port(&section, &section.text("host")?)?, port, tls))
        }
        _ => {
            let help = "write '10.0.0.1:4370', or { host = '10.0.0.1', port = 4370, tls = true }";
            section.wrong_type(node, value, "an answer", help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_none_is_not_blamed_for_the_keys_of_those_that_are() {
        for (kind, keys) in KINDS {
            for key in keys.known {
                assert!(ANY_KIND.known.contains(key), "`{key}` of {kind}");
            }
        }
    }
}
