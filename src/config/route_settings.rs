//! What a route says of dialing and relaying, in place of the daemon's defaults.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::problem::Problem;
use super::section::{Section, brief};
use crate::route::{Host, Settings, Source, Upstream};

/// How long dialing may take.
pub(super) const DIALING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// How long a relay may be silent.
pub(super) const SILENCE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 3600);
/// How many requests and relays may be open at once.
pub(super) const RELAYS: RangeInclusive<i64> = 1..=1_000_000_000;
/// The kernel counts whole seconds, 32767 at most (TCP_KEEPIDLE).
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(9 * 3600);

const VERSIONS: [(&str, bool); 1] = [("v2", true)];

/// The kernel's IFNAMSIZ, without the zero byte.
const LONGEST_INTERFACE: usize = 15;

/// What the route says; nothing, if it says nothing. A source that reaches none of the upstreams is a problem.
pub(super) fn settings(route: &Section<'_>, upstreams: &[Upstream]) -> Option<Box<Settings>> {
    let settings = Settings {
        connect_timeout: route.duration("connect_timeout", &DIALING),
        race_after: route.own_timeout("race_after", &DIALING),
        source: source(route, upstreams),
        proxy_protocol: route.choice("proxy_protocol", &VERSIONS).unwrap_or(false),
        max_relays: route.integer("max_relays", RELAYS).and_then(|relays| usize::try_from(relays).ok()),
        idle_timeout: route.own_timeout("idle_timeout", &SILENCE),
        keepalive: route.own_timeout("keepalive", &KEEPALIVE),
    };
    (settings != Settings::DEFAULT).then(|| Box::new(settings))
}

fn source(route: &Section<'_>, upstreams: &[Upstream]) -> Option<Source> {
    let text = route.text("source")?;
    let source = match parse(text.get_ref()) {
        Ok(source) => source,
        Err((message, help)) => {
            route.report(text.span(), Problem::error(message).help(help));
            return None;
        }
    };
    if let Source::Ip(ip) = source {
        check_family(route, &text, ip, upstreams);
    }
    Some(source)
}

/// The message and remedy of what is none.
fn parse(text: &str) -> Result<Source, (String, &'static str)> {
    const HELP: &str = "write an address of this machine, '10.0.0.5', or the name of an interface, 'eth1'";
    let said = |what: &str| format!("`source` is \"{}\", {what}", brief(text));
    if let Ok(ip) = text.parse::<IpAddr>() {
        if ip.is_unspecified() || ip.is_multicast() {
            return Err((said("which no connection comes from"), HELP));
        }
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return Err((said("which each interface has one like"), "write the name of the interface: 'eth1'"));
        }
        return Ok(Source::Ip(ip));
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_in_name = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    if is_number || text.len() > LONGEST_INTERFACE || !text.chars().all(is_in_name) {
        return Err((said("neither an address nor the name of an interface"), HELP));
    }
    Ok(Source::Interface(text.into()))
}

/// Reports a source from which no upstream can be dialed; a single one of several is no more than a warning of the table.
fn check_family(route: &Section<'_>, text: &Spanned<&str>, source: IpAddr, upstreams: &[Upstream]) {
    let is_out_of_reach =
        |upstream: &Upstream| matches!(upstream.host, Host::Ip(ip) if ip.is_ipv4() != source.is_ipv4());
    if !upstreams.is_empty() && upstreams.iter().all(is_out_of_reach) {
        let (own, other) = if source.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        let message = format!("`source` is an {own} address, and every `host` an {other} address");
        let help = format!("write an {other} address of this machine, or the name of an interface");
        route.report(text.span(), Problem::error(message).help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(source) => format!("{source:?}"),
            Err((message, _)) => message,
        }
    }

    #[test]
    fn addresses_and_interfaces() {
        assert_eq!(read("10.0.0.5"), "Ip(10.0.0.5)");
        assert_eq!(read("fd00::5"), "Ip(fd00::5)");
        assert_eq!(read("eth1"), "Interface(\"eth1\")");
        assert_eq!(read("enp0s31f6.4094"), "Interface(\"enp0s31f6.4094\")");
    }

    #[test]
    fn what_is_neither_is_said() {
        let neither = |text: &str| format!("`source` is \"{text}\", neither an address nor the name of an interface");
        for text in ["10.0.0.500", "10.0.0.0/8", "10.0.0.5:80", "[fd00::1]", "sixteen-letters-", "eth 1", "éth", "7"] {
            assert_eq!(read(text), neither(text));
        }
        assert_eq!(read("0.0.0.0"), "`source` is \"0.0.0.0\", which no connection comes from");
        assert_eq!(read("ff02::1"), "`source` is \"ff02::1\", which no connection comes from");
        assert_eq!(read("fe80::1"), "`source` is \"fe80::1\", which each interface has one like");
    }
}
