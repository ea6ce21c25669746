//! `portolan diff`: what a reload of the running daemon would change.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::Args;

use super::Exit;
use super::admin::{Admin, AdminArguments, Failure};
use super::console::Console;
use super::pages::Pages;
use super::routes;
use super::view::write_routes;
use crate::admin::view::{
    ChangedRoute, DiffView, OriginView, RelayPage, RelayView, RouteSpec, RouteView, StrandedRelay, TableView,
};
use crate::config::{self, Kind, Problems, Scope, kind_of, read_edit, visible};
use crate::edits::{Edit, Layer, Record};
use crate::node::NodeName;
use crate::route::{Order, Origin, Route, RouteTable, SharedOrigin};
use crate::shared::EDITS;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A routes file, as if it stood in the place of the daemon's, or a portolan.toml with its routes files. Default:
    /// the daemon's own files as they are now
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which of the daemon's routes files FILE stands for, if it has several
    #[arg(long, value_name = "FILE", requires = "file")]
    replaces: Option<PathBuf>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let daemon = match Running::ask(&arguments.admin) {
        Ok(daemon) => daemon,
        Err(failure) => return failure.tell(console),
    };
    let mut problems = Problems::default();
    let loaded = match files(arguments, &daemon.table, &mut problems) {
        Ok(files) => files.and_then(|files| config::load_routes_in_place_of(&files, &mut problems)),
        Err(which) => {
            console.complain(&which)?;
            return Ok(Exit::Problems);
        }
    };
    let Some(loaded) = loaded else {
        console.show(&problems)?;
        return Ok(Exit::Problems);
    };
    let diff = daemon.against(loaded.table);
    if arguments.json {
        console.json(&diff)?;
    } else {
        write_text(&diff, console)?;
    }
    Ok(Exit::Ok)
}

/// The routes files to be compared, each behind the one that it stands for; an error says that this is not clear.
fn files(
    arguments: &Arguments,
    table: &TableView,
    problems: &mut Problems,
) -> Result<Option<Vec<(PathBuf, PathBuf)>>, String> {
    let mut routes_of = |path: &Path| {
        let config = config::load_config(path, Scope::Text, problems)?;
        let files = config::routes_files(&config.routes, problems)?;
        Some(files.into_iter().map(|file| (file.clone(), file)).collect())
    };
    let Some(file) = &arguments.file else { return Ok(routes_of(Path::new(&table.config))) };
    if kind_of(file) == Kind::Daemon {
        return Ok(routes_of(file));
    }
    let known = table.files.iter().map(|file| PathBuf::from(&file.path));
    let mut files: Vec<_> = known.map(|file| (file.clone(), file)).collect();
    let named = arguments.replaces.as_ref().unwrap_or(file);
    let named = absolute(named).unwrap_or_else(|_| named.clone());
    let only = files.len() == 1 && arguments.replaces.is_none();
    match files.iter_mut().find(|(known, _)| *known == named || only) {
        Some((_, read)) => read.clone_from(file),
        None => {
            let known: Vec<_> = table.files.iter().map(|file| format!("--replaces {}", file.path)).collect();
            let why = match &arguments.replaces {
                Some(named) => format!("the daemon has no routes file {}; try", named.display()),
                None => format!("the daemon has several routes files; say which {} stands for:", file.display()),
            };
            return Err(format!("{why} {}", known.join(" or ")));
        }
    }
    Ok(Some(files))
}

/// Behind the routes of all files, and before every edit.
const SHARED: u64 = EDITS >> 1;

/// What a daemon has in force.
struct Running {
    table: TableView,
    routes: Vec<RouteView>,
    removed: Vec<RouteView>,
    relays: Vec<RelayView>,
}

impl Running {
    fn ask(arguments: &AdminArguments) -> Result<Self, Failure> {
        let admin = Admin::new(arguments)?;
        Ok(Self {
            table: admin.get("/v1/table")?,
            routes: routes::pages(&admin, false).all()?,
            removed: routes::pages(&admin, true).all()?,
            relays: Pages::<RelayPage>::new(&admin, "/v1/relays", "").all()?,
        })
    }

    /// What would change if the files held this table: the shared table and the edits at run time are laid over it as in
    /// a reload.
    fn against(self, mut files: RouteTable) -> DiffView {
        let read = |spec: &RouteSpec, at| read_edit(spec, at, None, &mut Problems::default());
        for (number, shared) in (SHARED..).zip(self.shared()) {
            if let Some(route) = read(&shared.spec, UNIX_EPOCH) {
                // Where a file has the pattern, that wins.
                drop(files.add_at(Route { origin: origin(shared), ..route }, number));
            }
        }
        files.begin_at(EDITS);
        let new = self.edits().apply(files, read).table;
        let mut diff = DiffView::default();
        let mut gone: HashMap<&str, (usize, &RouteView)> =
            self.routes.iter().enumerate().map(|(at, route)| (route.spec.pattern.as_str(), (at, route))).collect();
        let mut order = Order::default();
        for route in new.iter() {
            let after = RouteView::of(route);
            let Some((at, before)) = gone.remove(after.spec.pattern.as_str()) else {
                diff.added.push(after);
                continue;
            };
            let is_moved = order.is_moved((before.spec.weight, at), after.spec.weight);
            if before.spec != after.spec || is_moved {
                diff.changed.push(ChangedRoute { before: before.clone(), after });
            }
        }
        diff.removed =
            self.routes.iter().filter(|route| gone.contains_key(route.spec.pattern.as_str())).cloned().collect();
        diff.relays = self.relays.into_iter().filter_map(|relay| stranded(relay, &new)).collect();
        diff
    }

    /// The routes of the table that a fleet shares, those that an edit hides among them.
    fn shared(&self) -> impl Iterator<Item = &RouteView> {
        let is_shared = |route: &&RouteView| matches!(route.origin, OriginView::Shared { .. });
        self.routes.iter().chain(&self.removed).filter(is_shared)
    }

    /// The edits that the daemon has in force.
    fn edits(&self) -> Layer {
        let removed = self.removed.iter().map(|route| Record::Remove(Edit::new(route.spec.clone(), UNIX_EPOCH)));
        let added = self.routes.iter().filter_map(|route| match &route.origin {
            OriginView::File { .. } | OriginView::Shared { .. } => None,
            OriginView::Edit { edit } => {
                let at = humantime::parse_rfc3339(edit).unwrap_or(UNIX_EPOCH);
                Some(Record::Add(Edit::new(route.spec.clone(), at)))
            }
        });
        Layer::of(removed.chain(added))
    }
}

/// Where a shared route comes from.
fn origin(shared: &RouteView) -> Origin {
    let (table, key) = match &shared.origin {
        OriginView::Shared { table, key } => (table.as_str().into(), key.as_deref().map(Into::into)),
        OriginView::File { .. } | OriginView::Edit { .. } => (Arc::default(), None),
    };
    Origin::Shared(Arc::new(SharedOrigin { table, key }))
}

/// A relay whose route would be gone, and what its node would get instead.
fn stranded(relay: RelayView, new: &RouteTable) -> Option<StrandedRelay> {
    // One that discovery has led to belongs to no route.
    if relay.pattern.as_deref().is_none_or(|pattern| new.get(pattern).is_some()) {
        return None;
    }
    let node = NodeName::parse(&relay.node).ok();
    let then = node.and_then(|node| Some(new.find(&node, None)?.pattern.to_string()));
    Some(StrandedRelay { relay, then })
}

fn write_text(diff: &DiffView, console: &mut Console<'_>) -> io::Result<()> {
    for (sign, routes) in [("added", &diff.added), ("removed", &diff.removed)] {
        if !routes.is_empty() {
            writeln!(console.out, "{sign}")?;
            write_routes(routes, console.out)?;
        }
    }
    if !diff.changed.is_empty() {
        writeln!(console.out, "changed, before and after")?;
        for ChangedRoute { before, after } in &diff.changed {
            write_routes(&[before.clone(), after.clone()], console.out)?;
        }
    }
    if !diff.relays.is_empty() {
        writeln!(console.out, "relays whose route would be gone; they go on")?;
    }
    for StrandedRelay { relay, then } in &diff.relays {
        let then = then.as_deref().map_or("no route".to_owned(), |pattern| format!("by {pattern}"));
        let RelayView { node, pattern, address, .. } = relay;
        let pattern = pattern.as_deref().unwrap_or_default();
        let line = format!("{node} at {address} by {pattern}; the next request: {then}");
        writeln!(console.out, "  {}", visible(&line))?;
    }
    let DiffView { added, removed, changed, .. } = diff;
    writeln!(console.out, "+{} -{} ~{}", added.len(), removed.len(), changed.len())
}
