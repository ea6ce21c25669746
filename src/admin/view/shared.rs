//! The shapes of a table that a fleet shares.

use serde::{Deserialize, Serialize};

use crate::shared::Summary;

/// How the shared table stands here: a part of `GET /v1/table`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedView {
    /// The table, as the configuration names it: `etcd:NAME`.
    pub table: String,
    /// Whether every change is heard of.
    pub followed: bool,
    /// Since when that is so (RFC 3339, UTC).
    pub since: String,
    /// Why it is not followed.
    pub why: Option<String>,
    /// The revision of etcd that is in force; 0: the table was never read.
    pub revision: i64,
    /// The last push of what is in force; null where nothing was pushed.
    pub pushed: Option<PushedView>,
    /// Its routes; those that an edit hides are among them.
    pub routes: usize,
    /// Its routes that are not in force, because a file or another of its own has their pattern.
    pub shadowed: usize,
    /// What is refused, by key. The last good value of a key stays in force.
    pub refused: Vec<RefusedView>,
}

/// A push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedView {
    /// When (RFC 3339, UTC).
    pub at: String,
    /// Who: `user@host`.
    pub by: String,
}

/// A key of etcd whose value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The key.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

impl SharedView {
    /// As it is now.
    pub fn of(shared: &Summary) -> Self {
        let link = shared.link.state();
        let refused =
            |(key, why): &(String, std::sync::Arc<str>)| RefusedView { key: key.clone(), why: why.to_string() };
        Self {
            table: shared.table.to_string(),
            followed: link.is_up,
            since: humantime::format_rfc3339_seconds(link.since).to_string(),
            why: link.why,
            revision: shared.revision,
            pushed: shared.pushed.clone().map(|(at, by)| PushedView { at, by }),
            routes: shared.routes,
            shadowed: shared.shadowed,
            refused: shared.refused.iter().map(refused).collect(),
        }
    }
}
