//! The files together: a configuration and a table, or every reason why not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::Context;
use super::daemon_file;
use super::document::{open, open_in_place_of};
use super::problem::{Place, Problem, Problems};
use super::routes_file::Kind;
use super::routes_list::routes_files;
use super::routes_parts::read_routes;
use super::section::brief;
use super::settings::Config;
use super::socket::Scope;
use super::source::Source;
use super::tls::Policies;
use crate::dial::Trusts;
use crate::route::RouteTable;

/// A table, and what each file gave to it.
#[derive(Debug)]
pub struct LoadedRoutes {
    /// The table.
    pub table: RouteTable,
    /// The files, in the order of the table.
    pub files: Vec<FileCount>,
    /// Their texts.
    pub(super) sources: Vec<Arc<Source>>,
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
    let routes = routes_files(&config.routes, problems)
        .and_then(|files| load_routes(&files, Context { trusts, resolvers: Some(config.resolver_names()) }, problems));
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

/// Loads routes files as one table, in this order. `None` when a file is refused.
pub fn load_routes<'a>(
    files: &[PathBuf],
    context: impl Into<Context<'a>>,
    problems: &mut Problems,
) -> Option<LoadedRoutes> {
    let errors = problems.errors();
    let sources: Vec<_> = files.iter().filter_map(|file| open(file, problems)).collect();
    routes_of(sources, context.into(), problems).filter(|_| problems.errors() == errors)
}

/// Loads routes files, the second of each pair, as if each were the first. Certificates are not looked at.
pub fn load_routes_in_place_of(files: &[(PathBuf, PathBuf)], problems: &mut Problems) -> Option<LoadedRoutes> {
    let errors = problems.errors();
    let sources: Vec<_> = files.iter().filter_map(|(other, file)| open_in_place_of(other, file, problems)).collect();
    routes_of(sources, Context::default(), problems).filter(|_| problems.errors() == errors)
}

/// What is wrong with a text, if it were the file `name`; no file is looked at.
pub fn check_text(kind: Kind, name: &Path, text: &str) -> Problems {
    let mut problems = Problems::default();
    let source = Source::new(name, text.to_owned());
    match kind {
        Kind::Daemon => drop(daemon_file::read_config(&source, Scope::Text, &mut problems)),
        Kind::Routes => drop(routes_of(vec![source], Context::default(), &mut problems)),
    }
    problems
}

fn routes_of(sources: Vec<Arc<Source>>, context: Context<'_>, problems: &mut Problems) -> Option<LoadedRoutes> {
    let mut policies = Policies::new(context);
    let mut files = Vec::with_capacity(sources.len());
    let mut all = Vec::new();
    for source in &sources {
        let before = all.len();
        let disabled = read_routes(source, &mut policies, problems, &mut all, |route, _place| route);
        let routes = all.iter().skip(before).map(Vec::len).sum();
        files.push(FileCount { file: Arc::clone(source.path()), routes, disabled });
    }
    match RouteTable::from_parts(all) {
        Ok(table) => Some(LoadedRoutes { table, files, sources }),
        Err(_taken) => {
            report_taken(&sources, problems);
            None
        }
    }
}

/// The files are read again, and this time the place of each pattern is kept: a table without that mistake, which may
/// have a million routes, does without the places.
fn report_taken(sources: &[Arc<Source>], problems: &mut Problems) {
    let mut first_places: HashMap<Box<str>, Place> = HashMap::new();
    for source in sources {
        let mut routes = Vec::new();
        read_routes(
            source,
            &mut Policies::new(Context::default()),
            &mut Problems::default(),
            &mut routes,
            |route, span| (Box::from(route.pattern.as_str()), Place::new(source, span)),
        );
        for (pattern, place) in routes.into_iter().flatten() {
            match first_places.entry(pattern) {
                Entry::Vacant(entry) => drop(entry.insert(place)),
                Entry::Occupied(first) => {
                    let message = format!("the pattern `{}` is taken", brief(first.key()));
                    let problem = Problem::error(message).at(place).label("written again here");
                    let problem = problem.related(first.get().clone(), "first written here");
                    problems.push(problem.help("remove one of the two, or write their hosts as one array"));
                }
            }
        }
    }
}
