//! The files become a configuration and a snapshot, or a list of everything that is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{error, warn};

use crate::admin::view::RouteSpec;
use crate::config::{self, Config, LoadedRoutes, Problem, Problems, RoutesEntry, Scope, Severity};
use crate::dial::Trusts;
use crate::edits::{Ended, Layer};
use crate::plan::Snapshot;
use crate::route::{Route, RouteTable};
use crate::watch::Print;

/// What the files say, ready to be in force.
#[derive(Debug)]
pub struct Loaded {
    /// `portolan.toml`.
    pub config: Config,
    /// The routes, with what the files of their TLS policies hold.
    pub snapshot: Snapshot,
}

/// What came of reading the files.
#[derive(Debug)]
pub struct Outcome {
    /// What they say; `None` if there is an error among the problems.
    pub loaded: Option<Loaded>,
    /// Errors and warnings, all of them.
    pub problems: Problems,
    /// Every file that was read or missed, and every pattern of names, with what it was before: a change of any of them
    /// is worth another try.
    pub files: Vec<(PathBuf, Print)>,
    /// The edits at run time that the files have ended.
    pub ended: Vec<Ended>,
}

/// Reads everything. `previous` is what is in force: its trusts stand in for files that have gone bad since, and what its
/// routes have open is counted on. What is odd about a route is not said again if `told` has it as it is. `edits` are the
/// edits at run time that lie over the files.
pub fn load(
    path: &Path,
    previous: Option<&Snapshot>,
    told: Option<&RouteTable>,
    edits: impl FnOnce(&Config) -> Layer,
) -> Outcome {
    let (mut problems, mut ended) = (Problems::default(), Vec::new());
    let mut files = vec![with_print(path)];
    let mut trusts = Trusts::new(previous.map(|previous| &*previous.trusts));
    let loaded = config::read_config(path, Scope::Machine, &mut problems).and_then(|config| {
        files.extend(config.routes.iter().filter_map(glob_with_print));
        let routes_files = config::routes_files(&config.routes, &mut problems)?;
        files.extend(routes_files.iter().map(|file| with_print(file)));
        let routes = config::load_routes(&routes_files, Some(&mut trusts), &mut problems);
        if let Some(routes) = &routes {
            routes.lint(told, Scope::Machine, &mut problems);
        }
        let applied = routes.map(|LoadedRoutes { table, files, .. }| {
            let applied = edits(&config).apply(table, |spec, at| read_edit(spec, at, told, &mut trusts, &mut problems));
            (applied, files)
        });
        files.extend(trusts.files().map(|(file, print)| (file.to_owned(), print.clone())));
        let (applied, files) = applied?;
        ended = applied.ended;
        let (table, removed, trusts) = (applied.table, applied.removed, Arc::new(trusts));
        let slots = previous.map(|previous| Arc::clone(&previous.slots)).unwrap_or_default();
        Some(Loaded { config, snapshot: Snapshot { generation: 1, table, removed, files, trusts, slots } })
    });
    Outcome { loaded: loaded.filter(|_| !problems.has_errors()), problems, files, ended }
}

/// One edit that cannot be read any more, because its files are gone, does not hold up the rest.
fn read_edit(
    spec: &RouteSpec,
    at: SystemTime,
    told: Option<&RouteTable>,
    trusts: &mut Trusts,
    problems: &mut Problems,
) -> Option<Route> {
    let mut own = Problems::default();
    let route = config::read_edit(spec, at, Some(trusts), &mut own);
    if let Some(route) = &route {
        problems.extend(own.iter().cloned());
        config::lint_edit(route, told, problems);
    } else {
        let message = format!("a route that was added at run time is left out: {}", own.first_error());
        let help = format!("put it right, or `portolan routes remove '{}'`", spec.pattern);
        problems.push(Problem::warning(message).help(help));
    }
    route
}

fn with_print(file: &Path) -> (PathBuf, Print) {
    (file.to_owned(), Print::of(file))
}

fn glob_with_print(entry: &RoutesEntry) -> Option<(PathBuf, Print)> {
    match entry {
        RoutesEntry::File(_) => None,
        RoutesEntry::Glob(glob) => Some((glob.path(), Print::of_glob(glob))),
    }
}

/// Writes every problem into the log, with its place, its line and a caret.
pub fn log_problems(problems: &Problems) {
    for problem in problems.iter() {
        let text = problem.render(false);
        let text = text.trim_end();
        match problem.severity {
            Severity::Error => error!("{text}"),
            Severity::Warning => warn!("{text}"),
        }
    }
}
