//! What the commands show of a route.

use std::borrow::Cow;

use serde::Serialize;

use crate::route::Route;

/// A route in JSON.
#[derive(Debug, Serialize)]
pub(super) struct RouteView<'a> {
    #[serde(rename = "match")]
    pattern: &'a str,
    weight: i64,
    file: Cow<'a, str>,
    line: u32,
    /// Each as `host:port`.
    hosts: Vec<String>,
    tls: bool,
    name: Option<&'a str>,
    #[serde(rename = "final")]
    is_final: bool,
}

impl<'a> RouteView<'a> {
    pub(super) fn of(route: &'a Route) -> Self {
        Self {
            pattern: route.pattern.as_str(),
            weight: route.weight,
            file: route.origin.file.to_string_lossy(),
            line: route.origin.line,
            hosts: route.upstreams.iter().map(ToString::to_string).collect(),
            tls: route.tls.is_some(),
            name: route.name.as_deref(),
            is_final: route.is_final,
        }
    }

    /// Weight, pattern, hosts, what is special, place and name, for one line of a table.
    pub(super) fn cells(&self) -> [String; 6] {
        let marks: Vec<&str> =
            [(self.tls, "tls"), (self.is_final, "final")].iter().filter(|m| m.0).map(|m| m.1).collect();
        [
            self.weight.to_string(),
            self.pattern.to_owned(),
            self.hosts.join(", "),
            marks.join(", "),
            format!("{}:{}", self.file, self.line),
            self.name.unwrap_or_default().to_owned(),
        ]
    }
}
