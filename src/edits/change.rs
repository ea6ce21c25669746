//! One edit of the table at run time: a new table beside the old one, and the edit on disk before it is in force.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::{EditError, Edits};
use crate::admin::view::{ProblemView, RouteSpec};
use crate::config::{self, Context, Problems};
use crate::control::Refusal;
use crate::plan::Snapshot;
use crate::route::{Origin, Route, Row};

/// What an edit leads to.
#[derive(Debug)]
pub struct Edited {
    /// What is to be in force.
    pub snapshot: Snapshot,
    /// The route that was added or removed.
    pub row: Option<Arc<Row<Route>>>,
    /// What somebody should look at all the same.
    pub warnings: Vec<ProblemView>,
}

/// Adds a route, an object with the keys of `[[route]]`. Blocks on the disk.
pub fn add(old: &Snapshot, edits: &mut Edits, json: &Value) -> Result<Edited, Refusal> {
    let at = SystemTime::now();
    let (mut problems, what) = (Problems::default(), "request".as_ref());
    // Most routes have no TLS, and a table may have many policies.
    let mut trusts = json.get("tls").map(|_| old.trusts.extended());
    let resolvers = Some(old.resolvers.iter().map(|resolver| Arc::clone(resolver.name())).collect());
    let context = Context { trusts: trusts.as_mut(), resolvers };
    let route = config::read_spec(what, json, Origin::Edit { at }, context, &mut problems);
    if let Some(route) = &route {
        config::lint_edit(route, None, &mut problems);
    }
    let said: Vec<_> = problems.iter().map(ProblemView::of).collect();
    let Some(route) = route else { return Err(Refusal::Invalid(said)) };

    let mut table = old.table.clone();
    let row = table.add(route)?;
    edits.add(RouteSpec::of(&row), at).map_err(refusal)?;
    let mut snapshot = Snapshot { table, ..old.next() };
    if let Some(trusts) = trusts {
        snapshot.trust(trusts);
    }
    Ok(Edited { snapshot, row: Some(row), warnings: said })
}

/// Takes the route with this pattern out: a file's is hidden from now on, an edit is undone. Blocks on the disk.
pub fn remove(old: &Snapshot, edits: &mut Edits, pattern: &str) -> Result<Edited, Refusal> {
    let (mut table, mut removed) = (old.table.clone(), old.removed.clone());
    // Without one there may be an edit that is not in force, because it could not be read.
    let row = table.remove(pattern).ok();
    edits.remove(pattern, row.as_deref().map(|row| &**row), SystemTime::now()).map_err(refusal)?;
    if let Some(row) = row.as_deref().filter(|row| row.origin.is_written()) {
        // Nothing is hidden twice: what is in force is not hidden.
        drop(removed.add(Route::clone(row)));
    }
    Ok(Edited { snapshot: Snapshot { table, removed, ..old.next() }, row, warnings: Vec::new() })
}

fn refusal(error: EditError) -> Refusal {
    match error {
        EditError::Unknown(_) => Refusal::Unknown,
        EditError::Journal(error) => Refusal::Unkept(error.to_string()),
    }
}
