//! One client for each endpoint, in turn: the library's own balancing has no failover inside a call. Every call ends in
//! time, and one that has failed, or that nobody waits for any more, goes to the next endpoint.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{
    Client, DeleteOptions, Error, GetOptions, PutOptions, ResponseHeader, Txn as EtcdTxn, TxnOp, WatchOptions,
    WatchStream,
};
use tokio::time::timeout;

use super::connect::{CALL, Failure, connect, told};
use super::{Compare, EtcdConfig, EtcdError, Event, Found, Heard, KeyValue, Op, Page, Txn};

/// A small question takes no longer where there is another endpoint to be asked: less than a resolver's `timeout`.
const SMALL: Duration = Duration::from_secs(1);

/// A transaction may take so long: etcd is slow while a fleet is being told of the one before.
const RUN: Duration = Duration::from_secs(30);

/// A response may be so large: 64 MiB. The events of one transaction come in one.
const MAX_BYTES: usize = 64 << 20;

/// Keys of one page, at least and at most. A page that did not come, because its values are large or the way is slow, is
/// asked for with a tenth of them; so few are smaller than a response may be, as etcd takes no value above 1.5 MiB.
const PAGE: (i64, i64) = (10, 1000);

/// etcd, at one of its endpoints.
#[derive(Debug, Clone)]
pub struct Etcd {
    config: Arc<EtcdConfig>,
    connection: Arc<Mutex<Connection>>,
}

struct Connection {
    /// Counts the endpoints that were left.
    turn: usize,
    client: Option<Client>,
    /// Keys of the next page.
    page: i64,
}

/// An endpoint that is being asked. Unless it answers, it is left.
struct Turn<'a> {
    etcd: &'a Etcd,
    turn: usize,
    has_answered: bool,
}

/// Changes as they come.
#[derive(Debug)]
pub struct Watching {
    stream: WatchStream,
    endpoint: String,
    etcd: Etcd,
    turn: usize,
}

impl Etcd {
    /// Nobody is asked yet. Which endpoint is the first differs from one daemon to the next.
    pub fn new(config: EtcdConfig) -> Self {
        let first = RandomState::new().hash_one(()) % config.endpoints.len().max(1) as u64;
        let connection = Connection { turn: usize::try_from(first).unwrap_or_default(), client: None, page: PAGE.1 };
        Self { config: Arc::new(config), connection: Arc::new(Mutex::new(connection)) }
    }

    /// The value of a key.
    pub async fn get(&self, key: String) -> Result<Found, EtcdError> {
        let get = |client: Client| {
            let key = key.clone();
            async move { client.kv_client().max_decoding_message_size(MAX_BYTES).get(key, None).await }
        };
        let found = self.ask(get).await?;
        let value = found.kvs().first().map(|found| (found.value().to_vec(), found.mod_revision()));
        Ok(Found { value, revision: at(found.header()).1 })
    }

    /// The revision of the whole store.
    pub async fn revision(&self, prefix: &str) -> Result<i64, EtcdError> {
        let count = |mut client: Client| {
            let prefix = prefix.to_owned();
            async move { client.get(prefix, Some(GetOptions::new().with_prefix().with_count_only())).await }
        };
        Ok(at(self.ask(count).await?.header()).1)
    }

    /// The first key from `from` on and before `to`.
    pub async fn first(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, EtcdError> {
        let get = |mut client: Client| {
            let options = GetOptions::new().with_range(to).with_limit(1).with_keys_only();
            let from = from.to_vec();
            async move { client.get(from, Some(options)).await }
        };
        Ok(self.ask(get).await?.kvs().first().map(|found| found.key().to_vec()))
    }

    /// The first keys from `from` on and before `to`, in their order, as of a revision; 0 is the newest.
    pub async fn page(&self, from: &[u8], to: &[u8], revision: i64) -> Result<Page, EtcdError> {
        let limit = self.connection().page;
        let options = GetOptions::new().with_range(to).with_limit(limit).with_revision(revision);
        let from = from.to_vec();
        let get = |client: Client| async move {
            client.kv_client().max_decoding_message_size(MAX_BYTES).get(from, Some(options)).await
        };
        let found = self.call(get).await;
        self.connection().page = match &found {
            Ok(_) => (2 * limit).min(PAGE.1),
            Err(EtcdError::Compacted) => limit,
            Err(_) => (limit / 10).max(PAGE.0),
        };
        let mut found = found?;
        let (cluster, revision) = at(found.header());
        let key = |found: etcd_client::KeyValue| {
            let created = found.create_revision();
            let (key, value) = found.into_key_value();
            KeyValue { key, value, created }
        };
        let has_more = found.more();
        Ok(Page { cluster, revision, keys: found.take_kvs().into_iter().map(key).collect(), has_more })
    }

    /// Everything that changes from this revision on under a prefix.
    pub async fn watch(&self, prefix: &str, from: i64) -> Result<Watching, EtcdError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from).with_progress_notify();
        let prefix = prefix.to_owned();
        let watch = |client: Client| async move {
            client.watch_client().max_decoding_message_size(MAX_BYTES).watch(prefix, Some(options)).await
        };
        let (stream, turn) = self.at_turn(CALL, watch).await?;
        Ok(Watching { stream, endpoint: self.endpoint(turn), etcd: self.clone(), turn })
    }

    /// Runs a transaction, and tells whether what it compares did hold. With `lease` its puts end with that.
    pub async fn run(&self, txn: &Txn, lease: Option<i64>) -> Result<bool, EtcdError> {
        let when: Vec<_> = txn.when.iter().map(when).collect();
        let then: Vec<_> = txn.then.iter().map(|op| then(op, lease)).collect();
        let txn = EtcdTxn::new().when(when).and_then(then);
        let (done, _) = self.at_turn(RUN, |mut client: Client| async move { client.txn(txn).await }).await?;
        Ok(done.succeeded())
    }

    /// A lease of so many seconds.
    pub async fn lease(&self, seconds: i64) -> Result<i64, EtcdError> {
        let lease = self.call(|mut client: Client| async move { client.lease_grant(seconds, None).await });
        Ok(lease.await?.id())
    }

    /// Begins the time of a lease anew.
    pub async fn keep_alive(&self, lease: i64) -> Result<(), EtcdError> {
        let kept = self.call(|mut client: Client| async move {
            let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
            keeper.keep_alive().await?;
            answers.message().await
        });
        kept.await.map(drop)
    }

    /// Ends a lease, and its keys with it.
    pub async fn end_lease(&self, lease: i64) -> Result<(), EtcdError> {
        self.call(|mut client: Client| async move { client.lease_revoke(lease).await }).await.map(drop)
    }

    /// A small question, which may be asked of every endpoint.
    async fn ask<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut others = self.config.endpoints.len().saturating_sub(1);
        let bound = if others == 0 { CALL } else { SMALL };
        loop {
            match self.at_turn(bound, &call).await {
                Ok((done, _)) => return Ok(done),
                Err(EtcdError::Away { .. }) if others > 0 => others -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// One call, of one endpoint.
    async fn call<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        Ok(self.at_turn(CALL, call).await?.0)
    }

    async fn at_turn<T, F>(&self, bound: Duration, call: impl FnOnce(Client) -> F) -> Result<(T, usize), EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (turn, known) = {
            let connection = self.connection();
            (connection.turn, connection.client.clone())
        };
        let endpoint = self.endpoint(turn);
        let mut asked = Turn { etcd: self, turn, has_answered: false };
        // In a box: the library's futures are large.
        let calling = Box::pin(async {
            let client = match known {
                Some(client) => client,
                None => connect(&self.config, &endpoint).await?,
            };
            Ok::<_, Failure>((call(client.clone()).await?, client))
        });
        let why = match timeout(bound, calling).await {
            Ok(Ok((done, client))) => {
                asked.has_answered = true;
                self.keep(turn, client);
                return Ok((done, turn));
            }
            Ok(Err(Failure::Etcd(error))) if told(&error).contains("has been compacted") => {
                asked.has_answered = true;
                return Err(EtcdError::Compacted);
            }
            Ok(Err(failure)) => failure.to_string(),
            Err(_elapsed) => format!("no answer within {} s", bound.as_secs()),
        };
        Err(EtcdError::Away { endpoint, why })
    }

    fn keep(&self, turn: usize, client: Client) {
        let mut connection = self.connection();
        if connection.turn == turn {
            connection.client.get_or_insert(client);
        }
    }

    /// Nothing more is asked of the endpoint that had this turn, until its turn comes again.
    fn leave(&self, turn: usize) {
        let mut connection = self.connection();
        if connection.turn == turn {
            (connection.turn, connection.client) = (turn.wrapping_add(1), None);
        }
    }

    fn endpoint(&self, turn: usize) -> String {
        let at = turn.checked_rem(self.config.endpoints.len()).unwrap_or_default();
        self.config.endpoints.get(at).cloned().unwrap_or_default()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // Nothing that holds the lock can panic half-way through a change.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is dropped without an answer where a call fails, takes too long, or is not waited for.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.has_answered {
            self.etcd.leave(self.turn);
        }
    }
}

impl Watching {
    /// What comes next. After an error there is nothing more, and the endpoint is left.
    pub async fn next(&mut self) -> Result<Heard, EtcdError> {
        let why = match self.stream.message().await {
            Ok(Some(response)) if response.compact_revision() > 0 => return Err(EtcdError::Compacted),
            Ok(Some(response)) if response.canceled() => {
                format!("the watch is refused: {}", response.cancel_reason())
            }
            Ok(Some(response)) => {
                let (cluster, revision) = at(response.header());
                let events: Vec<_> = response.events().iter().filter_map(event).collect();
                let is_progress = events.is_empty() && !response.created();
                return Ok(Heard { cluster, revision, is_progress, events });
            }
            Ok(None) => "the watch has ended".to_owned(),
            Err(error) if told(&error).contains("message length too large") => return Err(EtcdError::TooMuch),
            Err(error) => told(&error),
        };
        self.etcd.leave(self.turn);
        Err(EtcdError::Away { endpoint: self.endpoint.clone(), why })
    }
}

/// The cluster and its revision.
fn at(header: Option<&ResponseHeader>) -> (u64, i64) {
    header.map_or((0, 0), |header| (header.cluster_id(), header.revision()))
}

/// The library panics when it is asked for the kind of an event that it does not know: a key that is gone never came to
/// be.
fn event(event: &etcd_client::Event) -> Option<Event> {
    let found = event.kv()?;
    let put = (found.create_revision() > 0).then(|| (found.value().to_vec(), found.create_revision()));
    Some(Event { revision: found.mod_revision(), key: found.key().to_vec(), put })
}

fn when(compare: &Compare) -> etcd_client::Compare {
    use etcd_client::{Compare as When, CompareOp};
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

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("turn", &self.turn).finish_non_exhaustive()
    }
}
