//! The body of a refusal (RFC 9457), in the one shape that the daemon writes and the commands read.

use serde::{Deserialize, Serialize};

use super::field::clipped;
use crate::close::Refused;
use crate::dial::Attempt;
use crate::node::NodeName;

/// Why a request was refused: an `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The reason phrase of the status, because the problem's type is `about:blank`.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs tell problems apart by: `no_route`, `all_failed`, ...
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// The node that was asked for; `null` if the head did not come so far.
    pub node: Option<String>,
    /// The failed attempts in the order in which they were made, at most [`Problem::MAX_ATTEMPTS`].
    #[serde(default)]
    pub attempts: Vec<FailedAttempt>,
    /// How many attempts were made beyond those; left out if none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_attempts: usize,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// The pattern of the route that it was made for; null for discovery.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// The resolver that was asked; left out if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// The node that it was to reach.
    pub node: Option<String>,
    /// The address that was dialed.
    pub address: String,
    /// How far it came: `resolve`, `limit`, `dns`, `tcp`, `tls`.
    pub stage: String,
    /// Why it came no further.
    pub error: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl Problem {
    /// The most attempts that a body lists.
    pub const MAX_ATTEMPTS: usize = 32;

    /// The longest text of an attempt, in bytes: with the number of attempts it bounds the body.
    const MAX_TEXT: usize = 512;

    /// The problem that a refusal is told as; `title` is the reason phrase of its status.
    pub(super) fn of(node: Option<&NodeName>, refused: &Refused, title: &str) -> Self {
        let outcome = refused.outcome();
        let attempts = refused.attempts();
        let listed = attempts.iter().take(Self::MAX_ATTEMPTS);
        Self {
            title: title.to_owned(),
            status: outcome.status,
            code: outcome.code.to_owned(),
            detail: clipped(&refused.detail(), Self::MAX_TEXT),
            node: node.map(NodeName::to_string),
            attempts: listed.map(|attempt| FailedAttempt::of(node, attempt)).collect(),
            more_attempts: attempts.len().saturating_sub(Self::MAX_ATTEMPTS),
        }
    }
}

impl FailedAttempt {
    fn of(node: Option<&NodeName>, attempt: &Attempt) -> Self {
        Self {
            pattern: attempt.course.pattern().map(|pattern| clipped(pattern, Problem::MAX_TEXT)),
            resolver: attempt.course.resolver().map(str::to_owned),
            node: node.map(NodeName::to_string),
            address: clipped(&attempt.address, Problem::MAX_TEXT),
            stage: attempt.stage.as_str().to_owned(),
            error: clipped(&attempt.error.to_string(), Problem::MAX_TEXT),
            ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
