//! The shapes of resolvers: how they fare, what is known of nodes, what a plan asks.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{FailureView, TlsSpec};
use crate::close::millis;
use crate::resolve::{Answer, KnownAnswer, NoAnswer, Outcome, Peek, Resolver, State, Status, Target};

/// The resolvers of the configuration: `GET /v1/resolvers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverList {
    /// By name.
    pub resolvers: Vec<ResolverView>,
}

/// How a resolver fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverView {
    /// Its name in the configuration.
    pub name: String,
    /// What kind of service it asks.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether discovery asks it.
    pub default: bool,
    /// What its service did last.
    pub state: ResolverState,
    /// Since when that is so (RFC 3339, UTC); null if it was never asked.
    pub since: Option<String>,
    /// Questions that were begun.
    pub asked: u64,
    /// Questions that were answered.
    pub answered: u64,
    /// Questions that came to a "no such node".
    pub unknown: u64,
    /// Questions that failed.
    pub failed: u64,
    /// Questions under way.
    pub asking: usize,
    /// Of how many nodes something is known.
    pub names: usize,
    /// The age of the oldest answer that was served since its service went away, in milliseconds; null if none was.
    pub oldest_served_ms: Option<u64>,
    /// The last failure.
    pub last_error: Option<FailureView>,
}

/// What a resolver's service did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolverState {
    /// It was not asked yet.
    Idle,
    /// It said something.
    Up,
    /// It did not answer.
    Away,
}

/// A page of what a resolver knows: `GET /v1/resolvers/{name}/answers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerPage {
    /// Nodes, by name.
    pub answers: Vec<KnownView>,
    /// What to ask for the next page with, as `after`; null on the last one.
    pub next: Option<String>,
}

/// What a resolver knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownView {
    /// The node.
    pub node: String,
    /// What it is worth; never `unasked` or `away` here.
    pub state: KnownState,
    /// In the order in which they are tried.
    pub answers: Vec<AnswerView>,
    /// Why there are none; null if there are.
    pub error: Option<String>,
    /// How long ago that was said, in milliseconds.
    pub age_ms: u64,
    /// For how long it holds, in milliseconds; 0 for an old answer.
    pub left_ms: u64,
}

/// What is known of a node, and what that is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownState {
    /// Answers that hold: nothing is asked.
    Fresh,
    /// Old answers, which serve while there are no new ones.
    Stale,
    /// That there are none, and that holds: nothing is asked.
    Negative,
    /// Nothing: it would be asked for.
    Unasked,
    /// Nothing, and the service is away.
    Away,
}

/// One place where a node may be reached, as a service says it; what it does not say is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerView {
    /// An address or a name.
    pub host: String,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether TLS is spoken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// The name that its certificate must bear, where that is not the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<String>,
    /// The version of its handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<String>,
    /// The version of its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
}

/// How much was forgotten: `POST /v1/resolvers/{name}/flush`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushedView {
    /// Of how many nodes something was known.
    pub flushed: usize,
}

/// A step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepView {
    /// The routes of the table.
    Static,
    /// The default resolver.
    Discovery,
}

/// A question that a request would put, as far as it is not answered already: a part of `GET /v1/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionView {
    /// The step that it belongs to.
    pub step: StepView,
    /// The pattern of the route that asks; null for discovery.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// The resolver.
    pub resolver: String,
    /// What kind of service it asks.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many of the candidates stand before it.
    pub before: usize,
    /// What is known.
    pub state: KnownState,
    /// Whether it is being asked for just now.
    pub asking: bool,
    /// What was answered, in its order.
    pub answers: Vec<AnswerView>,
    /// Why there are no answers, or no new ones; null otherwise.
    pub error: Option<String>,
    /// How long ago that was said, in milliseconds; null if nothing is known.
    pub age_ms: Option<u64>,
    /// For how long it holds, in milliseconds; null if nothing is known.
    pub left_ms: Option<u64>,
}

/// A question that was put, and what came of it: `portolan lookup --resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedView {
    /// The step that it belongs to.
    pub step: StepView,
    /// The pattern of the route that asks; null for discovery.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// The resolver.
    pub resolver: String,
    /// What kind of service it asks.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What was answered, in its order.
    pub answers: Vec<AnswerView>,
    /// Why that leads nowhere; null if it leads somewhere.
    pub error: Option<String>,
    /// Where it leads with what the route says in its place, in the order in which that is tried.
    pub upstreams: Vec<TargetView>,
}

/// Where an answer leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetView {
    /// Host and port.
    pub upstream: String,
    /// How TLS is spoken to it.
    pub tls: TlsSpec,
    /// The name that its certificate must bear, where that is not the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<String>,
}

impl ResolverView {
    /// How a resolver fares now.
    pub fn of(resolver: &Resolver, is_default: bool) -> Self {
        let Status { kind, state, lasts, asked, answered, unknown, failed, asking, last_error, names, oldest_served } =
            resolver.status();
        Self {
            name: resolver.name().to_string(),
            kind: kind.to_owned(),
            default: is_default,
            state: match state {
                State::Idle => ResolverState::Idle,
                State::Up => ResolverState::Up,
                State::Away => ResolverState::Away,
            },
            since: lasts.map(ago),
            asked,
            answered,
            unknown,
            failed,
            asking,
            names,
            oldest_served_ms: oldest_served.map(millis),
            last_error: last_error.map(|(error, when)| FailureView { error: error.to_string(), at: ago(when) }),
        }
    }
}

impl KnownView {
    /// What is known.
    pub fn of(known: &KnownAnswer) -> Self {
        Self {
            node: known.node.to_string(),
            state: KnownState::of(known),
            answers: answers(&known.outcome),
            error: known.outcome.as_ref().err().map(NoAnswer::to_string),
            age_ms: millis(known.age),
            left_ms: millis(known.left),
        }
    }
}

impl KnownState {
    fn of(known: &KnownAnswer) -> Self {
        match &known.outcome {
            Ok(_) if known.left.is_zero() => Self::Stale,
            Ok(_) => Self::Fresh,
            Err(_) => Self::Negative,
        }
    }
}

impl QuestionView {
    /// What is known of what would be asked.
    pub fn of(step: StepView, pattern: Option<&str>, resolver: &Resolver, peek: &Peek, before: usize) -> Self {
        let Peek { known, is_asking, away } = peek;
        let unknown = if away.is_some() { KnownState::Away } else { KnownState::Unasked };
        let away = away.clone().map(|away| NoAnswer::from(away).to_string());
        let error = known.as_ref().and_then(|known| known.outcome.as_ref().err()).map(NoAnswer::to_string);
        Self {
            step,
            pattern: pattern.map(str::to_owned),
            resolver: resolver.name().to_string(),
            kind: resolver.kind().to_owned(),
            before,
            state: known.as_ref().map_or(unknown, KnownState::of),
            asking: *is_asking,
            answers: known.as_ref().map(|known| answers(&known.outcome)).unwrap_or_default(),
            error: error.or(away),
            age_ms: known.as_ref().map(|known| millis(known.age)),
            left_ms: known.as_ref().map(|known| millis(known.left)),
        }
    }
}

impl AnswerView {
    /// One answer.
    pub fn of(answer: &Answer) -> Self {
        let Answer { host, certified, port, tls, handshake, proto } = answer;
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        Self {
            host: host.to_string(),
            port: *port,
            tls: *tls,
            certified: text(certified),
            handshake: text(handshake),
            proto: text(proto),
        }
    }
}

impl TargetView {
    /// Where an answer leads.
    pub fn of(target: &Target) -> Self {
        Self {
            upstream: target.upstream.to_string(),
            tls: TlsSpec::of_upstream(target.tls.as_deref()),
            certified: target.certified.as_deref().map(str::to_owned),
        }
    }
}

fn answers(outcome: &Outcome) -> Vec<AnswerView> {
    outcome.iter().flat_map(|answers| answers.iter()).map(AnswerView::of).collect()
}

/// The point in time that is so long ago.
fn ago(time: Duration) -> String {
    let at = SystemTime::now().checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(at).to_string()
}
