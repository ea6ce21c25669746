//! Composes: load, bind, tell systemd, serve, reload, drain.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::admit::Admission;
use crate::config::{Config, Problems};
use crate::control::Control;
use crate::descriptors;
use crate::dial::{Ends, OwnLeases, Upstreams};
use crate::drain::Drain;
use crate::edits::{Edits, state_folder};
use crate::journal::{Damage, JournalError};
use crate::lease::Leases;
use crate::listen::{BindError, Doors, Inherited, OpenForward, Prepared, admin_path, socket_path};
use crate::load::{self, Loaded, Outcome, Over};
use crate::log::Log;
use crate::node::NodeName;
use crate::plan::{Plan, Snapshot};
use crate::registrar::Questions;
use crate::relay::{Register, Timeouts};
use crate::reload::{Parts, Reloader};
use crate::resolve::Home;
use crate::route::{Settings, Timeout};
use crate::shared::Shared;
use crate::systemd;
use crate::workers::Workers;

/// What every request shares.
#[derive(Debug)]
pub struct Daemon {
    snapshot: ArcSwap<Snapshot>,
    config: ArcSwap<Config>,
    refused: ArcSwapOption<String>,
    /// Who may come in.
    pub admission: Admission,
    /// What is known of the upstreams; a reload leaves it alone.
    pub upstreams: Arc<Upstreams>,
    /// The relays that are open.
    pub relays: Arc<Register>,
    /// The forwards of the configuration that are open.
    pub forwards: ArcSwap<Vec<OpenForward>>,
    /// The forwards that were asked for; a reload leaves them alone.
    pub leases: Leases,
    /// How far the daemon is on its way out.
    pub drain: Drain,
}

/// Why the daemon does not start.
#[derive(Debug)]
pub enum StartError {
    /// The files have problems.
    Files(Problems),
    /// The edits at run time cannot be read.
    Edits(JournalError),
    /// A door cannot be opened.
    Bind(Vec<BindError>),
    /// The system refuses something else.
    System(&'static str, std::io::Error),
}

impl Daemon {
    /// A daemon with what was loaded; leases are served by these workers.
    pub fn new(loaded: Loaded, workers: Weak<Workers>) -> Self {
        let Loaded { config, snapshot, .. } = loaded;
        let drain = Drain::new();
        let admission = Admission::new(descriptors::relays(&config), drain.clone());
        let own = Arc::new(OwnLeases::default());
        let leases = Leases::new(descriptors::leases(&config), Arc::clone(&own), workers);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            config: ArcSwap::from_pointee(config),
            refused: ArcSwapOption::empty(),
            admission,
            upstreams: Arc::new(Upstreams::new(drain.clone(), own)),
            relays: Arc::default(),
            forwards: ArcSwap::default(),
            leases,
            drain,
        }
    }

    /// The table in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Why the last reload changed nothing, if it did not.
    pub fn refused(&self) -> Option<String> {
        self.refused.load().as_deref().cloned()
    }

    /// Says how the last reload went.
    pub fn set_refused(&self, why: Option<String>) {
        self.refused.store(why.map(Arc::new));
    }

    /// How long a request may take until its client is told that it is connected.
    pub fn establish_timeout(&self) -> Duration {
        self.config.load().dial.establish
    }

    /// How long a lease may be of no use.
    pub fn lease_idle_timeout(&self) -> Duration {
        self.config.load().limits.lease_idle_timeout
    }

    /// The candidates for a node, by the table in force.
    pub fn plan(&self, node: NodeName, client: Option<Ends>) -> Plan {
        let (upstreams, dial) = (Arc::clone(&self.upstreams), self.config.load().dial.clone());
        Plan::new(self.snapshot(), upstreams, dial, node, client)
    }

    /// How long a relay of a route with these settings may be silent.
    pub fn relay_timeouts(&self, settings: &Settings) -> Timeouts {
        let config = self.config.load();
        let idle = settings.idle_timeout.map_or(config.limits.idle_timeout, Timeout::duration);
        Timeouts { half_close: config.limits.half_close_timeout, idle }
    }

    /// Swaps in a table and returns the one that was in force; its caller frees it.
    pub fn replace_snapshot(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        self.snapshot.swap(Arc::new(snapshot))
    }

    /// Swaps in what was loaded and returns the table that was in force; its caller frees it.
    pub fn replace(&self, loaded: Loaded) -> Arc<Snapshot> {
        let Loaded { config, snapshot, .. } = loaded;
        // What is cut down is said once, not at each reload.
        let limits = |config: &Config| (config.limits.relays, config.limits.leases);
        if limits(&config) != limits(&self.config.load()) {
            self.admission.set_limit(descriptors::relays(&config));
        }
        let leases = descriptors::leases(&config);
        self.config.store(Arc::new(config));
        self.leases.follow(leases);
        self.replace_snapshot(snapshot)
    }
}

/// Runs the daemon until a signal ends it.
pub async fn run(path: PathBuf) -> Result<(), StartError> {
    // Before any other descriptor is opened, and before anything can fail.
    let mut inherited = Inherited::from_env().map_err(|error| StartError::Bind(vec![error]))?;
    let (mut end, mut hangup) = signals().map_err(|error| StartError::System("cannot listen to signals", error))?;

    // This runtime has little else to do: the requests are on those of the workers.
    let home = Home::on(Handle::current());
    let mut opened = None;
    let Outcome { loaded, problems, files, ended, refused } = load::load(&path, None, None, &home, |config| {
        let state = state_folder(config);
        let edits = opened.insert(Edits::open(&state));
        let edits = edits.as_ref().map(|(edits, _)| edits.layer().clone()).unwrap_or_default();
        Over { shared: config.shared().map(|(resolver, table)| Shared::open(resolver, table, &state)), edits }
    });
    let Some((mut loaded, opened)) = loaded.zip(opened) else { return Err(StartError::Files(problems)) };
    let (edits, damage) = opened.map_err(StartError::Edits)?;
    let log = Log::start(&loaded.config.log);
    load::log_problems(&problems);
    load::log_problems(&refused);
    match damage {
        Some(damage @ Damage::Lost { .. }) => error!("{damage}"),
        Some(damage @ Damage::Torn { .. }) => warn!("{damage}"),
        None => {}
    }
    descriptors::raise();

    let workers = Workers::start().map_err(|error| StartError::System("cannot start the threads that serve", error))?;
    let workers = Arc::new(workers);
    let mut doors = Doors::new(Arc::clone(&workers));
    let (control, asks) = Control::new();
    let (prepared, questions) =
        prepare(&doors, &loaded.config, control, &home, &mut inherited).map_err(StartError::Bind)?;
    for unused in inherited.left() {
        warn!(address = %unused, "the service manager handed over a socket that the configuration does not name");
    }

    let shared = loaded.shared.take();
    let daemon = Arc::new(Daemon::new(loaded, Arc::downgrade(&workers)));
    // The doors have them from here on.
    drop(workers);
    doors.open(&daemon, prepared);
    if let Some(questions) = questions {
        let cannot = |error| StartError::System("cannot answer at the registrar's addresses", error);
        questions.open(&daemon).map_err(cannot)?;
    }
    // Before anybody is told: who sees that the daemon serves may change a file at once.
    let mut reloader = Reloader::new(Arc::clone(&daemon), Parts { doors, log, files, edits, asks, home, shared });
    reloader.end(ended).await;
    tokio::select! {
        () = end.asked() => {}
        () = serve(&daemon, &mut reloader, &mut hangup) => {}
    }
    drain(&daemon, reloader, end).await;
    Ok(())
}

/// Says that the daemon serves, as soon as it has what it should, and keeps it in step from then on.
async fn serve(daemon: &Daemon, reloader: &mut Reloader, hangup: &mut Signal) {
    reloader.first_read().await;
    {
        let (snapshot, config) = (daemon.snapshot(), daemon.config());
        let (generation, routes, removed) = (snapshot.generation, snapshot.table.len(), snapshot.removed.len());
        let version = env!("CARGO_PKG_VERSION");
        info!(version, config = %config.path.display(), generation, routes, removed, "serving");
    }
    systemd::ready(&reloader.status());
    reloader.run(hangup).await;
}

/// Binds every door, and the sockets where the registrar is asked.
fn prepare(
    doors: &Doors,
    config: &Config,
    control: Control,
    home: &Home,
    inherited: &mut Inherited,
) -> Result<(Vec<Prepared>, Option<Questions>), Vec<BindError>> {
    let path = socket_path(config, inherited);
    let admin = admin_path(config, &path, inherited);
    let socket = doors.prepare_socket(path, &config.socket.access, inherited).map_err(|error| vec![error])?;
    let admin = doors.prepare_admin(admin, &config.admin.access, control, inherited).map_err(|error| vec![error])?;
    let mut prepared = doors.prepare_forwards(&config.forwards, inherited)?;
    prepared.extend([socket, admin]);
    let Some(config) = &config.registrar else { return Ok((prepared, None)) };
    let (registrations, questions) = doors.prepare_registrar(config, home.nodes(), inherited)?;
    prepared.extend(registrations);
    Ok((prepared, Some(questions)))
}

async fn drain(daemon: &Daemon, mut reloader: Reloader, mut end: End) {
    let timeout = daemon.config().limits.drain_timeout;
    let open = daemon.admission.open();
    info!(open, ?timeout, "draining; a second signal ends at once");
    systemd::stopping(&format!("draining, {open} open"));
    daemon.drain.begin();
    reloader.shut_doors();
    let in_order = daemon.drain.in_order(timeout, end.asked()).await;
    let relays = daemon.admission.open();
    daemon.relays.cut_all();
    daemon.drain.cut().await;
    if in_order || relays == 0 {
        info!("ended");
    } else {
        warn!(relays, "ended; what was still open was cut");
    }
    reloader.finish();
}

/// The signals that end the daemon.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The signals that end the daemon, and the one that reloads.
fn signals() -> std::io::Result<(End, Signal)> {
    let end = End { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    Ok((end, signal(SignalKind::hangup())?))
}
