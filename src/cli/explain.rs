//! `portolan explain`: what a request for a node would do now, by the running daemon. Nothing is looked up or dialed.

use std::io;

use clap::Args;

use super::Exit;
use super::admin::{Admin, AdminArguments, Failure};
use super::console::Console;
use super::upstreams::{last_error, state, tls, took};
use super::view::origin;
use crate::admin::segment;
use crate::admin::view::{CandidateView, ExplainView, OpenView, RouteSpec, RouteView, UpstreamView};
use crate::config::{plural, visible};
use crate::node::NodeName;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node that would be asked for
    #[arg(value_name = "NAME", value_parser = NodeName::parse)]
    node: NodeName,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Exits with 1 when no route matches.
pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let path = format!("/v1/explain?node={}", segment(arguments.node.as_str()));
    match Admin::new(&arguments.admin).and_then(|admin| admin.get::<ExplainView>(&path)) {
        Err(Failure::Refused(error)) if error.code == "no_route" => {
            console.complain(&error.detail)?;
            Ok(Exit::Problems)
        }
        Err(failure) => failure.tell(console),
        Ok(plan) if arguments.json => console.json(&plan).map(|()| Exit::Ok),
        Ok(plan) => text(&plan).try_for_each(|line| writeln!(console.out, "{}", visible(&line))).map(|()| Exit::Ok),
    }
}

/// The plan for people, line by line.
fn text(plan: &ExplainView) -> impl Iterator<Item = String> {
    let ExplainView { node, generation, routes, candidates, removed, more, establish, open, then } = plan;
    let mut lines = vec![format!("{node}, by generation {generation} of the table")];
    for (number, candidate) in (1..).zip(candidates) {
        let route = routes.iter().find(|route| route.spec.pattern == candidate.pattern);
        lines.extend(candidate_text(number, candidate, route));
    }
    lines.push(format!("then it is refused as {then}: no discovery is configured"));
    if *more {
        lines.push("there are more than are listed".to_owned());
    }
    lines.extend(removed.iter().map(|pattern| format!("removed at run time, and not tried: {pattern}")));
    let OpenView { now, limit } = open;
    let full = if now >= limit { "; the next request is refused as busy" } else { "" };
    lines.push(format!("all of it within {establish}; {now} of {limit} relays are open{full}"));
    lines.into_iter()
}

fn candidate_text(number: usize, candidate: &CandidateView, route: Option<&RouteView>) -> Vec<String> {
    let CandidateView { pattern, upstream, why, address, known, open, connect_timeout, race_after } = candidate;
    let mut lines = vec![format!("{number:>3}. {upstream}  {why}")];
    let name = |route: &RouteView| route.spec.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let origin = route.map(|route| format!("{}, {}", name(route), origin(route))).unwrap_or_default();
    lines.push(format!("     route {pattern}{origin}"));
    lines.push(format!(
        "     {}",
        known.as_ref().map_or("healthy as far as is known: nobody has wanted it yet".into(), health)
    ));
    let how = route.map(|route| how(&route.spec)).unwrap_or_default();
    let place = match (address, known.as_ref().and_then(|known| known.last_good.as_ref())) {
        (Some(address), _) => format!("dials {address}"),
        (None, Some(last)) => format!("looks the name up at each attempt, {last} first if it is still there"),
        (None, None) => "looks the name up at each attempt".to_owned(),
    };
    let race = match race_after.as_str() {
        "never" => "the next only when it has failed".to_owned(),
        after => format!("the next beside it after {after} without an answer"),
    };
    lines.push(format!("     {place}, {how}, at most {connect_timeout}; {race}"));
    if let (Some(open), Some(most)) = (open, route.and_then(|route| route.spec.max_relays)) {
        let full = if *open >= most { ", and so it is passed over" } else { "" };
        lines.push(format!("     {open} of its {most} relays are open{full}"));
    }
    lines
}

/// What is spoken, and from where.
fn how(route: &RouteSpec) -> String {
    let mut how = route.tls.as_ref().map(tls).unwrap_or_default();
    if how.is_empty() {
        "plain TCP".clone_into(&mut how);
    }
    if let Some(source) = &route.source {
        how += &format!(" from {source}");
    }
    if let Some(version) = &route.proxy_protocol {
        how += &format!(" with PROXY protocol {version}");
    }
    how
}

/// What is known of an upstream, in one line.
fn health(known: &UpstreamView) -> String {
    let mut line =
        format!("{}, {}", state(known), plural(usize::try_from(known.attempts).unwrap_or(usize::MAX), "attempt"));
    if known.failures > 0 {
        line += &format!(", {} failed since it was up", known.failures);
    }
    if let Some(smoothed) = known.smoothed_us {
        line += &format!(", up in {}", took(smoothed));
    }
    if let Some(failure) = &known.last_error {
        line += &format!("; last error: {}", last_error(failure));
    }
    line
}
