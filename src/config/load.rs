//! The files together: a configuration and a table, or every reason why not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::daemon_file;
use super::document::open;
use super::problem::{Place, Problem, Problems};
use super::routes_file::{Kind, read_routes};
use super::section::brief;
use super::settings::Config;
use super::socket::Scope;
use super::source::Source;
use super::tls::Policies;
use crate::dial::Trusts;
use crate::route::{Route, RouteTable};

/// A table, and what each file gave to it.
#[derive(Debug)]
pub struct LoadedRoutes {
    /// The table.
    pub table: RouteTable,
    /// The files, in the order of the table.
    pub files: Vec<FileCount>,
}

/// What a file gave to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCount {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// Its routes in the table.
    pub routes: usize,
    /// Its routes that are disabled.
    pub disabled: usize,
}

/// Loads `portolan.toml` and the routes files that it names, all of them even when the first has problems. `None` when
/// one of them is refused; `problems` says why, and holds warnings in any case.
pub fn load(
    path: &Path,
    scope: Scope,
    trusts: Option<&mut Trusts>,
    problems: &mut Problems,
) -> Option<(Config, LoadedRoutes)> {
    let errors = problems.errors();
    let config = read_config(path, scope, problems)?;
    let routes = load_routes(&config.routes, trusts, problems);
    routes.filter(|_| problems.errors() == errors).map(|routes| (config, routes))
}

/// Reads `portolan.toml` as far as it can be made out: where there was a problem stands the default, and `None` when
/// there is nothing to read. For one who goes on to find more problems.
pub fn read_config(path: &Path, scope: Scope, problems: &mut Problems) -> Option<Config> {
    Some(daemon_file::read_config(&open(path, problems)?, scope, problems))
}

/// Loads `portolan.toml` alone.
pub fn load_config(path: &Path, scope: Scope, problems: &mut Problems) -> Option<Config> {
    let errors = problems.errors();
    read_config(path, scope, problems).filter(|_| problems.errors() == errors)
}

/// Loads routes files as one table, in this order. `trusts` opens the files that `tls` names; without it they are
/// not looked at. `None` when a file is refused.
pub fn load_routes(files: &[PathBuf], trusts: Option<&mut Trusts>, problems: &mut Problems) -> Option<LoadedRoutes> {
    let errors = problems.errors();
    let sources: Vec<_> = files.iter().filter_map(|file| open(file, problems)).collect();
    routes_of(&sources, trusts, problems).filter(|_| problems.errors() == errors)
}

/// What is wrong with a text, if it were the file `name`; no file is looked at.
pub fn check_text(kind: Kind, name: &Path, text: &str) -> Problems {
    let mut problems = Problems::default();
    let source = Source::new(name, text.to_owned());
    match kind {
        Kind::Daemon => drop(daemon_file::read_config(&source, Scope::Text, &mut problems)),
        Kind::Routes => drop(routes_of(&[source], None, &mut problems)),
    }
    problems
}

fn routes_of(sources: &[Arc<Source>], trusts: Option<&mut Trusts>, problems: &mut Problems) -> Option<LoadedRoutes> {
    let mut policies = Policies::new(trusts);
    let mut files = Vec::with_capacity(sources.len());
    let mut all = Vec::new();
    for source in sources {
        let read = read_routes(source, &mut policies, problems);
        let file = Arc::clone(source.path());
        files.push(FileCount { file, routes: read.routes.len(), disabled: read.disabled });
        all.extend(read.routes);
    }
    report_taken(&all, problems);
    let table = RouteTable::from_entries(all.into_iter().map(|(route, _)| route).collect());
    Some(LoadedRoutes { table: table.ok()?, files })
}

fn report_taken(routes: &[(Route, Place)], problems: &mut Problems) {
    let mut first_places: HashMap<&str, &Place> = HashMap::with_capacity(routes.len());
    for (route, place) in routes {
        let pattern = route.pattern.as_str();
        if let Some(first) = first_places.get(pattern) {
            let problem = Problem::error(format!("the pattern `{}` is taken", brief(pattern))).at(place.clone());
            let problem = problem.label("written again here").related((*first).clone(), "first written here");
            problems.push(problem.help("remove one of the two, or write their hosts as one array"));
        } else {
            first_places.insert(pattern, place);
        }
    }
}
