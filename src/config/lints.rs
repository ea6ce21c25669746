//! What is allowed in a table and is probably not meant, as warnings with their places.

use std::ops::Range;
use std::sync::Arc;

use super::load::LoadedRoutes;
use super::problem::{Place, Problem, Problems};
use super::section::brief;
use super::socket::Scope;
use super::source::Source;
use crate::route::{Entry, Finding, Origin, Route, RouteTable, findings, oddities};

impl LoadedRoutes {
    /// Warns of what is probably not meant; of routes that `before` has as they are, somebody was told then.
    pub fn lint(&self, before: Option<&RouteTable>, scope: Scope, problems: &mut Problems) {
        for finding in findings(&self.table, |route| is_new(route, before), scope == Scope::Machine) {
            problems.push(self.problem(&finding));
        }
    }

    fn problem(&self, finding: &Finding<'_>) -> Problem {
        let mut problem = problem(finding);
        problem.place = self.place(&finding.route.origin);
        if let Some((place, label)) = finding.other.and_then(|(other, label)| Some((self.place(&other.origin)?, label)))
        {
            problem = problem.related(place, label);
        }
        problem
    }

    /// The line of a route's pattern: its column is not kept for a million of them.
    fn place(&self, origin: &Origin) -> Option<Place> {
        let Origin::File { file, line } = origin else { return None };
        let source: &Arc<Source> = self.sources.iter().find(|source| source.path() == file)?;
        let (text, start) = source.line_at(*line);
        let indent = text.len() - text.trim_start().len();
        let span: Range<usize> = start + indent..start + text.trim_end().len();
        Some(Place::new(source, span))
    }
}

/// The same of an edit at run time. What it is beside the other routes is not looked at: that takes a look at them all,
/// and an edit is to cost as much in any table.
pub fn lint_edit(route: &Route, before: Option<&RouteTable>, problems: &mut Problems) {
    if is_new(route, before) {
        problems.extend(oddities(route, true).map(|finding| problem(&finding)));
    }
}

fn is_new(route: &Route, before: Option<&RouteTable>) -> bool {
    let known = before.and_then(|before| before.get(route.key()));
    !known.is_some_and(|known| known.means_the_same(route))
}

/// Without its place.
fn problem(finding: &Finding<'_>) -> Problem {
    let pattern = brief(finding.route.pattern.as_str());
    Problem::warning(format!("`{pattern}`: {}", finding.message)).help(finding.help)
}
