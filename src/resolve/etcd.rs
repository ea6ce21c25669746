//! What Ergo's etcd registrar writes (etcd/client.go of ergo-services/registrar): a key for each node, whose value is its
//! routes in EDF and base64. From the first question on the keys are watched, and what is known follows them.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{Answers, Ask, Asking, NoAnswer, Updates};
use crate::dial::Dice;
use crate::dialect::ergo::{answers, routes_from_base64};
use crate::etcd::{Etcd, EtcdConfig, EtcdError, Event};
use crate::node::NodeName;

/// Asks etcd for nodes.
#[derive(Debug, Clone)]
pub struct EtcdNodes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    etcd: Etcd,
    /// What each key begins with; the node's name follows.
    prefix: String,
    /// What follows them, from the first question on.
    watch: OnceLock<AbortHandle>,
    updates: OnceLock<Weak<dyn Updates>>,
    dice: Dice,
}

/// The first pause after a watch that was lost, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl EtcdNodes {
    /// Nothing is asked yet.
    pub fn new(config: EtcdConfig, prefix: String) -> Self {
        let (etcd, dice) = (Etcd::new(config), Dice::random());
        Self(Arc::new(Inner { etcd, prefix, watch: OnceLock::new(), updates: OnceLock::new(), dice }))
    }
}

impl Ask for EtcdNodes {
    fn ask(&self, node: NodeName) -> Asking {
        let this = Arc::clone(&self.0);
        Box::pin(async move {
            this.watch.get_or_init(|| tokio::spawn(watch(Arc::downgrade(&this))).abort_handle());
            let found = this.etcd.get(format!("{}{node}", this.prefix)).await;
            let found = found.map_err(|error| NoAnswer::Away(error.to_string()))?;
            this.read(&node, found.value.as_ref().map(|(value, _)| value.as_slice()))
        })
    }

    fn tell(&self, updates: Weak<dyn Updates>) {
        drop(self.0.updates.set(updates));
    }
}

impl Inner {
    fn read(&self, node: &NodeName, value: Option<&[u8]>) -> Result<Answers, NoAnswer> {
        let Some(value) = value else { return Err(NoAnswer::Unknown { ttl: None }) };
        let garbled = |why: String| NoAnswer::Garbled(format!("the key {}{node}: {why}", self.prefix));
        let routes = routes_from_base64(value).map_err(|bad| garbled(bad.to_string()))?;
        match answers(node, &routes) {
            Some(list) => Ok(Answers { list, ttl: None }),
            // A node that listens nowhere is registered all the same.
            None if routes.is_empty() => Err(NoAnswer::Unknown { ttl: None }),
            None => Err(garbled("it has no route that leads anywhere".to_owned())),
        }
    }

    fn updates(&self) -> Option<Arc<dyn Updates>> {
        self.updates.get()?.upgrade()
    }

    /// Says what has changed, if somebody has asked for it.
    fn tell(&self, event: &Event) -> Option<()> {
        let name = event.key.strip_prefix(self.prefix.as_bytes())?;
        let node = NodeName::from_bytes(name).ok()?;
        let version = u64::try_from(event.revision).unwrap_or_default();
        self.updates()?.put(&node, self.read(&node, event.put.as_ref().map(|(value, _)| value.as_slice())), version);
        Some(())
    }
}

/// It may be long until etcd says something: the watch ends with the resolver all the same.
impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get() {
            watch.abort();
        }
    }
}

/// Watches until the resolver is gone.
async fn watch(inner: Weak<Inner>) {
    let (mut pause, mut was_told) = (PAUSES.0, false);
    loop {
        let Some(this) = inner.upgrade() else { return };
        let Err(error) = follow(this, &mut pause, &mut was_told, &inner).await else { return };
        let Some(this) = inner.upgrade() else { return };
        if let Some(updates) = this.updates() {
            updates.doubt();
        }
        if error == EtcdError::Compacted {
            debug!(prefix = this.prefix, "etcd has forgotten what has changed since; the watch begins anew");
        } else if !was_told {
            was_told = true;
            warn!(prefix = this.prefix, %error, "the watch of etcd is lost; answers hold for their `ttl` until it is back");
        }
        let jittered = this.dice.jittered(pause);
        pause = (2 * pause).min(PAUSES.1);
        drop(this);
        sleep(jittered).await;
    }
}

/// One watch, until it is lost; `Ok` when the resolver is gone.
async fn follow(
    this: Arc<Inner>,
    pause: &mut Duration,
    was_told: &mut bool,
    inner: &Weak<Inner>,
) -> Result<(), EtcdError> {
    let from = this.etcd.revision(&this.prefix).await?;
    let mut watching = this.etcd.watch(&this.prefix, from + 1).await?;
    // What was learnt before may have changed before the watch began.
    if let Some(updates) = this.updates() {
        updates.doubt();
    }
    if std::mem::take(was_told) {
        info!(prefix = this.prefix, "etcd is watched again");
    }
    *pause = PAUSES.0;
    drop(this);
    loop {
        let heard = watching.next().await?;
        let Some(this) = inner.upgrade() else { return Ok(()) };
        for event in &heard.events {
            // Of names that nobody asks for nothing is kept.
            let _told = this.tell(event);
        }
    }
}
