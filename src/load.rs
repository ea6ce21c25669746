//! The files become a configuration and a snapshot, or a list of everything that is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{error, warn};

use crate::admin::view::RouteSpec;
use crate::config::{
    self, Config, Context, LoadedRoutes, Problem, Problems, ResolverConfig, RoutesEntry, Scope, Severity,
};
use crate::dial::{Opened, Trusts};
use crate::edits::{Ended, Layer};
use crate::plan::Snapshot;
use crate::resolve::{Discovery, Home, Resolvers};
use crate::route::{Route, RouteTable, TlsPolicy};
use crate::shared::{EDITS, Shared, Tables};
use crate::watch::Print;

/// What the files say, ready to be in force.
#[derive(Debug)]
pub struct Loaded {
    /// `portolan.toml`.
    pub config: Config,
    /// The routes, with what the files of their TLS policies hold.
    pub snapshot: Snapshot,
    /// The table that a fleet shares, as it lies over the files.
    pub shared: Option<Shared>,
}

/// What lies over the files: a shared table, and edits over both.
#[derive(Debug, Default)]
pub struct Over {
    /// The table that a fleet shares, if there is one.
    pub shared: Option<Shared>,
    /// The edits at run time.
    pub edits: Layer,
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
    /// What is wrong with single routes of the shared table, which are refused alone.
    pub refused: Problems,
}

/// Reads everything. `previous` is what is in force: its trusts stand in for files that have gone bad since, and what its
/// routes have open is counted on, and its resolvers go on where they are configured as before; `home` is where they ask.
/// What is odd about a route is not said again if `told` has it as it is. `over` is
/// what lies over the files.
pub fn load(
    path: &Path,
    previous: Option<&Snapshot>,
    told: Option<&RouteTable>,
    home: &Home,
    over: impl FnOnce(&Config) -> Over,
) -> Outcome {
    let (mut problems, mut refused, mut ended) = (Problems::default(), Problems::default(), Vec::new());
    let mut files = vec![with_print(path)];
    let mut trusts = Trusts::new(previous.map(|previous| &*previous.trusts));
    let loaded = config::read_config(path, Scope::Machine, &mut problems).and_then(|config| {
        files.extend(config.routes.iter().filter_map(glob_with_print));
        let routes_files = config::routes_files(&config.routes, &mut problems)?;
        files.extend(routes_files.iter().map(|file| with_print(file)));
        open_answer_tls(&config.resolvers, &mut trusts, &mut problems);
        let known = config.resolver_names();
        let context = Context { trusts: Some(&mut trusts), resolvers: Some(known.clone()) };
        let routes = config::load_routes(&routes_files, context, &mut problems);
        if let Some(routes) = &routes {
            routes.lint(told, Scope::Machine, &mut problems);
        }
        let Over { mut shared, edits } = over(&config);
        let applied = routes.map(|LoadedRoutes { mut table, files, .. }| {
            if let Some(shared) = &mut shared {
                refused = lay(shared, &mut table, Some(&mut trusts), &known);
            }
            table.begin_at(EDITS);
            let applied = edits.apply(table, |spec, at| {
                let context = Context { trusts: Some(&mut trusts), resolvers: Some(known.clone()) };
                read_edit(spec, at, told, context, &mut problems)
            });
            (applied, files)
        });
        files.extend(trusts.files().map(|(file, print)| (file.to_owned(), print.clone())));
        let (applied, files) = applied?;
        ended = applied.ended;
        let (table, removed, trusts) = (applied.table, applied.removed, Arc::new(trusts));
        let slots = previous.map(|previous| Arc::clone(&previous.slots)).unwrap_or_default();
        let resolvers = Resolvers::following(previous.map(|previous| &*previous.resolvers), &config.resolvers, home);
        let discovery = config.discovery.as_ref().and_then(|discovery| {
            let resolver = Arc::clone(resolvers.get(&discovery.resolver)?);
            Some(Arc::new(Discovery { resolver, after_static_failure: discovery.after_static_failure }))
        });
        let resolvers = Arc::new(resolvers);
        let summary = shared.as_ref().map(|shared| Arc::new(shared.summary()));
        let snapshot =
            Snapshot { generation: 1, table, removed, files, trusts, slots, resolvers, discovery, shared: summary };
        Some(Loaded { config, snapshot, shared })
    });
    Outcome { loaded: loaded.filter(|_| !problems.has_errors()), problems, files, ended, refused }
}

/// Lays the shared table over that of the files, and tells what is wrong with single routes.
pub fn lay(
    shared: &mut Shared,
    table: &mut RouteTable,
    trusts: Option<&mut Trusts>,
    resolvers: &[Arc<str>],
) -> Problems {
    // The edits come afterwards, over both.
    let (removed, edits) = (&mut RouteTable::new(), &Layer::default());
    shared.lay(&mut Tables { table, removed, edits, trusts, resolvers }).problems
}

/// Opens what is trusted of nodes whose answers say that they speak TLS. No route names it, and it may never be needed:
/// where nothing is written it is the system's authorities, and their lack is only a warning.
fn open_answer_tls(resolvers: &[ResolverConfig], trusts: &mut Trusts, problems: &mut Problems) {
    for ResolverConfig { name, answer_tls, .. } in resolvers {
        let problem = match trusts.open(answer_tls) {
            Ok(Opened::Fresh | Opened::Kept | Opened::Renewed) => continue,
            Ok(Opened::KeptOld(error)) => {
                Problem::warning(format!("[resolver.{name}]: {error}; what was read from it before stays in force"))
            }
            Err(error) if **answer_tls == TlsPolicy::default() => {
                Problem::warning(format!("[resolver.{name}]: no answer that says TLS can be trusted: {error}"))
            }
            Err(error) => Problem::error(format!("`answer_tls` of [resolver.{name}]: {error}")),
        };
        problems.push(problem.help("put it right, or name another file in `answer_tls`"));
    }
}

/// One edit that cannot be read any more, because its files are gone, does not hold up the rest.
fn read_edit(
    spec: &RouteSpec,
    at: SystemTime,
    told: Option<&RouteTable>,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<Route> {
    let mut own = Problems::default();
    let route = config::read_edit(spec, at, context, &mut own);
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
        RoutesEntry::File(_) | RoutesEntry::Shared(_) => None,
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
    if problems.left_out() > 0 {
        warn!(more = problems.left_out(), "more of that is not shown");
    }
}
