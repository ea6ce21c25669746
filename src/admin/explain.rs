//! The plan for a node, without its side effects: nothing is asked, looked up, dialed or probed, and no upstream is noted
//! as wanted. It reads what [`crate::plan::Plan`] reads, and puts it into the same order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Error;
use super::read::{MAX_MATCHES, matches};
use super::view::{CandidateView, ExplainView, OpenView, QuestionView, RouteView, StepView, TlsSpec, UpstreamView};
use crate::config::DialConfig;
use crate::daemon::Daemon;
use crate::dial::Health;
use crate::node::NodeName;
use crate::plan::{Course, Found, Snapshot};
use crate::resolve::{NoAnswer, Override, Peek, Resolver, Target};
use crate::route::{Host, Origin, Reach, Route, Row, Timeout};

/// What a request for this node would do now.
pub(super) fn explain(daemon: &Daemon, snapshot: &Snapshot, node: &NodeName) -> Result<ExplainView, Error> {
    let (removed, more_removed) = matches(&snapshot.removed, node);
    let mut matching = snapshot.table.routes_for(node).into_iter().flatten();
    let routes: Vec<&Arc<Row<Route>>> = matching.by_ref().take(MAX_MATCHES).collect();
    if routes.is_empty() && snapshot.discovery.is_none() {
        return Err(Error::NoRoute(removed.len()));
    }
    let config = daemon.config();
    let mut draft = Draft::new(daemon, snapshot, node, config.dial.clone());
    let mut found = Found::default();
    for route in &routes {
        found.note(route);
        draft.route(route, &routes);
    }
    draft.end_step();
    let (then, because) = draft.discover(&found, routes.is_empty());
    let more = draft.more || more_removed || matching.next().is_some();
    Ok(ExplainView {
        node: node.to_string(),
        generation: snapshot.generation,
        routes: routes.iter().map(|route| RouteView::of(route)).collect(),
        candidates: draft.candidates,
        questions: draft.questions,
        removed: removed.into_iter().map(|route| route.spec.pattern).collect(),
        more,
        establish: duration(config.dial.establish),
        open: OpenView { now: daemon.admission.open(), limit: daemon.admission.limit() },
        then: then.to_owned(),
        because,
    })
}

/// A plan that is being put together.
struct Draft<'a> {
    daemon: &'a Daemon,
    snapshot: &'a Snapshot,
    node: &'a NodeName,
    dial: DialConfig,
    candidates: Vec<CandidateView>,
    /// The ejected ones of this step.
    behind: Vec<CandidateView>,
    questions: Vec<QuestionView>,
    /// Whether there are more candidates than are listed.
    more: bool,
}

/// What leads to upstreams, and how those stand to one another.
struct Lead<'a> {
    step: StepView,
    course: &'a Course,
    /// Why it stands where it stands.
    why: String,
    /// What one of its upstreams is called.
    each: &'static str,
}

impl<'a> Draft<'a> {
    fn new(daemon: &'a Daemon, snapshot: &'a Snapshot, node: &'a NodeName, dial: DialConfig) -> Self {
        let (candidates, behind, questions) = (Vec::new(), Vec::new(), Vec::new());
        Self { daemon, snapshot, node, dial, candidates, behind, questions, more: false }
    }

    /// A route in its place among all that match.
    fn route(&mut self, route: &Arc<Row<Route>>, all: &[&Arc<Row<Route>>]) {
        let course = &Course::Route(Arc::clone(route));
        let (step, why) = (StepView::Static, why(route, all));
        match &route.reach {
            Reach::Static(upstreams) => {
                let target =
                    |upstream: &_| Target { upstream: Clone::clone(upstream), tls: route.tls.clone(), certified: None };
                let targets = upstreams.iter().map(target).collect();
                self.lead(&Lead { step, course, why, each: "host" }, targets);
            }
            Reach::Asked(asked) => {
                // A table is not in force without the resolvers that it names.
                let Some(resolver) = self.snapshot.resolvers.get(&asked.resolver) else { return };
                let over = Override::of(asked, route.tls.as_ref());
                self.ask(&Lead { step, course, why, each: "answer" }, resolver, over);
            }
        }
    }

    /// What discovery would do, as what the request is refused when all has failed, and why nothing comes then.
    fn discover(&mut self, found: &Found, is_unmatched: bool) -> (&'static str, String) {
        const ALL_FAILED: &str = "all_failed";

        let Some(discovery) = &self.snapshot.discovery else {
            return (ALL_FAILED, "no discovery is configured".to_owned());
        };
        if !found.lets_discover(discovery) {
            let ends = if found.is_final {
                "a route that matches is final"
            } else {
                "discovery is not asked when a route matches (after_static_failure = false)"
            };
            return (ALL_FAILED, ends.to_owned());
        }
        let (resolver, course) = (&discovery.resolver, &Course::Discovery(Arc::clone(discovery)));
        let lead = Lead { step: StepView::Discovery, course, why: "discovery".to_owned(), each: "answer" };
        let peek = self.ask(&lead, resolver, Override::of_discovery(found.tls.as_ref()));
        self.end_step();
        match peek.known.map(|known| known.outcome) {
            Some(Err(NoAnswer::Unknown { .. })) if is_unmatched => {
                ("no_route", format!("no route matches, and {} knows no such node", resolver.name()))
            }
            _ => (ALL_FAILED, "nothing comes behind discovery".to_owned()),
        }
    }

    /// What is known of the answers that a question would bring.
    fn ask(&mut self, lead: &Lead<'_>, resolver: &Resolver, over: Override<'_>) -> Peek {
        let (peek, before) = (resolver.peek(self.node), self.candidates.len());
        let mut question = QuestionView::of(lead.step, lead.course.pattern(), resolver, &peek, before);
        if let Some(Ok(answers)) = peek.known.as_ref().map(|known| &known.outcome) {
            match over.apply(answers, resolver.answer_tls()) {
                Ok(targets) => self.lead(lead, targets),
                Err(error) => question.error = Some(error.to_string()),
            }
        }
        self.questions.push(question);
        peek
    }

    /// Upstreams in their order.
    fn lead(&mut self, lead: &Lead<'_>, targets: Vec<Target>) {
        let count = targets.len();
        for (number, target) in (1..).zip(targets) {
            if self.candidates.len() + self.behind.len() >= MAX_MATCHES {
                self.more = true;
                return;
            }
            let health = self.daemon.upstreams.state_of(&target.upstream, target.tls.as_deref());
            let mut why = lead.why.clone();
            if count > 1 {
                why += &format!(", {} {number} of {count}", lead.each);
            }
            if health.as_deref().is_some_and(Health::is_ejected) {
                why += "; ejected, and so behind those that are not";
                self.behind.push(self.candidate(lead, &target, health.as_deref(), why));
            } else {
                self.candidates.push(self.candidate(lead, &target, health.as_deref(), why));
            }
        }
    }

    fn candidate(&self, lead: &Lead<'_>, target: &Target, health: Option<&Health>, why: String) -> CandidateView {
        let (settings, pattern) = (lead.course.settings(), lead.course.pattern());
        let race_after = settings.race_after.map_or(self.dial.race_after, Timeout::duration);
        let address = match &target.upstream.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, target.upstream.port).to_string()),
            Host::Name(_) => None,
        };
        let open = pattern.filter(|_| settings.max_relays.is_some());
        CandidateView {
            step: lead.step,
            pattern: pattern.map(str::to_owned),
            resolver: lead.course.resolver().map(str::to_owned),
            upstream: target.upstream.to_string(),
            tls: TlsSpec::of_upstream(target.tls.as_deref()),
            certified: target.certified.as_deref().map(str::to_owned),
            why,
            address,
            known: health.map(UpstreamView::of),
            open: open.map(|pattern| self.snapshot.slots.open(pattern)),
            connect_timeout: duration(settings.connect_timeout.unwrap_or(self.dial.connect_timeout)),
            race_after: race_after.map_or_else(|| "never".to_owned(), duration),
        }
    }

    fn end_step(&mut self) {
        self.candidates.append(&mut self.behind);
    }
}

/// Why a route stands where it stands among all that match.
fn why(route: &Row<Route>, all: &[&Arc<Row<Route>>]) -> String {
    let has_equals = all.iter().filter(|other| other.weight == route.weight).count() > 1;
    let order = match route.origin {
        _ if !has_equals => "",
        Origin::File { .. } => ", in the order of the files",
        Origin::Shared(_) => ", behind the files' because it is of a shared table",
        Origin::Edit { .. } => ", behind the files' because it was added at run time",
    };
    format!("weight {}{order}", route.weight)
}

fn duration(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
