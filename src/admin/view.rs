//! The shapes that the admin API, the commands and the journal share.

mod forward;
mod live;
mod resolve;
mod shared;

use std::path::{Path, absolute};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use forward::{ForwardList, ForwardView, LeaseTimeView};
pub use live::{
    CandidateView, ClientView, CloseView, ClosedView, ExplainView, FailureView, OpenView, RelayPage, RelayView,
    StateView, UpstreamPage, UpstreamView,
};

pub use resolve::{
    AnswerPage, AnswerView, FlushedView, KnownState, KnownView, QuestionView, ResolvedView, ResolverList,
    ResolverState, ResolverView, StepView, TargetView,
};
pub use shared::{PushedView, RefusedView, SharedView};

use crate::config::{Place, Problem, visible};
use crate::route::{Origin, Reach, Route, Timeout, TlsPolicy};

/// A route as it may be written: the keys of `[[route]]`, with every default filled in and every path absolute.
/// What this says, a routes file says in the same words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// The pattern, the route's key.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Strict order, highest first.
    pub weight: i64,
    /// Each as `host:port`, an IPv6 address as `[address]:port`; of a route that asks a resolver with or without port,
    /// in place of the answers' hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<String>,
    /// In place of the answers' ports; only of a route that asks a resolver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The resolver that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// TLS to the upstream; left out for plain TCP, and where a resolver's answer has the word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// A duration such as `1500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<String>,
    /// A duration, or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub race_after: Option<String>,
    /// An address or an interface to dial from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<String>,
    /// The most requests and relays that are open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_relays: Option<usize>,
    /// A duration, or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// A duration, or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<String>,
    /// When it matches, the static routes are all that is tried.
    #[serde(default, rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// A short name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `tls` of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TlsSpec {
    /// `false` is plain TCP, `true` the policy without any key.
    Switch(bool),
    /// What is trusted.
    Policy(TlsPolicySpec),
}

/// The keys of a `tls` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsPolicySpec {
    /// A path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// A path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A DNS name or an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Each in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pin_sha256: Vec<String>,
    /// Neither chain nor name is verified.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// A route of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// What it says.
    #[serde(flatten)]
    pub spec: RouteSpec,
    /// Where it comes from.
    pub origin: OriginView,
}

/// A route that was added: `POST /v1/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedView {
    /// The route.
    #[serde(flatten)]
    pub route: RouteView,
    /// The table that has it.
    pub generation: u64,
    /// What somebody should look at all the same.
    pub warnings: Vec<ProblemView>,
}

/// Where a route comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OriginView {
    /// A routes file.
    File {
        /// The file, as the configuration names it.
        file: String,
        /// The line of its pattern, counted from 1.
        line: u32,
    },
    /// A table that a fleet shares.
    Shared {
        /// The table, as the configuration names it: `etcd:NAME`.
        table: String,
        /// Its key, if it was written by hand; null for a route that was pushed.
        key: Option<String>,
    },
    /// An edit at run time.
    Edit {
        /// When it was made (RFC 3339, UTC).
        edit: String,
    },
}

/// What a node would get: `portolan lookup` and `GET /v1/lookup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupView {
    /// The node.
    pub node: String,
    /// The routes that match, in the order in which they are tried.
    pub routes: Vec<RouteView>,
    /// The routes of files that match and were removed at run time.
    pub removed: Vec<RouteView>,
    /// Whether there are more of them than are listed; left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What resolvers were asked, and what came of it; only by `portolan lookup --resolve`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<ResolvedView>,
}

/// A page of the table: `GET /v1/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePage {
    /// The table that it is of.
    pub generation: u64,
    /// Routes, in the order in which they are tried.
    pub routes: Vec<RouteView>,
    /// What to ask for the next page with, as `after`; null on the last one.
    pub next: Option<String>,
}

/// The table as a whole: `GET /v1/table`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableView {
    /// Counts the tables that were in force; the first is 1.
    pub generation: u64,
    /// Routes in force.
    pub routes: usize,
    /// Routes of files that were removed at run time.
    pub removed: usize,
    /// Routes in force that were added at run time.
    pub added: usize,
    /// `portolan.toml`, as an absolute path.
    pub config: String,
    /// What each file gave, in the order of the table.
    pub files: Vec<FileView>,
    /// The table that a fleet shares, if `routes` names one.
    pub shared: Option<SharedView>,
    /// Why the last reload changed nothing, if it did not.
    pub refused: Option<String>,
}

/// What a routes file gave to the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// The file, as the configuration names it.
    pub file: String,
    /// The same as an absolute path.
    pub path: String,
    /// Its routes, those removed at run time among them.
    pub routes: usize,
    /// Its routes that are disabled.
    pub disabled: usize,
}

/// What a reload or an edit changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// The table in force.
    pub generation: u64,
    /// How many routes it has.
    pub routes: usize,
    /// Routes that are new in it.
    pub added: usize,
    /// Routes that are gone.
    pub removed: usize,
    /// Routes that say something else than before, or stand behind another of their weight that was behind them.
    pub changed: usize,
    /// What somebody should look at all the same.
    pub warnings: Vec<ProblemView>,
}

/// What a reload would change: `portolan diff`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffView {
    /// Routes that would be new, in the order in which they would be tried.
    pub added: Vec<RouteView>,
    /// Routes that would be gone.
    pub removed: Vec<RouteView>,
    /// Routes that would say something else.
    pub changed: Vec<ChangedRoute>,
    /// Live relays whose route would be gone. They go on.
    pub relays: Vec<StrandedRelay>,
}

/// A route that would say something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRoute {
    /// As it is in force.
    pub before: RouteView,
    /// As the files have it.
    pub after: RouteView,
}

/// A live relay whose route would be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrandedRelay {
    /// The relay.
    #[serde(flatten)]
    pub relay: RelayView,
    /// The pattern of the route that would be the first for its node; null if there were none.
    pub then: Option<String>,
}

/// Why the admin API refuses: an `application/problem+json` (RFC 9457) of the type `about:blank`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// The reason phrase of the status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs tell errors apart by: `taken`, `unknown`, `no_route`, `invalid`, ...
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// What is wrong with what was written, for `invalid`; left out if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemView>,
}

/// One thing that a person should change, in what was written: a line of `portolan check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// `error` or `warning`.
    pub severity: String,
    /// The file; null when it concerns none.
    pub file: Option<String>,
    /// From 1; null for a whole file.
    pub line: Option<u32>,
    /// In characters, from 1; null for a whole file.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// All of it as a person reads it, with the line and a caret.
    pub rendered: String,
}

impl RouteSpec {
    /// What a route says.
    pub fn of(route: &Route) -> Self {
        let settings = route.settings();
        let timeout = |timeout: Option<Timeout>| timeout.map(|timeout| timeout.to_string());
        Self {
            pattern: route.pattern.as_str().to_owned(),
            weight: route.weight,
            host: hosts(&route.reach),
            port: route.reach.asked().and_then(|asked| asked.port),
            resolver: route.reach.asked().map(|asked| asked.resolver.to_string()),
            tls: match &route.tls {
                Some(policy) => Some(TlsSpec::of(policy)),
                None => route.reach.asked().filter(|asked| asked.is_plain).map(|_| TlsSpec::Switch(false)),
            },
            connect_timeout: timeout(settings.connect_timeout.map(Timeout::After)),
            race_after: timeout(settings.race_after),
            source: settings.source.as_ref().map(ToString::to_string),
            proxy_protocol: settings.proxy_protocol.then(|| "v2".to_owned()),
            max_relays: settings.max_relays,
            idle_timeout: timeout(settings.idle_timeout),
            keepalive: timeout(settings.keepalive),
            is_final: route.is_final,
            name: route.name.as_deref().map(str::to_owned),
            description: route.description.as_deref().map(str::to_owned),
        }
    }
}

fn hosts(reach: &Reach) -> Vec<String> {
    match reach {
        Reach::Static(upstreams) => upstreams.iter().map(ToString::to_string).collect(),
        Reach::Asked(asked) => asked.hosts.iter().map(ToString::to_string).collect(),
    }
}

impl TlsSpec {
    /// How TLS is spoken to an upstream; `None` is plain TCP.
    pub fn of_upstream(policy: Option<&TlsPolicy>) -> Self {
        policy.map_or(Self::Switch(false), Self::of)
    }

    fn of(policy: &TlsPolicy) -> Self {
        if *policy == TlsPolicy::default() {
            return Self::Switch(true);
        }
        // Without a working folder a path stays as it is.
        let path = |path: &Path| absolute(path).as_deref().unwrap_or(path).to_string_lossy().into_owned();
        Self::Policy(TlsPolicySpec {
            ca: policy.ca.as_deref().map(path),
            cert: policy.identity.as_ref().map(|identity| path(&identity.cert)),
            key: policy.identity.as_ref().map(|identity| path(&identity.key)),
            server_name: policy.server_name.clone(),
            pin_sha256: policy.pins.iter().map(|pin| STANDARD.encode(pin)).collect(),
            insecure_skip_verify: policy.insecure_skip_verify,
        })
    }
}

impl Default for TlsSpec {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl RouteView {
    /// A route and where it comes from.
    pub fn of(route: &Route) -> Self {
        let origin = match &route.origin {
            Origin::File { file, line } => OriginView::File { file: file.to_string_lossy().into_owned(), line: *line },
            Origin::Shared(shared) => {
                let (table, key) = (shared.table.to_string(), shared.key.as_deref().map(str::to_owned));
                OriginView::Shared { table, key }
            }
            Origin::Edit { at } => OriginView::Edit { edit: humantime::format_rfc3339_seconds(*at).to_string() },
        };
        Self { spec: RouteSpec::of(route), origin }
    }
}

impl ProblemView {
    /// A problem, as it is said to a program.
    pub fn of(problem: &Problem) -> Self {
        let position = problem.place.as_ref().and_then(Place::position);
        Self {
            severity: problem.severity.as_str().to_owned(),
            file: problem.place.as_ref().map(|place| place.file().to_string_lossy().into_owned()),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            message: visible(&problem.message).into_owned(),
            help: problem.help.as_deref().map(|help| visible(help).into_owned()),
            rendered: problem.render(false),
        }
    }
}
