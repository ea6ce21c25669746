//! The files become a configuration and a snapshot, or a list of everything that is wrong with them.

use std::path::{Path, PathBuf};

use tracing::{error, warn};

use crate::config::{self, Config, LoadedRoutes, Problems, Scope, Severity};
use crate::dial::Trusts;
use crate::plan::Snapshot;
use crate::route::RouteTable;
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
    /// Every file that was read or missed, with what it was before: a change of any of them is worth another try.
    pub files: Vec<(PathBuf, Print)>,
}

/// Reads everything. `previous` has the trusts in force, which stand in for files that have gone bad since.
pub fn load(path: &Path, previous: Option<&Trusts>) -> Outcome {
    let mut problems = Problems::default();
    let mut files = vec![with_print(path)];
    let mut trusts = Trusts::new(previous);
    let loaded = config::read_config(path, Scope::Machine, &mut problems).and_then(|config| {
        files.extend(config.routes.iter().map(|file| with_print(file)));
        let routes = config::load_routes(&config.routes, Some(&mut trusts), &mut problems);
        files.extend(trusts.files().map(|(file, print)| (file.to_owned(), print.clone())));
        let LoadedRoutes { table, files } = routes?;
        let snapshot = Snapshot { generation: 1, table, removed: RouteTable::new(), files, trusts };
        Some(Loaded { config, snapshot })
    });
    Outcome { loaded: loaded.filter(|_| !problems.has_errors()), problems, files }
}

fn with_print(file: &Path) -> (PathBuf, Print) {
    (file.to_owned(), Print::of(file))
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
