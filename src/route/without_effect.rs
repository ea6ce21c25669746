//! Settings of a route that cannot do what they say.

use super::{Finding, Host, Route, Source, Timeout};

/// What of the route's own settings stands in the way of another; nothing is said of the daemon's defaults.
pub(super) fn without_effect(route: &Route) -> impl Iterator<Item = Finding<'_>> {
    let found = route.settings.is_some().then(|| [race(route), keepalive(route), source(route)]);
    found.into_iter().flatten().flatten()
}

fn race(route: &Route) -> Option<Finding<'_>> {
    let settings = route.settings();
    let (Timeout::After(race_after), connect_timeout) = (settings.race_after?, settings.connect_timeout?) else {
        return None;
    };
    (race_after >= connect_timeout).then(|| Finding {
        route,
        message: "`race_after` has no effect: an attempt has ended by its `connect_timeout` before".to_owned(),
        other: None,
        help: "write a shorter one, or \"never\"",
    })
}

fn keepalive(route: &Route) -> Option<Finding<'_>> {
    let settings = route.settings();
    let (Timeout::After(keepalive), Timeout::After(idle)) = (settings.keepalive?, settings.idle_timeout?) else {
        return None;
    };
    (keepalive >= idle).then(|| Finding {
        route,
        message: "`keepalive` has no effect: a silent relay has ended by its `idle_timeout` before".to_owned(),
        other: None,
        help: "write a shorter one, or \"never\"",
    })
}

fn source(route: &Route) -> Option<Finding<'_>> {
    let Some(Source::Ip(source)) = route.settings().source else { return None };
    let other = |host: &Host| matches!(host, Host::Ip(ip) if ip.is_ipv4() != source.is_ipv4());
    let out_of_reach = route.reach.upstreams().iter().find(|upstream| other(&upstream.host))?;
    Some(Finding {
        route,
        message: format!("`{out_of_reach}` is never reached: `source` is an address of the other family, {source}"),
        other: None,
        help: "name an interface as `source`, or remove the host",
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::route::testing::route;
    use crate::route::{Settings, Upstream};

    fn said(settings: Settings) -> Vec<String> {
        let hosts = [[10, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        let upstreams = hosts.map(|ip| Upstream { host: Host::Ip(ip), port: 1 }).into();
        let route = Route {
            reach: crate::route::Reach::Static(upstreams),
            settings: Some(Box::new(settings)),
            ..route("^db@", 1)
        };
        without_effect(&route).map(|finding| finding.message).collect()
    }

    #[test]
    fn what_another_setting_forestalls_is_said() {
        let seconds = Duration::from_secs;
        let after = |time| Some(Timeout::After(seconds(time)));
        let race = |race_after| Settings { connect_timeout: Some(seconds(2)), race_after, ..Settings::DEFAULT };
        assert_eq!(
            said(race(after(2))),
            ["`race_after` has no effect: an attempt has ended by its `connect_timeout` before"]
        );
        assert!(said(race(after(1))).is_empty() && said(race(Some(Timeout::Never))).is_empty());
        let asked = |keepalive| Settings { idle_timeout: after(30), keepalive, ..Settings::DEFAULT };
        assert_eq!(
            said(asked(after(60))),
            ["`keepalive` has no effect: a silent relay has ended by its `idle_timeout` before"]
        );
        assert!(said(asked(after(10))).is_empty() && said(asked(Some(Timeout::Never))).is_empty());
        assert!(said(Settings::DEFAULT).is_empty());
    }

    #[test]
    fn a_host_that_the_source_does_not_reach_is_said() {
        let from = |source| said(Settings { source: Some(source), ..Settings::DEFAULT });
        assert_eq!(
            from(Source::Ip([10, 0, 0, 5].into())),
            ["`[::1]:1` is never reached: `source` is an address of the other family, 10.0.0.5"]
        );
        assert!(from(Source::Interface("eth1".into())).is_empty());
    }
}
