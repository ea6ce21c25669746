//! A route that stands in no file: an edit at run time, in JSON. It is written as TOML and read like a routes file, so
//! that keys, ranges, texts and carets are the same.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::context::Context;
use super::document::walk;
use super::problem::{Place, Problem, Problems};
use super::routes_file::{KEYS, ROUTE_KEYS, route};
use super::section::{Section, brief};
use super::source::Source;
use super::tls::Policies;
use crate::admin::view::RouteSpec;
use crate::route::{Origin, Route};

/// No key of a route is nested deeper; TOML's own reader has a limit too, and a less telling text.
const MAX_DEPTH: usize = 8;

/// Reads the object of a `[[route]]`: every key that a routes file may have, except `disabled`, and no relative path.
/// The text that is shown in problems is called `what`. `trusts` opens the files that `tls` names; without it they are
/// not looked at. `None` when there is an error; `problems` says which.
pub fn read_spec<'a>(
    what: &Path,
    json: &Value,
    origin: Origin,
    context: impl Into<Context<'a>>,
    problems: &mut Problems,
) -> Option<Route> {
    let errors = problems.errors();
    let source = Source::new(what, as_toml(what, json, problems)?);
    let route = walk(&source, &KEYS, problems, |root| {
        let sections = root.sections("route", &ROUTE_KEYS);
        let section = sections.first()?;
        if section.has("disabled") {
            let problem = Problem::error("`disabled` is for the routes of a file");
            section.report(section.key_span("disabled"), problem.help("remove it: an edit is in force or not there"));
        }
        let is_absolute = check_paths(section);
        let Context { trusts, resolvers } = context.into();
        let context = Context { trusts: trusts.filter(|_| is_absolute), resolvers };
        let (mut policies, mut written) = (Policies::new(context), Vec::new());
        let route = route(section, &policies, &mut written);
        policies.open(section.document(), written);
        route
    });
    route.filter(|_| problems.errors() == errors).map(|(route, _)| Route { origin, ..route })
}

/// Reads an edit that was made at this time, as [`read_spec`] does.
pub fn read_edit<'a>(
    spec: &RouteSpec,
    at: SystemTime,
    context: impl Into<Context<'a>>,
    problems: &mut Problems,
) -> Option<Route> {
    let origin = Origin::Edit { at };
    let what = origin.to_string();
    match serde_json::to_value(spec) {
        Ok(json) => read_spec(Path::new(&what), &json, origin, context, problems),
        Err(error) => {
            problems.push(Problem::error(error.to_string()).at(Place::of_file(Path::new(&what))));
            None
        }
    }
}

/// The text of a routes file with this route alone.
fn as_toml(what: &Path, json: &Value, problems: &mut Problems) -> Option<String> {
    let mut found = Vec::new();
    if json.is_object() {
        check_value("", json, MAX_DEPTH, &mut found);
    } else {
        let help = "write { \"match\": .., \"host\": .. }, with the keys of [[route]]";
        found.push(Problem::error("the route is no JSON object").help(help));
    }
    let text = if found.is_empty() { toml::to_string(&json!({ "route": [json] })) } else { Ok(String::new()) };
    let text = text.map_err(|error| found.push(Problem::error(format!("the route cannot be read: {error}"))));
    let is_good = found.is_empty();
    found.into_iter().for_each(|problem| problems.push(problem.at(Place::of_file(what))));
    text.ok().filter(|_| is_good)
}

/// Reports what JSON can say and TOML cannot.
fn check_value(key: &str, value: &Value, depth: usize, found: &mut Vec<Problem>) {
    match value {
        Value::Null => {
            let problem = Problem::error(format!("`{}` is null", brief(key)));
            found.push(problem.help("leave the key out, or write its value"));
        }
        Value::Number(number) if number.is_u64() && !number.is_i64() => {
            let problem = Problem::error(format!("`{}` is {number}, out of range", brief(key)));
            found.push(problem.help(format!("write a whole number from {} to {}", i64::MIN, i64::MAX)));
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => {
            let problem = Problem::error(format!("`{}` is nested too deep", brief(key)));
            found.push(problem.help("write what docs/configuration.md says of the key"));
        }
        Value::Array(items) => items.iter().for_each(|item| check_value(key, item, depth - 1, found)),
        Value::Object(items) => {
            let dot = if key.is_empty() { "" } else { "." };
            items.iter().for_each(|(name, item)| check_value(&format!("{key}{dot}{name}"), item, depth - 1, found));
        }
        _ => {}
    }
}

/// Reports relative paths of `tls`, and tells whether there is none.
fn check_paths(section: &Section<'_>) -> bool {
    let tls = section.value("tls").and_then(|tls| tls.get_ref().as_table());
    let paths = ["ca", "cert", "key"].into_iter().filter_map(|key| Some((key, tls?.get(key)?)));
    let mut is_absolute = true;
    for (key, value) in paths {
        // An empty one has its own text.
        let relative = value.get_ref().as_str().filter(|path| !path.is_empty() && Path::new(path).is_relative());
        if let Some(path) = relative {
            let problem = Problem::error(format!("`{key}` is \"{}\", a relative path", brief(path)));
            section.report(value.span(), problem.help("write an absolute path: an edit belongs to no file"));
            is_absolute = false;
        }
    }
    is_absolute
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Kind, check_text};
    use crate::dial::Trusts;
    use crate::route::{Asked, HostPort};
    use crate::route::{Host, Identity, Pattern, Reach, Settings, Source, Timeout, TlsPolicy, Upstream};

    fn edit() -> Origin {
        Origin::Edit { at: SystemTime::UNIX_EPOCH }
    }

    fn read(json: &Value) -> Result<Route, String> {
        let mut problems = Problems::default();
        let route = read_spec(Path::new("request"), json, edit(), None, &mut problems);
        route.ok_or_else(|| problems.render(false))
    }

    /// The message and remedy of each problem.
    fn messages(json: &Value) -> Vec<String> {
        let mut problems = Problems::default();
        assert!(read_spec(Path::new("request"), json, edit(), None, &mut problems).is_none());
        problems.iter().map(|p| format!("{}; {}", p.message, p.help.as_deref().unwrap_or_default())).collect()
    }

    #[test]
    fn every_key_of_a_file_is_read() {
        let route = read(&json!({
            "match": r"^db@\d+$", "weight": -5, "host": ["10.0.0.1", "[fd00::1]:2"], "port": 1,
            "tls": { "ca": "/ca.pem" }, "connect_timeout": "2s", "race_after": "never", "source": "lo",
            "proxy_protocol": "v2", "max_relays": 7, "idle_timeout": "1h", "keepalive": "30s", "final": true, "name": "x", "description": "two\nlines with 'all' \"quotes\"",
        }))
        .unwrap();
        assert_eq!(route.pattern.as_str(), r"^db@\d+$");
        assert_eq!((route.weight, route.reach.upstreams().len(), route.is_final), (-5, 2, true));
        let settings = Settings {
            connect_timeout: Some(Duration::from_secs(2)),
            race_after: Some(Timeout::Never),
            source: Some(Source::Interface("lo".into())),
            proxy_protocol: true,
            max_relays: Some(7),
            idle_timeout: Some(Timeout::After(Duration::from_secs(3600))),
            keepalive: Some(Timeout::After(Duration::from_secs(30))),
        };
        assert_eq!(route.settings.as_deref(), Some(&settings));
        assert_eq!(route.tls.unwrap().ca.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(route.description.as_deref(), Some("two\nlines with 'all' \"quotes\""));
        assert_eq!(route.origin, edit());
    }

    #[test]
    fn what_is_wrong_is_said_as_in_a_file() {
        let told = read(&json!({ "match": "db(@", "host": "h:1", "wieght": 1 })).unwrap_err();
        let file = "[[route]]\nhost = \"h:1\"\nmatch = \"db(@\"\nwieght = 1\n";
        assert_eq!(told, check_text(Kind::Routes, Path::new("request"), file).render(false));
        assert!(told.contains(" --> request:3:12\n") && told.contains("did you mean `weight`?"), "{told}");
    }

    #[test]
    fn what_json_can_say_and_a_file_cannot() {
        assert_eq!(
            messages(&json!([1])),
            ["the route is no JSON object; write { \"match\": .., \"host\": .. }, with the keys of [[route]]"]
        );
        assert_eq!(
            messages(&json!({ "match": "x", "host": [null], "tls": { "ca": null }, "weight": u64::MAX })),
            [
                "`host` is null; leave the key out, or write its value",
                "`tls.ca` is null; leave the key out, or write its value",
                "`weight` is 18446744073709551615, out of range; \
                 write a whole number from -9223372036854775808 to 9223372036854775807",
            ]
        );
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert_eq!(
            messages(&json!({ "match": deep })),
            ["`match` is nested too deep; write what docs/configuration.md says of the key"]
        );
    }

    #[test]
    fn what_only_a_file_may_have() {
        let json = json!({ "match": "x", "host": "h:1", "disabled": false, "tls": { "ca": "ca.pem", "cert": "/a" } });
        assert_eq!(
            messages(&json),
            [
                "`disabled` is for the routes of a file; remove it: an edit is in force or not there",
                "`ca` is \"ca.pem\", a relative path; write an absolute path: an edit belongs to no file",
                "`cert` is written without `key`; add `key = 'file.pem'`",
            ]
        );
        assert_eq!(messages(&json!({})).len(), 2, "no match and no host");
    }

    #[test]
    fn the_files_of_tls_are_opened() {
        let mut problems = Problems::default();
        let spec = json!({ "match": "x", "host": "h:1", "tls": { "ca": "/nowhere/ca.pem" } });
        let spec: RouteSpec =
            serde_json::from_value(json!({ "weight": 1, "host": ["h:1"], "match": "x", "tls": spec["tls"] })).unwrap();
        let at = SystemTime::UNIX_EPOCH;
        assert!(read_edit(&spec, at, Some(&mut Trusts::new(None)), &mut problems).is_none());
        assert!(
            problems.first_error().starts_with("edit of 1970-01-01T00:00:00Z:7:6: `/nowhere/ca.pem`"),
            "{}",
            problems.first_error()
        );
        assert!(read_edit(&spec, at, None, &mut problems).is_some());
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        let duration = || (1_000_000_000..3_600_000_000_000u64).prop_map(Duration::from_nanos);
        let timeout = || option::of(prop_oneof![Just(Timeout::Never), duration().prop_map(Timeout::After)]);
        // An address may be of the other family than every host's, which is a problem and not a route.
        let source = "[a-z]{1,9}[0-9.]{0,6}".prop_map(|name| Source::Interface(name.into()));
        let others = (option::of(source), any::<bool>(), option::of(1..=1_000_000_000usize));
        (option::of(duration()), timeout(), others, timeout(), timeout()).prop_map(
            |(connect_timeout, race_after, (source, proxy_protocol, max_relays), idle_timeout, keepalive)| Settings {
                connect_timeout,
                race_after,
                source,
                proxy_protocol,
                max_relays,
                idle_timeout,
                keepalive,
            },
        )
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let host = prop_oneof![
            any::<std::net::IpAddr>().prop_map(Host::Ip),
            "[a-z_][a-z0-9-]{0,9}(\\.[a-z][a-z0-9]{0,5}){0,2}".prop_map(|name| Host::Name(name.into())),
        ];
        let own = (host.clone(), option::of(1..=u16::MAX)).prop_map(|(host, port)| HostPort { host, port });
        let asked = ("[a-z]{1,3}", prop::collection::vec(own, 0..3), option::of(1..=u16::MAX)).prop_map(
            |(resolver, hosts, port)| {
                // That it is plain is said by `tls`.
                let (resolver, hosts, is_plain) = (resolver.into(), hosts.into(), false);
                Reach::Asked(Box::new(Asked { resolver, hosts, port, is_plain }))
            },
        );
        let asked = option::of(asked);
        let upstreams =
            prop::collection::vec((host, 1..=u16::MAX).prop_map(|(host, port)| Upstream { host, port }), 1..4);
        let path = || "/[^\0]{0,12}".prop_map(std::path::PathBuf::from);
        let identity = (path(), path()).prop_map(|(cert, key)| Identity { cert, key });
        let name = prop::sample::select(vec!["db.example", "10.0.0.1", "fd00::1"]).prop_map(str::to_owned);
        let pins = prop::collection::vec(any::<[u8; 32]>(), 0..3);
        let tls = (option::of(path()), option::of(identity), option::of(name), pins, any::<bool>()).prop_map(
            |(ca, identity, server_name, pins, insecure_skip_verify)| {
                Arc::new(TlsPolicy { ca, identity, server_name, pins, insecure_skip_verify })
            },
        );
        let tls = option::of(prop_oneof![Just(Arc::new(TlsPolicy::default())), tls]);
        let pattern = prop_oneof![r"[\^]?(\\Q)?[a-z@.' é\]-]{0,9}", r#"["\\]{2}'*"#]
            .prop_filter_map("no pattern", |text| Pattern::parse(&text).ok());
        let texts = (option::of("[^\\pC]{1,9}"), option::of("(?s).{0,20}"));
        (pattern, any::<i64>(), (upstreams, asked), tls, any_settings(), any::<bool>(), texts).prop_map(
            |(pattern, weight, (upstreams, asked), tls, settings, is_final, (name, description))| Route {
                pattern,
                weight,
                reach: asked.unwrap_or(Reach::Static(upstreams.into())),
                tls,
                settings: Some(settings).filter(|settings| *settings != Settings::DEFAULT).map(Box::new),
                is_final,
                name: name.map(Into::into),
                description: description.map(Into::into),
                origin: edit(),
            },
        )
    }

    proptest! {
        #[test]
        fn what_a_route_says_is_read_as_the_same_route(route in any_route()) {
            let read = read(&serde_json::to_value(RouteSpec::of(&route)).unwrap());
            let read = read.map_err(TestCaseError::fail)?;
            prop_assert!(read.means_the_same(&route), "{:?} {:?}", read, route);
        }

        #[test]
        fn any_object_is_answered(text in "\\PC{0,20}", number in any::<f64>(), key in "[a-z\"\\\\. \n]{0,6}") {
            for value in [json!(text), json!([text, { key.clone(): number }]), json!({ text.clone(): [{}] })] {
                for name in ["match", "host", "tls", "weight", "resolver", key.as_str()] {
                    drop(read(&json!({ "match": "x", "host": "h:1", name: value })));
                }
            }
        }
    }
}
