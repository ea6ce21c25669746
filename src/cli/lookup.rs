//! `portolan lookup`: which routes match a node, in the order in which they would be tried. Nothing is dialed and no
//! certificate is opened; resolvers are asked where that is wanted.

use std::io::{self, BufRead};
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::console::Console;
use super::resolve::{self, Resolving};
use super::view::write_routes;
use crate::admin::view::{LookupView, RouteView};
use crate::config::{Config, LoadedRoutes, Problems, Scope, find_config, load, load_routes, read_edit, visible};
use crate::edits::{Layer, state_folder};
use crate::load::lay;
use crate::node::{BadNodeName, NodeName};
use crate::route::RouteTable;
use crate::shared::{EDITS, Shared};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Node names; `-` reads them from stdin, one a line
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// A routes file, in the place of those that the configuration names; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    routes: Vec<PathBuf>,
    /// The configuration [default: $PORTOLAN_CONFIG, /etc/portolan/portolan.toml, ./config/portolan.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the resolvers what a request would ask them, one after the other, and show what comes of it
    #[arg(long, conflicts_with = "routes")]
    resolve: bool,
    /// Write one JSON object for each node, one a line
    #[arg(long)]
    json: bool,
}

/// Exits with 0 when every node has a route; where resolvers are asked, when every node is led somewhere.
pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let Some(tables) = tables(arguments, console)? else { return Ok(Exit::Problems) };
    let mut all = true;
    for name in &arguments.names {
        if name != "-" {
            all &= answer(&tables, NodeName::parse(name), name, arguments.json, console)?;
            continue;
        }
        let mut line = Vec::new();
        while let Some(name) = next_line(console.input, &mut line)? {
            if !name.is_empty() {
                let shown = String::from_utf8_lossy(name);
                all &= answer(&tables, NodeName::from_bytes(name), &shown, arguments.json, console)?;
            }
        }
    }
    Ok(if all { Exit::Ok } else { Exit::Problems })
}

/// The routes in force, and those of files that were removed at run time.
#[derive(Default)]
struct Tables {
    table: RouteTable,
    removed: RouteTable,
    /// Who is asked, if anybody is.
    resolving: Option<Resolving>,
}

fn tables(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Option<Tables>> {
    let mut problems = Problems::default();
    let tables = if arguments.routes.is_empty() {
        let path = match find_config(arguments.config.as_deref()) {
            Ok(path) => path,
            Err(error) => {
                console.complain(&error.to_string())?;
                return Ok(None);
            }
        };
        let loaded = load(&path, Scope::Text, None, &mut problems);
        let in_force = |(config, loaded): (Config, LoadedRoutes)| {
            let resolving = arguments.resolve.then(|| Resolving::new(&config)).transpose()?;
            Ok::<_, io::Error>(Tables { resolving, ..as_in_force(&config, loaded.table, console)? })
        };
        loaded.map(in_force).transpose()?
    } else {
        let loaded = load_routes(&arguments.routes, None, &mut problems);
        loaded.map(|loaded| Tables { table: loaded.table, ..Tables::default() })
    };
    // Warnings are for `check`.
    if tables.is_none() {
        console.show(&problems)?;
    }
    Ok(tables)
}

/// Lays the shared table, as it is on disk, and the edits at run time over the files, as the daemon does.
fn as_in_force(config: &Config, mut table: RouteTable, console: &mut Console<'_>) -> io::Result<Tables> {
    let state = state_folder(config);
    if let Some((name, etcd)) = config.shared() {
        let mut shared = Shared::read(name, etcd, &state);
        // A route that is refused is the daemon's to tell.
        drop(lay(&mut shared, &mut table, None, &config.resolver_names()));
        if shared.held().revision == 0 {
            let table = shared.summary().table;
            console.complain(&format!("no daemon has kept a copy of {table} here; its routes are not shown"))?;
        }
    }
    table.begin_at(EDITS);
    let layer = match Layer::read(&state) {
        Ok((layer, _damage)) => layer,
        Err(error) => {
            console.complain(&format!("{error}; edits at run time are not shown"))?;
            Layer::default()
        }
    };
    let applied = layer.apply(table, |spec, at| read_edit(spec, at, None, &mut Problems::default()));
    Ok(Tables { table: applied.table, removed: applied.removed, resolving: None })
}

/// The next line without its end, in a buffer that is used again.
fn next_line<'a>(input: &mut dyn BufRead, line: &'a mut Vec<u8>) -> io::Result<Option<&'a [u8]>> {
    line.clear();
    if input.read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    let name = line.strip_suffix(b"\n").unwrap_or(line);
    Ok(Some(name.strip_suffix(b"\r").unwrap_or(name)))
}

/// Writes the routes of a node, and tells whether it is led somewhere.
fn answer(
    tables: &Tables,
    node: Result<NodeName, BadNodeName>,
    shown: &str,
    json: bool,
    console: &mut Console<'_>,
) -> io::Result<bool> {
    let node = match node {
        Ok(node) => node,
        Err(error) => {
            console.complain(&format!("{shown:?} is no node name: {error}"))?;
            return Ok(false);
        }
    };
    let matches = |table: &RouteTable| -> Vec<_> {
        table.routes_for(&node).into_iter().flatten().map(|route| RouteView::of(route)).collect()
    };
    let (routes, removed) = (matches(&tables.table), matches(&tables.removed));
    let resolved = tables.resolving.as_ref().map(|resolving| resolving.resolve(&tables.table, &node));
    let found = match &resolved {
        None => !routes.is_empty(),
        Some(resolved) => {
            let is_led = resolved.iter().any(|resolved| !resolved.upstreams.is_empty());
            is_led || routes.iter().any(|route| route.spec.resolver.is_none())
        }
    };
    let resolved = resolved.unwrap_or_default();
    let answer = LookupView { node: node.as_str().to_owned(), routes, removed, more: false, resolved };
    if json {
        console.json(&answer)?;
    } else {
        writeln!(console.out, "{}", visible(node.as_str()))?;
        if answer.routes.is_empty() {
            writeln!(console.out, "  no route")?;
        }
        write_routes(&answer.routes, console.out)?;
        if !answer.removed.is_empty() {
            writeln!(console.out, "  removed at run time:")?;
            write_routes(&answer.removed, console.out)?;
        }
        for line in answer.resolved.iter().flat_map(resolve::text) {
            writeln!(console.out, "{}", visible(&line))?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::testing::{self, Ran};

    const ROUTES: &str = r"
        [[route]]
        match = '^prod-'
        host = ['10.0.1.50', '[fd00::1]:4371']
        port = 4370
        [[route]]
        match = 'db@'
        weight = 2000
        host = 'db.example:1'
        tls = true
        final = true
        name = 'primary'
        [[route]]
        match = 'prod'
        host = 'off:1'
        disabled = true
    ";

    fn lookup(names: &[&str], json: bool, input: &[u8]) -> Ran {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r");
        std::fs::write(&file, ROUTES).unwrap();
        let names = names.iter().map(|&name| name.into()).collect();
        let arguments = Arguments { names, routes: vec![file], config: None, resolve: false, json };
        let mut ran = testing::run(input, |console| run(&arguments, console));
        ran.out = ran.out.replace(&format!("{}/", folder.path().display()), "");
        ran
    }

    #[test]
    fn routes_come_in_the_order_in_which_they_are_tried() {
        let ran = lookup(&["prod-db@x", "none"], false, b"");
        let expected = "\
prod-db@x
  2000  db@     db.example:1                    tls, final  r:7  primary
   100  ^prod-  10.0.1.50:4370, [fd00::1]:4371              r:3
none
  no route
";
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Problems, expected, ""));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let ran = lookup(&["db@x", "none"], true, b"");
        let expected = "{\"node\":\"db@x\",\"routes\":[{\"match\":\"db@\",\"weight\":2000,\"host\":[\"db.example:1\"],\
                        \"tls\":true,\"final\":true,\"name\":\"primary\",\"origin\":{\"file\":\"r\",\"line\":7}}],\
                        \"removed\":[]}\n{\"node\":\"none\",\"routes\":[],\"removed\":[]}\n";
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Problems, expected));
    }

    #[test]
    fn names_come_from_stdin_too() {
        let ran = lookup(&["-"], false, b"db@x\r\n\n\ndb@y");
        assert_eq!(ran.exit, Exit::Ok);
        let nodes: Vec<_> = ran.out.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(nodes, ["db@x", "db@y"]);
    }

    #[test]
    fn a_bad_name_is_said_and_the_others_are_answered() {
        let ran = lookup(&["a\u{1b}b", "db@x", ""], false, b"");
        assert_eq!(ran.exit, Exit::Problems);
        assert!(ran.out.starts_with("db@x\n"));
        let expected = "error: \"a\\u{1b}b\" is no node name: the node name has the control character U+001B\n\
                        error: \"\" is no node name: the node name is empty\n";
        assert_eq!(ran.err, expected);
    }

    #[test]
    fn a_bad_table_is_said() {
        let arguments = Arguments {
            names: vec!["a".into()],
            routes: vec!["/nowhere/r".into()],
            config: None,
            resolve: false,
            json: false,
        };
        let ran = testing::run(b"", |console| run(&arguments, console));
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Problems, ""));
        assert!(ran.err.contains("--> /nowhere/r\n"), "{}", ran.err);
    }
}
