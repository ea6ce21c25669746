//! The shared table of this daemon: what it holds, what of that is in force, and its copy on disk.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Copy, Opened, copy_folder};
use super::feed::Link;
use super::held::{Change, Held};
use super::keys::Keys;
use super::layer::{Laid, Layer, Tables};
use crate::config::{EtcdResolver, Problem};
use crate::edits;
use crate::etcd::EtcdConfig;
use crate::plan::Snapshot;

/// The shared table of a daemon.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The resolver that it comes through.
    name: Arc<str>,
    /// Where that asks.
    etcd: EtcdConfig,
    layer: Layer,
    held: Held,
    copy: Arc<Mutex<Option<Copy>>>,
    /// What is wrong with the copy, until it was told.
    warning: Option<Problem>,
    link: Arc<Link>,
}

/// What the shared table gave to the table in force.
#[derive(Debug, Clone)]
pub struct Summary {
    /// `etcd:NAME`
    pub table: Arc<str>,
    /// The revision of etcd; 0: it was never read.
    pub revision: i64,
    /// When what is in force was pushed, and by whom; `None`: nothing was.
    pub pushed: Option<(String, String)>,
    /// Its routes in the table; those that an edit hides are among them.
    pub routes: usize,
    /// Its routes that are not, because a file or another of its own has their pattern.
    pub shadowed: usize,
    /// The keys whose values are refused, and why.
    pub refused: Vec<(String, Arc<str>)>,
    /// How it stands between this daemon and etcd.
    pub link: Arc<Link>,
}

impl Shared {
    /// The table as it was when the copy on disk was kept. Blocks on the disk.
    pub fn open(name: &Arc<str>, resolver: &EtcdResolver, state: &Path) -> Self {
        Self::of(name, resolver, Copy::open(&copy_folder(state, name), &resolver.table.prefix))
    }

    /// The same, of which nothing will be kept: a daemon may be at it.
    pub fn read(name: &Arc<str>, resolver: &EtcdResolver, state: &Path) -> Self {
        Self::of(name, resolver, Copy::read(&copy_folder(state, name), &resolver.table.prefix))
    }

    fn of(name: &Arc<str>, EtcdResolver { etcd, table, .. }: &EtcdResolver, opened: Opened) -> Self {
        let layer = Layer::new(format!("etcd:{name}").into(), Keys::new(&table.prefix), table.rules.clone());
        let Opened { copy, held, warning } = opened;
        let (name, etcd, copy) = (Arc::clone(name), etcd.clone(), Arc::new(Mutex::new(copy)));
        Self { name, etcd, layer, held, copy, warning, link: Arc::default() }
    }

    /// The table of another configuration, to be laid over other files; `None` if it comes through another resolver.
    pub fn following(&self, name: &Arc<str>, resolver: &EtcdResolver, state: &Path) -> Option<Self> {
        if self.name != *name {
            return None;
        }
        let (EtcdResolver { etcd, table, .. }, copy) = (resolver, Arc::clone(&self.copy));
        if self.layer.keys.prefix() != &*table.prefix {
            // The copy is this process's already, and will be of this table once there is something to be kept.
            return Some(Self { copy, ..Self::read(name, resolver, state) });
        }
        let (held, link) = (self.held.clone(), Arc::clone(&self.link));
        let layer = self.layer.anew(table.rules.clone());
        Some(Self { name: Arc::clone(name), etcd: etcd.clone(), layer, held, copy, warning: None, link })
    }

    /// Whether both are kept up to date by the same questions.
    pub fn is_asked_as(&self, other: &Self) -> bool {
        self.etcd == other.etcd && self.layer.keys == other.layer.keys
    }

    /// Where etcd is, and who asks.
    pub fn etcd(&self) -> &EtcdConfig {
        &self.etcd
    }

    /// How it stands between this daemon and etcd.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.layer.keys
    }

    /// What it holds.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// What is said of it.
    pub fn summary(&self) -> Summary {
        let head = self.held.head.as_deref();
        Summary {
            table: Arc::clone(&self.layer.table),
            revision: self.held.revision,
            pushed: head.map(|head| (head.at.clone(), head.by.clone())),
            routes: self.layer.standing(),
            shadowed: self.layer.shadowed(),
            refused: self.layer.refused(head),
            link: Arc::clone(&self.link),
        }
    }

    /// Lays all of it over a table of files.
    pub fn lay(&mut self, tables: &mut Tables<'_>) -> Laid {
        let mut laid = self.layer.follow(&self.held.whole(), tables);
        laid.problems.extend(self.warning.take());
        laid
    }

    /// Makes a step beside the snapshot in force, with the edits over it. Blocks on the files of TLS policies.
    pub fn follow(&mut self, change: &Change, old: &Snapshot, edits: &edits::Layer) -> (Snapshot, Laid) {
        let mut next = old.next();
        let mut trusts = old.trusts.extended();
        let resolvers: Vec<_> = old.resolvers.iter().map(|resolver| Arc::clone(resolver.name())).collect();
        self.held.follow(change);
        let (table, removed) = (&mut next.table, &mut next.removed);
        let mut tables = Tables { table, removed, edits, trusts: Some(&mut trusts), resolvers: &resolvers };
        let laid = self.layer.follow(change, &mut tables);
        next.trust(trusts);
        if (laid.added, laid.removed, laid.changed) == (0, 0, 0) {
            next.generation = old.generation;
        }
        next.shared = Some(Arc::new(self.summary()));
        (next, laid)
    }

    /// Keeps a step that was made. Blocks on the disk.
    pub fn keep(&self, change: &Change) {
        if let Some(copy) = self.copy.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            copy.keep(self.keys().prefix(), change, &self.held);
        }
    }
}
