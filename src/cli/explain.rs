//! `portolan explain`: what a request for a node would do now, by the running daemon. Nothing is asked, looked up or
//! dialed.

use std::io;

use clap::Args;

use super::Exit;
use super::admin::{Admin, AdminArguments, Failure};
use super::console::Console;
use super::resolvers::worth;
use super::upstreams::{last_error, state, tls, took};
use super::view::origin;
use crate::admin::segment;
use crate::admin::view::{CandidateView, ExplainView, KnownState, OpenView, QuestionView, RouteView, UpstreamView};
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
        Ok(plan) => {
            if arguments.json {
                console.json(&plan)?;
            } else {
                text(&plan).try_for_each(|line| writeln!(console.out, "{}", visible(&line)))?;
            }
            Ok(if plan.then == "no_route" { Exit::Problems } else { Exit::Ok })
        }
    }
}

/// The plan for people, line by line.
fn text(plan: &ExplainView) -> impl Iterator<Item = String> {
    let ExplainView { node, generation, routes, candidates, questions, removed, more, establish, open, then, because } =
        plan;
    let mut lines = vec![format!("{node}, by generation {generation} of the table")];
    let asked_before = |place| questions.iter().filter(move |question| question.before == place).map(question_text);
    for (place, candidate) in candidates.iter().enumerate() {
        lines.extend(asked_before(place));
        let route = routes.iter().find(|route| candidate.pattern.as_ref() == Some(&route.spec.pattern));
        lines.extend(candidate_text(place + 1, candidate, route));
    }
    lines.extend(asked_before(candidates.len()));
    lines.push(format!("then it is refused as {then}: {because}"));
    if *more {
        lines.push("there are more than are listed".to_owned());
    }
    lines.extend(removed.iter().map(|pattern| format!("removed at run time, and not tried: {pattern}")));
    let OpenView { now, limit } = open;
    let full = if now >= limit { "; the next request is refused as busy" } else { "" };
    lines.push(format!("all of it within {establish}; {now} of {limit} relays are open{full}"));
    lines.into_iter()
}

/// A question, and what is known of it.
fn question_text(question: &QuestionView) -> String {
    let QuestionView { pattern, resolver, kind, state, asking, answers, error, age_ms, left_ms, .. } = question;
    let who = pattern.as_ref().map_or("discovery".to_owned(), |pattern| format!("route {pattern}"));
    let worth = worth(*state, age_ms.unwrap_or_default(), left_ms.unwrap_or_default());
    let (count, error) = (plural(answers.len(), "answer"), error.as_deref());
    let known = match (state, error) {
        (KnownState::Fresh, None) => format!("{count}, {worth}"),
        (KnownState::Stale, None) => format!("{count}, {worth}: it would be asked again"),
        (KnownState::Fresh | KnownState::Stale, Some(error)) => format!("{count}, {worth}; it {error}"),
        (KnownState::Negative, error) => format!("it {}, {worth}", error.unwrap_or_default()),
        (KnownState::Unasked, _) => "nothing is known of the node: it would be asked".to_owned(),
        (KnownState::Away, error) => format!("nothing is known of the node, and it {}", error.unwrap_or_default()),
    };
    let asking = if *asking { "; it is being asked" } else { "" };
    format!("  -- {who} asks {resolver} ({kind}): {known}{asking}")
}

fn candidate_text(number: usize, candidate: &CandidateView, route: Option<&RouteView>) -> Vec<String> {
    let CandidateView { upstream, why, address, known, open, connect_timeout, race_after, .. } = candidate;
    let mut lines = vec![format!("{number:>3}. {upstream}  {why}")];
    lines.push(format!("     {}", course(candidate, route)));
    lines.push(format!(
        "     {}",
        known.as_ref().map_or("healthy as far as is known: nobody has wanted it yet".into(), health)
    ));
    let how = how(candidate, route);
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

/// What leads there: a route with its name and place, the resolver that was asked.
fn course(candidate: &CandidateView, route: Option<&RouteView>) -> String {
    let name = |route: &RouteView| route.spec.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let course = match &candidate.pattern {
        Some(pattern) => {
            format!(
                "route {pattern}{}",
                route.map(|route| format!("{}, {}", name(route), origin(route))).unwrap_or_default()
            )
        }
        None => "discovery".to_owned(),
    };
    candidate.resolver.as_ref().map_or(course.clone(), |resolver| format!("{course}, by {resolver}"))
}

/// What is spoken, and from where.
fn how(candidate: &CandidateView, route: Option<&RouteView>) -> String {
    let mut how = tls(&candidate.tls);
    if how.is_empty() {
        "plain TCP".clone_into(&mut how);
    }
    if let Some(name) = &candidate.certified {
        how += &format!(" as {name}");
    }
    if let Some(source) = route.and_then(|route| route.spec.source.as_ref()) {
        how += &format!(" from {source}");
    }
    if let Some(version) = route.and_then(|route| route.spec.proxy_protocol.as_ref()) {
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
