//! `portolan routes`: the table of the running daemon, and edits of it.

use std::io;
use std::path::{Path, PathBuf, absolute};

use clap::{Args, Subcommand};

use super::admin::{Admin, AdminArguments, show};
use super::console::Console;
use super::pages::Pages;
use super::view::write_routes;
use super::{Exit, push};
use crate::admin::location;
use crate::admin::view::{
    AddedView, ChangeView, PushedView, RefusedView, RoutePage, RouteSpec, TableView, TlsPolicySpec, TlsSpec,
};
use crate::config::{plural, visible};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the routes in force, in the order in which they are tried
    List(List),
    /// Add a route; it is kept until it is removed, or until a routes file has its pattern
    Add(Box<Add>),
    /// Put the routes of a file in the place of the table that a fleet shares
    Push(push::Arguments),
    /// Remove the route with this pattern; one of a routes file stays removed until its entry there is changed
    Remove(Remove),
}

#[derive(Debug, Args)]
struct List {
    /// The routes of files that were removed at run time, in the place of those in force
    #[arg(long)]
    removed: bool,
    /// Write one JSON object for each route, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
struct Add {
    /// Which nodes it is for: a regular expression, searched anywhere in the name
    #[arg(value_name = "MATCH")]
    pattern: String,
    /// Where the node may be reached, as host:port, tried in this order; may be given several times
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "resolver")]
    host: Vec<String>,
    /// Ask this resolver where the node is; --host, --port and TLS are then in place of what it answers
    #[arg(long, value_name = "NAME")]
    resolver: Option<String>,
    /// In place of the port that the resolver answers
    #[arg(long, requires = "resolver")]
    port: Option<u16>,
    /// Plain TCP, also where the resolver answers that TLS is spoken
    #[arg(long, requires = "resolver", conflicts_with = "tls")]
    no_tls: bool,
    /// Strict order, highest first
    #[arg(long, default_value_t = 100, allow_negative_numbers = true)]
    weight: i64,
    /// TLS to the upstream
    #[arg(long)]
    tls: bool,
    /// Certificate authorities that are trusted, in PEM; this and the following include --tls
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name that the peer's certificate must bear
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// SHA-256 of the peer's public key, in base64; may be given several times
    #[arg(long, value_name = "BASE64")]
    pin_sha256: Vec<String>,
    /// Verify neither chain nor name
    #[arg(long)]
    insecure_skip_verify: bool,
    /// How long TCP and TLS of one attempt may take, such as 3s
    #[arg(long, value_name = "DURATION")]
    connect_timeout: Option<String>,
    /// How long an attempt may be without an answer before the next one is started beside it, or never
    #[arg(long, value_name = "DURATION")]
    race_after: Option<String>,
    /// Where to dial from: an address of this machine, or an interface
    #[arg(long, value_name = "ADDRESS|INTERFACE")]
    source: Option<String>,
    /// Tell the upstream who the client is, by this version of the PROXY protocol: v2
    #[arg(long, value_name = "VERSION")]
    proxy_protocol: Option<String>,
    /// The most requests and relays of this route that are open at once
    #[arg(long, value_name = "COUNT")]
    max_relays: Option<usize>,
    /// No byte either way for so long ends a relay, or never
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<String>,
    /// A silent upstream is asked after so long whether it is still there, or never
    #[arg(long, value_name = "DURATION")]
    keepalive: Option<String>,
    /// When it matches, the static routes are all that is tried
    #[arg(long = "final")]
    is_final: bool,
    /// A short name for people
    #[arg(long)]
    name: Option<String>,
    /// A sentence for people
    #[arg(long)]
    description: Option<String>,
    /// Write the route as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
struct Remove {
    /// Its pattern, as it is written
    #[arg(value_name = "MATCH")]
    pattern: String,
    /// Write what was changed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    match &arguments.command {
        Command::List(list) => self::list(list, console),
        Command::Add(add) => self::add(add, console),
        Command::Push(push) => push::run(push, console),
        Command::Remove(remove) => self::remove(remove, console),
    }
}

fn list(list: &List, console: &mut Console<'_>) -> io::Result<Exit> {
    let admin = match Admin::new(&list.admin) {
        Ok(admin) => admin,
        Err(failure) => return failure.tell(console),
    };
    for page in pages(&admin, list.removed) {
        let page = match page {
            Ok(page) => page,
            Err(failure) => return failure.tell(console),
        };
        if list.json {
            for route in &page {
                console.json(route)?;
            }
        } else {
            write_routes(&page, console.out)?;
        }
    }
    if !list.json && !list.removed {
        match admin.get::<TableView>("/v1/table") {
            Ok(table) => write_table(&table, console)?,
            Err(failure) => return failure.tell(console),
        }
    }
    Ok(Exit::Ok)
}

/// What the list does not show.
fn write_table(table: &TableView, console: &mut Console<'_>) -> io::Result<()> {
    if table.removed > 0 {
        let removed = plural(table.removed, "route");
        writeln!(console.out, "{removed} of files removed at run time; --removed lists them")?;
    }
    let Some(shared) = &table.shared else { return Ok(()) };
    write!(console.out, "{}: {}", visible(&shared.table), plural(shared.routes, "route"))?;
    if shared.shadowed > 0 {
        write!(console.out, ", {} more whose pattern is written elsewhere", shared.shadowed)?;
    }
    if let Some(PushedView { at, by }) = &shared.pushed {
        write!(console.out, ", pushed {} by {}", visible(at), visible(by))?;
    }
    let since = &shared.since;
    match &shared.why {
        None if shared.followed => writeln!(console.out, "; followed since {since}")?,
        why => {
            let why = why.as_deref().unwrap_or("it was not read yet");
            writeln!(console.out, "; not followed since {since}: {}", visible(why))?;
        }
    }
    for RefusedView { key, why } in &shared.refused {
        writeln!(console.out, "{} is refused: {}", visible(key), visible(why))?;
    }
    Ok(())
}

/// The routes in force, or those of files that were removed at run time.
pub(super) fn pages(admin: &Admin, removed: bool) -> Pages<'_, RoutePage> {
    Pages::new(admin, "/v1/routes", &format!("&removed={removed}"))
}

fn add(add: &Add, console: &mut Console<'_>) -> io::Result<Exit> {
    let spec = serde_json::to_string(&add.spec()?)?;
    let added = Admin::new(&add.admin).and_then(|admin| admin.post::<AddedView>("/v1/routes", Some(spec)));
    match added {
        Err(failure) => failure.tell(console),
        Ok(added) => {
            show(&added.warnings, console)?;
            if add.json {
                console.json(&added.route)?;
            } else {
                write_routes(&[added.route], console.out)?;
            }
            Ok(Exit::Ok)
        }
    }
}

impl Add {
    fn spec(&self) -> io::Result<RouteSpec> {
        // An edit belongs to no file that its paths could be relative to.
        let path = |path: &Option<PathBuf>| -> io::Result<Option<String>> {
            path.as_deref().map(|path: &Path| Ok(absolute(path)?.to_string_lossy().into_owned())).transpose()
        };
        let policy = TlsPolicySpec {
            ca: path(&self.ca)?,
            cert: path(&self.cert)?,
            key: path(&self.key)?,
            server_name: self.server_name.clone(),
            pin_sha256: self.pin_sha256.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
        };
        let tls = if policy == TlsPolicySpec::default() {
            let switch = if self.no_tls { Some(false) } else { self.tls.then_some(true) };
            switch.map(TlsSpec::Switch)
        } else {
            Some(TlsSpec::Policy(policy))
        };
        Ok(RouteSpec {
            pattern: self.pattern.clone(),
            weight: self.weight,
            host: self.host.clone(),
            port: self.port,
            resolver: self.resolver.clone(),
            tls,
            connect_timeout: self.connect_timeout.clone(),
            race_after: self.race_after.clone(),
            source: self.source.clone(),
            proxy_protocol: self.proxy_protocol.clone(),
            max_relays: self.max_relays,
            idle_timeout: self.idle_timeout.clone(),
            keepalive: self.keepalive.clone(),
            is_final: self.is_final,
            name: self.name.clone(),
            description: self.description.clone(),
        })
    }
}

fn remove(remove: &Remove, console: &mut Console<'_>) -> io::Result<Exit> {
    let path = location(&remove.pattern);
    match Admin::new(&remove.admin).and_then(|admin| admin.delete::<ChangeView>(&path)) {
        Err(failure) => failure.tell(console),
        Ok(change) => {
            if remove.json {
                console.json(&change)?;
            } else {
                let pattern = visible(&remove.pattern);
                let ChangeView { generation, routes, .. } = change;
                writeln!(console.out, "removed {pattern}: generation {generation}, {}", plural(routes, "route"))?;
            }
            show(&change.warnings, console)?;
            Ok(Exit::Ok)
        }
    }
}
