//! etcd, as far as a shared table needs it: pages at a revision, a watch, transactions, and a key that ends with us.
//! Every call ends in time, and one that has failed goes to the next endpoint.

use std::time::Duration;

use etcd_client::{
    Client, Compare as When, CompareOp, ConnectOptions, DeleteOptions, Error, GetOptions, PutOptions, Txn as EtcdTxn,
    TxnOp, WatchOptions, WatchStream,
};
use tokio::time::timeout;

use super::follow::{Event, KeyValue};
use super::push::{Compare, Op, Txn};
use crate::config::{ResolverConfig, ResolverKind};

/// A call takes no longer.
const CALL: Duration = Duration::from_secs(5);

/// A watch that is silent for longer has ended: etcd tells of its progress every ten minutes, and a ping that nobody
/// answers ends it before.
const PING: Duration = Duration::from_secs(10);

/// A response may be so large: 64 MiB. A transaction's events come in one.
const MAX_BYTES: usize = 64 << 20;

/// Keys of one page.
const PAGE: i64 = 1000;

/// etcd, at one of its endpoints.
#[derive(Debug)]
pub struct Etcd {
    endpoints: Vec<String>,
    /// Which of them is the next to be tried.
    next: usize,
    client: Option<Connected>,
}

struct Connected(Client);

/// Why etcd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// It has forgotten the revision.
    #[error("the revision is compacted away")]
    Compacted,
    /// No answer, or another one.
    #[error("etcd at {endpoint}: {why}")]
    Away {
        /// Who was asked.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
}

/// Some keys at a revision.
#[derive(Debug)]
pub struct Page {
    /// Who said so.
    pub cluster: u64,
    /// The revision at which the cluster was.
    pub revision: i64,
    /// The keys.
    pub keys: Vec<KeyValue>,
    /// Whether there are more.
    pub has_more: bool,
}

/// What a watch says at a time.
#[derive(Debug)]
pub struct Heard {
    /// Who said so.
    pub cluster: u64,
    /// The revision at which the cluster was.
    pub revision: i64,
    /// Everything up to there has been told.
    pub is_progress: bool,
    /// What has changed, revision by revision; none is split between two of these.
    pub events: Vec<Event>,
}

/// Changes as they come.
#[derive(Debug)]
pub struct Watching {
    stream: WatchStream,
    endpoint: String,
}

impl Etcd {
    /// The one that a resolver asks; of another kind, there is none to ask.
    pub fn of(resolver: &ResolverConfig) -> Self {
        let endpoints = match &resolver.kind {
            ResolverKind::Etcd(etcd) => etcd.endpoints.clone(),
            ResolverKind::Static(_) => Vec::new(),
        };
        Self::new(endpoints)
    }

    /// Nobody is asked yet. Who is the first differs from one daemon to the next.
    pub fn new(endpoints: Vec<String>) -> Self {
        let next = std::process::id() as usize;
        Self { endpoints, next, client: None }
    }

    fn endpoint(&self) -> String {
        let at = self.next.checked_rem(self.endpoints.len()).unwrap_or_default();
        self.endpoints.get(at).cloned().unwrap_or_default()
    }

    /// One call, in time. After one that has failed, another endpoint is the next.
    async fn call<T, F: Future<Output = Result<T, Error>>>(
        &mut self,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, EtcdError> {
        let endpoint = self.endpoint();
        let known = self.client.take().map(|Connected(client)| client);
        let called = timeout(CALL, async {
            let client = match known {
                Some(client) => client,
                None => connect(&endpoint).await?,
            };
            Ok((call(client.clone()).await?, client))
        });
        let away = |why: String| EtcdError::Away { endpoint: endpoint.clone(), why };
        match called.await {
            Ok(Ok((done, client))) => {
                self.client = Some(Connected(client));
                Ok(done)
            }
            Ok(Err(error)) if is_compacted(&error) => Err(EtcdError::Compacted),
            Ok(Err(error)) => {
                self.next = self.next.wrapping_add(1);
                Err(away(told(&error)))
            }
            Err(_elapsed) => {
                self.next = self.next.wrapping_add(1);
                Err(away(format!("no answer within {} s", CALL.as_secs())))
            }
        }
    }

    /// The first keys from `from` on and before `to`, in their order, as of a revision; 0 is the newest.
    pub async fn page(&mut self, from: Vec<u8>, to: Vec<u8>, revision: i64) -> Result<Page, EtcdError> {
        let options = GetOptions::new().with_range(to).with_limit(PAGE).with_revision(revision);
        let mut found = self
            .call(|client| async move {
                client.kv_client().max_decoding_message_size(MAX_BYTES).get(from, Some(options)).await
            })
            .await?;
        let (cluster, revision) = found.header().map_or((0, 0), |header| (header.cluster_id(), header.revision()));
        let has_more = found.more();
        let key = |found: etcd_client::KeyValue| {
            let created = found.create_revision();
            let (key, value) = found.into_key_value();
            KeyValue { key, value, created }
        };
        Ok(Page { cluster, revision, keys: found.take_kvs().into_iter().map(key).collect(), has_more })
    }

    /// A key, and the revision at which it was put last.
    pub async fn get(&mut self, key: String) -> Result<Option<(String, i64)>, EtcdError> {
        let found = self.call(|mut client| async move { client.get(key, None).await }).await?;
        let found = found.kvs().first();
        Ok(found.map(|found| (String::from_utf8_lossy(found.value()).into_owned(), found.mod_revision())))
    }

    /// The first key from `from` on and before `to`.
    pub async fn first(&mut self, from: Vec<u8>, to: Vec<u8>) -> Result<Option<Vec<u8>>, EtcdError> {
        let options = GetOptions::new().with_range(to).with_limit(1).with_keys_only();
        let found = self.call(|mut client| async move { client.get(from, Some(options)).await }).await?;
        Ok(found.kvs().first().map(|found| found.key().to_vec()))
    }

    /// Everything that changes from this revision on under a prefix.
    pub async fn watch(&mut self, prefix: &str, from: i64) -> Result<Watching, EtcdError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from).with_progress_notify();
        let endpoint = self.endpoint();
        let stream = self
            .call(|client| async move {
                client.watch_client().max_decoding_message_size(MAX_BYTES).watch(prefix, Some(options)).await
            })
            .await?;
        Ok(Watching { stream, endpoint })
    }

    /// Runs a transaction, and tells whether what it compares did hold. With `lease` its puts end with that.
    pub async fn run(&mut self, txn: &Txn, lease: Option<i64>) -> Result<bool, EtcdError> {
        let when: Vec<_> = txn.when.iter().map(when).collect();
        let then: Vec<_> = txn.then.iter().map(|op| then(op, lease)).collect();
        let txn = EtcdTxn::new().when(when).and_then(then);
        let done = self.call(|mut client| async move { client.txn(txn).await }).await?;
        Ok(done.succeeded())
    }

    /// A lease of so many seconds.
    pub async fn lease(&mut self, seconds: i64) -> Result<i64, EtcdError> {
        let lease = self.call(|mut client| async move { client.lease_grant(seconds, None).await }).await?;
        Ok(lease.id())
    }

    /// Begins the time of a lease anew.
    pub async fn keep_alive(&mut self, lease: i64) -> Result<(), EtcdError> {
        let kept = self.call(|mut client| async move {
            let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
            keeper.keep_alive().await?;
            answers.message().await
        });
        kept.await.map(drop)
    }

    /// Ends a lease, and its keys with it.
    pub async fn end_lease(&mut self, lease: i64) -> Result<(), EtcdError> {
        self.call(|mut client| async move { client.lease_revoke(lease).await }).await.map(drop)
    }
}

async fn connect(endpoint: &str) -> Result<Client, Error> {
    let options = ConnectOptions::new()
        .with_connect_timeout(CALL)
        .with_keep_alive(PING, CALL)
        .with_keep_alive_while_idle(true)
        .with_tcp_keepalive(PING);
    Client::connect([endpoint], Some(options)).await
}

fn is_compacted(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains("has been compacted"))
}

fn told(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

fn when(compare: &Compare) -> When {
    match compare {
        Compare::Modified(key, revision) => When::mod_revision(key.as_str(), CompareOp::Equal, *revision),
        Compare::There(key) => When::create_revision(key.as_str(), CompareOp::Greater, 0),
    }
}

fn then(op: &Op, lease: Option<i64>) -> TxnOp {
    match op {
        Op::Put(key, value) => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease));
            TxnOp::put(key.as_str(), value.as_str(), options)
        }
        Op::Delete(key) => TxnOp::delete(key.as_str(), None),
        Op::DeleteAll(prefix) => TxnOp::delete(prefix.as_str(), Some(DeleteOptions::new().with_prefix())),
    }
}

impl Watching {
    /// What comes next.
    pub async fn next(&mut self) -> Result<Heard, EtcdError> {
        let away = |why: String| EtcdError::Away { endpoint: self.endpoint.clone(), why };
        let response = match self.stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(away("the watch has ended".to_owned())),
            Err(error) => return Err(away(told(&error))),
        };
        if response.compact_revision() > 0 {
            return Err(EtcdError::Compacted);
        }
        if response.canceled() {
            return Err(away(format!("the watch is refused: {}", response.cancel_reason())));
        }
        let (cluster, revision) = response.header().map_or((0, 0), |header| (header.cluster_id(), header.revision()));
        let events: Vec<_> = response.events().iter().filter_map(event).collect();
        let is_progress = events.is_empty() && !response.created();
        Ok(Heard { cluster, revision, is_progress, events })
    }
}

fn event(event: &etcd_client::Event) -> Option<Event> {
    let found = event.kv()?;
    // One that is gone never came to be.
    let put = (found.create_revision() > 0).then(|| (found.value().to_vec(), found.create_revision()));
    Some(Event { revision: found.mod_revision(), key: found.key().to_vec(), put })
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connected")
    }
}
