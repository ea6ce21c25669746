//! `portolan routes push`: a file becomes the table that a fleet shares.

use std::io;
use std::path::{Path, PathBuf, absolute};

use clap::Args;
use serde::Serialize;

use super::Exit;
use super::console::Console;
use crate::admin::view::{RouteSpec, TlsSpec};
use crate::config::{
    Config, Context, EtcdResolver, Problem, Problems, Scope, TableConfig, find_config, load_config, load_routes,
    plural, read_shared_json,
};
use crate::etcd::{Etcd, EtcdConfig};
use crate::route::Route;
use crate::shared::{Differences, Keys, Publisher, PushError, Pushed, Wanted};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The routes file; it is checked first, as `portolan check` does
    #[arg(value_name = "FILE", required_unless_present = "back", conflicts_with = "back")]
    file: Option<PathBuf>,
    /// The table, as `routes` of the configuration has it
    #[arg(long, value_name = "etcd:NAME")]
    to: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Put back what was in force before the last push
    #[arg(long)]
    back: bool,
    /// Write what was changed as JSON
    #[arg(long)]
    json: bool,
    /// The configuration [default: $PORTOLAN_CONFIG, /etc/portolan/portolan.toml, ./config/portolan.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What came of a push, for programs.
#[derive(Debug, Serialize)]
struct PushView<'a> {
    table: &'a str,
    routes: usize,
    #[serde(flatten)]
    differences: Differences,
    transactions: usize,
    dry_run: bool,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let mut problems = Problems::default();
    let Some(config) = config(arguments, &mut problems) else {
        console.show(&problems)?;
        return Ok(Exit::Problems);
    };
    let EtcdResolver { etcd, table, .. } = match table(&config, &arguments.to) {
        Ok(found) => found,
        Err(why) => {
            console.complain(&why)?;
            return Ok(Exit::Problems);
        }
    };
    let routes = arguments.file.as_deref().map(|file| routes(file, &config, table, &mut problems));
    console.show(&problems)?;
    let wanted = match &routes {
        None => Wanted::Before,
        Some(Some(routes)) => Wanted::Routes(routes),
        Some(None) => return Ok(Exit::Problems),
    };
    match push(etcd.clone(), table, wanted, arguments.dry_run)? {
        Ok(pushed) => tell(arguments, &pushed, console),
        Err(error) => {
            console.complain(&format!("nothing is pushed: {error}"))?;
            Ok(Exit::Refused)
        }
    }
}

fn config(arguments: &Arguments, problems: &mut Problems) -> Option<Config> {
    match find_config(arguments.config.as_deref()) {
        Ok(path) => load_config(&path, Scope::Text, problems),
        Err(error) => {
            problems.push(Problem::error(error.to_string()));
            None
        }
    }
}

/// What `etcd:NAME` is; this machine need not follow it.
fn table<'a>(config: &'a Config, to: &str) -> Result<&'a EtcdResolver, String> {
    let name = to.strip_prefix("etcd:").ok_or_else(|| format!("\"{to}\" is no shared table: write etcd:NAME"))?;
    let found = config.etcd(name);
    found
        .map(|(_, etcd)| etcd)
        .ok_or_else(|| format!("there is no [resolver.{name}] of type etcd in {}", config.path.display()))
}

/// The routes of a file, as they will be written; `None`: a daemon would refuse one of them.
fn routes(file: &Path, config: &Config, table: &TableConfig, problems: &mut Problems) -> Option<Vec<RouteSpec>> {
    let context = || Context { trusts: None, resolvers: Some(config.resolver_names()) };
    // Certificates are each daemon's own.
    let loaded = load_routes(&[file.to_owned()], context(), problems)?;
    loaded.lint(None, Scope::Text, problems);
    let folder = absolute(file).ok().and_then(|file| Some(file.parent()?.to_owned())).unwrap_or_default();
    let routes: Vec<_> = loaded.table.iter().map(|route| spec(route, &folder)).collect();
    let errors = problems.errors();
    for (route, row) in routes.iter().zip(loaded.table.iter()) {
        let mut own = Problems::default();
        let json = serde_json::to_value(route).unwrap_or_default();
        let what = row.origin.to_string();
        if read_shared_json(Path::new(&what), &json, row.origin.clone(), &table.rules, context(), &mut own).is_none() {
            problems.extend(own.iter().filter(|problem| problem.severity == crate::config::Severity::Error).cloned());
        }
    }
    (problems.errors() == errors).then_some(routes)
}

/// What a route says, with the paths beside the file as they are written: each daemon has its own folder for them.
fn spec(route: &Route, folder: &Path) -> RouteSpec {
    let mut spec = RouteSpec::of(route);
    if let Some(TlsSpec::Policy(tls)) = &mut spec.tls {
        for path in [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten() {
            if let Ok(inside) = Path::new(path.as_str()).strip_prefix(folder) {
                *path = inside.to_string_lossy().into_owned();
            }
        }
    }
    spec
}

fn push(
    etcd: EtcdConfig,
    table: &TableConfig,
    wanted: Wanted<'_>,
    is_dry: bool,
) -> io::Result<Result<Pushed, PushError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let publisher = Publisher::new(Etcd::new(etcd), Keys::new(&table.prefix), whoami());
    let pushed = runtime.block_on(publisher.push(wanted, is_dry));
    runtime.shutdown_background();
    Ok(pushed)
}

/// `user@host`
fn whoami() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten();
    let user = user.map_or_else(|| nix::unistd::Uid::current().to_string(), |user| user.name);
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

fn tell(arguments: &Arguments, pushed: &Pushed, console: &mut Console<'_>) -> io::Result<Exit> {
    let Pushed { differences, routes, transactions, left } = pushed;
    let Differences { added, removed, changed } = differences;
    let table = arguments.to.as_str();
    if let Err(why) = left {
        console.complain(&format!("what an earlier push has left is still there, and harmless: {why}"))?;
    }
    if arguments.json {
        let (routes, differences, transactions) = (*routes, *differences, *transactions);
        console.json(&PushView { table, routes, differences, transactions, dry_run: arguments.dry_run })?;
        return Ok(Exit::Ok);
    }
    let routes = plural(*routes, "route");
    let changes = format!("+{added} -{removed} ~{changed}");
    match (*transactions, arguments.dry_run) {
        (0, _) => writeln!(console.out, "{table}: {routes}, in force already")?,
        (_, false) => writeln!(console.out, "{table}: {routes}, {changes}")?,
        (count, true) => {
            let count = plural(count, "transaction");
            writeln!(console.out, "{table}: {routes}, {changes}, by {count}; nothing was changed")?;
        }
    }
    Ok(Exit::Ok)
}
