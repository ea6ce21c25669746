//! Hosts and ports of a route.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::context::Context;
use super::problem::Problem;
use super::resolver::no_resolver;
use super::section::{Section, brief};
use crate::route::{Asked, Host, HostPort, Reach, Upstream};

/// Where the nodes of a route may be reached; `None` when something of that is wrong.
pub(super) fn reach(route: &Section<'_>, context: &Context<'_>) -> Option<Reach> {
    let port = route.integer("port", 1..=65535).and_then(|port| u16::try_from(port).ok());
    if route.has("resolver") {
        return asked(route, port, context).map(|asked| Reach::Asked(Box::new(asked)));
    }
    upstreams(route, port).map(Reach::Static)
}

/// The resolver of a route, and what the route says in its place.
fn asked(route: &Section<'_>, port: Option<u16>, context: &Context<'_>) -> Option<Asked> {
    let hosts = if route.has("host") { hosts(route) } else { Some(Box::default()) };
    let is_plain = route.value("tls").is_some_and(|tls| tls.get_ref().as_bool() == Some(false));
    let name = route.text("resolver")?;
    let resolver = context.resolver(name.get_ref());
    if resolver.is_none() {
        route.report(name.span(), no_resolver(name.get_ref()));
    }
    Some(Asked { resolver: resolver?, hosts: hosts?, port, is_plain })
}

fn hosts(route: &Section<'_>) -> Option<Box<[HostPort]>> {
    let texts = route.texts("host")?;
    let hosts: Box<[_]> = texts.iter().filter_map(|text| host_port(route, text)).collect();
    (hosts.len() == texts.len()).then_some(hosts)
}

/// A host with or without a port; `None` when it is wrong, which has been reported.
pub(super) fn host_port(section: &Section<'_>, text: &toml::Spanned<&str>) -> Option<HostPort> {
    let parsed = parse(text.get_ref());
    parsed.map_err(|bad| section.report(text.span(), Problem::error(bad.message).help(bad.help))).ok()
}

fn upstreams(route: &Section<'_>, port: Option<u16>) -> Option<Box<[Upstream]>> {
    if !route.has("host") {
        let help = "write where the node may be reached: host = 'db.example' and port = 4370, or resolver = 'fleet'";
        route.document().report_missing(route.span(), Problem::error("the route has no `host`").help(help));
    }
    let hosts = route.texts("host")?;
    let upstream = |text: &toml::Spanned<&str>| {
        let HostPort { host, port: own } = host_port(route, text)?;
        match own.or(port) {
            Some(port) => Some(Upstream { host, port }),
            None => {
                // A `port` that is wrong has been reported.
                if !route.has("port") {
                    let help = format!("add `port = 4370` to the route, or write it behind the host: {}", shown(&host));
                    let problem = Problem::error(format!("`{host}` has no port"));
                    route.document().report_missing(text.span(), problem.help(help));
                }
                None
            }
        }
    };
    let upstreams: Box<[Upstream]> = hosts.iter().filter_map(upstream).collect();
    (upstreams.len() == hosts.len()).then_some(upstreams)
}

fn shown(host: &Host) -> String {
    match host {
        Host::Ip(IpAddr::V6(ip)) => format!("'[{ip}]:4370'"),
        host => format!("'{host}:4370'"),
    }
}

/// Why a text is no host.
#[derive(Debug)]
struct BadHost {
    message: String,
    help: Cow<'static, str>,
}

impl BadHost {
    fn new(message: String, help: &'static str) -> Self {
        Self { message, help: Cow::Borrowed(help) }
    }
}

fn parse(text: &str) -> Result<HostPort, BadHost> {
    if let Ok(ip) = IpAddr::from_str(text) {
        return Ok(HostPort { host: Host::Ip(ip), port: None });
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        return Err(BadHost {
            message: format!("`host` begins with the scheme {}://", brief(scheme)),
            help: format!("write the host alone: '{}'; `tls` says how it is spoken to", brief(host)).into(),
        });
    }
    let (host, port) = split(text)?;
    Ok(HostPort { host, port: port.map(parse_port).transpose()? })
}

fn split(text: &str) -> Result<(Host, Option<&str>), BadHost> {
    if let Some(rest) = text.strip_prefix('[') {
        let help = "write an IPv6 address with a port as '[fd00::1]:4370'";
        let bad = || BadHost::new(format!("`host` is \"{}\", which is no address", brief(text)), help);
        let (ip, rest) = rest.split_once(']').ok_or_else(bad)?;
        let ip = Ipv6Addr::from_str(ip).ok().ok_or_else(bad)?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) };
        return Ok((Host::Ip(ip.into()), port));
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    if port.is_some_and(|port| port.contains(':')) {
        let message = format!("`host` is \"{}\", with more than one colon", brief(text));
        return Err(BadHost::new(message, "write 'name:port', or an IPv6 address with its port as '[fd00::1]:4370'"));
    }
    if let Ok(ip) = IpAddr::from_str(name) {
        return Ok((Host::Ip(ip), port));
    }
    check_name(name)?;
    Ok((Host::Name(name.into()), port))
}

fn parse_port(text: &str) -> Result<u16, BadHost> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&port: &u16| digits && port > 0).ok_or_else(|| {
        let message = format!("the port of `host` is \"{}\"", brief(text));
        BadHost::new(message, "write a whole number from 1 to 65535")
    })
}

/// A name as the DNS could hold it (RFC 1035, section 2.3.4: 253 bytes, 63 for a label; RFC 1123, section 2.1: the
/// last label is not a number), with `_` beside. One dot at the end says that the name is complete.
fn check_name(name: &str) -> Result<(), BadHost> {
    let quoted = brief(name);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        let message = format!("`host` is \"{quoted}\", and {c:?} stands in no host name");
        return Err(BadHost::new(message, "write a name of letters, digits, `-`, `_` and `.`, or an address"));
    }
    if name.len() > 253 {
        let message = format!("`host` has {} bytes", name.len());
        return Err(BadHost::new(message, "a host name has at most 253 bytes"));
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    if labels.split('.').any(|label| label.is_empty() || label.len() > 63) {
        let message = format!("`host` is \"{quoted}\", which is no host name");
        return Err(BadHost::new(message, "between two dots stand 1 to 63 characters"));
    }
    if labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        let message = format!("`host` is \"{quoted}\", neither an IPv4 address nor a host name");
        return Err(BadHost::new(
            message,
            "an IPv4 address is four numbers from 0 to 255; the last part of a name is no number",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> String {
        match parse(text) {
            Ok(HostPort { host, port }) => format!("{host} {port:?}"),
            Err(bad) => bad.message,
        }
    }

    #[test]
    fn addresses_and_names_with_and_without_a_port() {
        assert_eq!(parsed("10.0.1.50"), "10.0.1.50 None");
        assert_eq!(parsed("10.0.1.51:4371"), "10.0.1.51 Some(4371)");
        assert_eq!(parsed("fd00::1"), "fd00::1 None");
        assert_eq!(parsed("[fd00::1]"), "fd00::1 None");
        assert_eq!(parsed("[fd00::1]:4370"), "fd00::1 Some(4370)");
        assert_eq!(parsed("my_db-1.example.:1"), "my_db-1.example. Some(1)");
    }

    #[test]
    fn what_is_no_host_is_said() {
        assert_eq!(parsed("https://x/y"), "`host` begins with the scheme https://");
        assert_eq!(parsed("a b"), "`host` is \"a b\", and ' ' stands in no host name");
        assert_eq!(parsed("db:1:2"), "`host` is \"db:1:2\", with more than one colon");
        assert_eq!(parsed("[db]:1"), "`host` is \"[db]:1\", which is no address");
        assert_eq!(parsed("db:"), "the port of `host` is \"\"");
        assert_eq!(parsed("db:0"), "the port of `host` is \"0\"");
        assert_eq!(parsed("db:+1"), "the port of `host` is \"+1\"");
        assert_eq!(parsed("db:65536"), "the port of `host` is \"65536\"");
        assert_eq!(parsed(":80"), "`host` is \"\", which is no host name");
        assert_eq!(parsed("a..b"), "`host` is \"a..b\", which is no host name");
        assert_eq!(parsed("10.0.1.500"), "`host` is \"10.0.1.500\", neither an IPv4 address nor a host name");
        assert_eq!(parsed(&"a.".repeat(127)), "`host` has 254 bytes");
    }

    proptest! {
        #[test]
        fn an_upstream_is_read_as_it_is_written(text in r"(\[?[0-9a-f:.]{1,12}\]?|[a-z.-]{1,12})(:[0-9]{1,5})?") {
            if let Ok(HostPort { host, port: Some(port) }) = parse(&text) {
                let upstream = Upstream { host: host.clone(), port };
                prop_assert_eq!(parse(&upstream.to_string()).ok(), Some(HostPort { host, port: Some(port) }));
            }
        }
    }
}
