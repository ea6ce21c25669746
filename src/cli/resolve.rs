//! What `portolan lookup --resolve` asks: the questions of a request, put one after the other by this process.

use std::io;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::resolvers::answer;
use super::upstreams::tls;
use crate::admin::view::{AnswerView, ResolvedView, StepView, TargetView};
use crate::close::millis;
use crate::config::{Config, plural};
use crate::node::NodeName;
use crate::plan::Found;
use crate::resolve::{Asked, Discovery, Home, Override, Resolver, Resolvers};
use crate::route::RouteTable;

/// The resolvers of a configuration, and the runtime on which they ask.
pub(super) struct Resolving {
    runtime: Runtime,
    resolvers: Resolvers,
    discovery: Option<Discovery>,
}

impl Resolving {
    /// Nothing is asked yet.
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let resolvers = Resolvers::following(None, &config.resolvers, &Home::on(runtime.handle().clone()));
        let discovery = config.discovery.as_ref().and_then(|discovery| {
            let resolver = Arc::clone(resolvers.get(&discovery.resolver)?);
            Some(Discovery { resolver, after_static_failure: discovery.after_static_failure })
        });
        Ok(Self { runtime, resolvers, discovery })
    }

    /// Asks everything that a request for this node would ask if nothing could be dialed, in this order.
    pub(super) fn resolve(&self, table: &RouteTable, node: &NodeName) -> Vec<ResolvedView> {
        let (mut resolved, mut found) = (Vec::new(), Found::default());
        for route in table.routes_for(node).into_iter().flatten() {
            found.note(route);
            let Some(asked) = route.reach.asked() else { continue };
            let Some(resolver) = self.resolvers.get(&asked.resolver) else { continue };
            let over = Override::of(asked, route.tls.as_ref());
            resolved.push(self.ask(StepView::Static, Some(route.pattern.as_str()), resolver, node, over));
        }
        if let Some(discovery) = self.discovery.as_ref().filter(|discovery| found.lets_discover(discovery)) {
            let over = Override::of_discovery(found.tls.as_ref());
            resolved.push(self.ask(StepView::Discovery, None, &discovery.resolver, node, over));
        }
        resolved
    }

    fn ask(
        &self,
        step: StepView,
        pattern: Option<&str>,
        resolver: &Arc<Resolver>,
        node: &NodeName,
        over: Override<'_>,
    ) -> ResolvedView {
        let began = Instant::now();
        let outcome = match resolver.ask(node) {
            Asked::Now(outcome) => outcome,
            Asked::Later(waiting) => self.runtime.block_on(waiting),
        };
        let took = began.elapsed();
        let targets = outcome.as_ref().map_err(Clone::clone);
        let targets = targets.and_then(|answers| over.apply(answers, resolver.answer_tls()));
        ResolvedView {
            step,
            pattern: pattern.map(str::to_owned),
            resolver: resolver.name().to_string(),
            kind: resolver.kind().to_owned(),
            ms: millis(took),
            answers: outcome.iter().flat_map(|answers| answers.iter()).map(AnswerView::of).collect(),
            error: targets.as_ref().err().map(ToString::to_string),
            upstreams: targets.iter().flatten().map(TargetView::of).collect(),
        }
    }
}

/// A question and what came of it, line by line.
pub(super) fn text(resolved: &ResolvedView) -> impl Iterator<Item = String> {
    let ResolvedView { step: _, pattern, resolver, kind, ms, answers, error, upstreams } = resolved;
    let who = pattern.as_ref().map_or("discovery".to_owned(), |pattern| format!("route {pattern}"));
    let error = error.as_ref().map(|error| format!("; it {error}")).unwrap_or_default();
    let head = format!("  -- {who} asks {resolver} ({kind}): {} in {ms} ms{error}", plural(answers.len(), "answer"));
    let answers = answers.iter().map(|view| format!("     answer {}", answer(view)));
    let upstreams = upstreams.iter().map(|TargetView { upstream, tls: spec, certified }| {
        let tls = Some(tls(spec)).filter(|tls| !tls.is_empty()).unwrap_or_else(|| "plain TCP".to_owned());
        let certified = certified.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
        format!("     dials {upstream}, {tls}{certified}")
    });
    std::iter::once(head).chain(answers).chain(upstreams).collect::<Vec<_>>().into_iter()
}
