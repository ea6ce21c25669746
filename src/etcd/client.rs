//! One client for each endpoint, in turn: the library's own balancing has no failover inside a call. Every call ends in
//! time.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, Identity, TlsOptions, WatchOptions, WatchStream,
};
use tokio::time::timeout;

use super::{EtcdConfig, EtcdError};
use crate::aside::blocking;

/// A call takes no longer.
const CALL: Duration = Duration::from_secs(5);
/// How long a connection may be silent before it is asked whether it is there. etcd hangs up on who asks more often than
/// every 5 s.
const PING: Duration = Duration::from_secs(10);
/// A response may be so large: the events of one transaction come in one.
const MAX_BYTES: usize = 64 << 20;

/// etcd, at one of its endpoints.
#[derive(Debug)]
pub struct Etcd {
    config: EtcdConfig,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    /// Counts the endpoints that were left.
    turn: usize,
    client: Option<Client>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value; `None`: there is no such key.
    pub value: Option<Vec<u8>>,
    /// The revision of the whole store at which that is so.
    pub revision: i64,
}

/// A key that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; `None`: it is gone.
    pub value: Option<Vec<u8>>,
    /// When it changed.
    pub revision: i64,
}

/// Changes as they come.
#[derive(Debug)]
pub struct Watching {
    stream: WatchStream,
    endpoint: String,
}

impl Etcd {
    /// Nobody is asked yet.
    pub fn new(config: EtcdConfig) -> Self {
        Self { config, connection: Mutex::default() }
    }

    /// The value of a key.
    pub async fn get(&self, key: String) -> Result<Found, EtcdError> {
        let found = self.call(async |client: Client| {
            client.kv_client().max_decoding_message_size(MAX_BYTES).get(key.as_str(), None).await
        });
        let found = found.await?;
        let revision = found.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Found { value: found.kvs().first().map(|found| found.value().to_vec()), revision })
    }

    /// The revision of the whole store.
    pub async fn revision(&self, prefix: &str) -> Result<i64, EtcdError> {
        let found = self.call(async |mut client: Client| {
            client.get(prefix, Some(GetOptions::new().with_prefix().with_count_only())).await
        });
        Ok(found.await?.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Everything that changes from this revision on under a prefix.
    pub async fn watch(&self, prefix: &str, from: i64) -> Result<Watching, EtcdError> {
        let endpoint = self.endpoint();
        let stream = self.call(async |client: Client| {
            let options = WatchOptions::new().with_prefix().with_start_revision(from).with_progress_notify();
            client.watch_client().max_decoding_message_size(MAX_BYTES).watch(prefix, Some(options)).await
        });
        Ok(Watching { stream: stream.await?, endpoint })
    }

    /// One call, in time. After one that has failed, the next endpoint has its turn.
    async fn call<T>(&self, call: impl AsyncFnOnce(Client) -> Result<T, Error>) -> Result<T, EtcdError> {
        let (turn, known) = {
            let connection = self.connection();
            (connection.turn, connection.client.clone())
        };
        let endpoint = self.endpoint();
        // In a box: the library's futures are large.
        let calling = Box::pin(async {
            let client = match known {
                Some(client) => client,
                None => connect(&self.config, &endpoint).await?,
            };
            Ok::<_, Failure>((call(client.clone()).await?, client))
        });
        let called = timeout(CALL, calling);
        let why = match called.await {
            Ok(Ok((done, client))) => {
                let mut connection = self.connection();
                if connection.turn == turn {
                    connection.client.get_or_insert(client);
                }
                return Ok(done);
            }
            Ok(Err(Failure::Etcd(error))) if told(&error).contains("has been compacted") => {
                return Err(EtcdError::Compacted);
            }
            Ok(Err(Failure::Etcd(error))) => told(&error),
            Ok(Err(Failure::File(why))) => why,
            Err(_elapsed) => format!("no answer within {} s", CALL.as_secs()),
        };
        self.leave(turn);
        Err(EtcdError::Away { endpoint, why })
    }

    /// Nothing more is asked of the endpoint that had this turn, until its turn comes again.
    fn leave(&self, turn: usize) {
        let mut connection = self.connection();
        if connection.turn == turn {
            *connection = Connection { turn: turn.wrapping_add(1), client: None };
        }
    }

    fn endpoint(&self) -> String {
        let at = self.connection().turn.checked_rem(self.config.endpoints.len()).unwrap_or_default();
        self.config.endpoints.get(at).cloned().unwrap_or_default()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // Nothing that holds the lock can panic half-way through a change.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call has failed.
enum Failure {
    Etcd(Error),
    File(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Etcd(error)
    }
}

/// Files and secrets are read anew: they may have changed since.
async fn connect(config: &EtcdConfig, endpoint: &str) -> Result<Client, Failure> {
    let config = config.clone();
    let read = blocking(move || options(&config)).await;
    let options = read.map_err(|panic| Failure::File(panic.to_string()))?.map_err(Failure::File)?;
    Ok(Client::connect([endpoint], Some(options)).await?)
}

fn options(config: &EtcdConfig) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CALL)
        .with_keep_alive(PING, CALL)
        .with_keep_alive_while_idle(true)
        .with_tcp_keepalive(PING);
    if let Some((user, password)) = &config.user {
        options = options.with_user(user, password.read()?).with_auto_token_refresh(true);
    }
    let file = |path: &Path| fs::read(path).map_err(|error: io::Error| format!("{}: {error}", path.display()));
    if let Some(tls) = &config.tls {
        let mut with = TlsOptions::new();
        if let Some(ca) = &tls.ca {
            with = with.ca_certificate(Certificate::from_pem(file(ca)?));
        } else {
            with = with.with_native_roots();
        }
        if let Some((cert, key)) = &tls.identity {
            with = with.identity(Identity::from_pem(file(cert)?, file(key)?));
        }
        if let Some(name) = &tls.server_name {
            with = with.domain_name(name);
        }
        options = options.with_tls(with);
    }
    Ok(options)
}

fn told(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

impl Watching {
    /// What comes next; none of it where only the watch itself is told of.
    pub async fn next(&mut self) -> Result<Vec<Event>, EtcdError> {
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
        Ok(response.events().iter().filter_map(event).collect())
    }
}

/// The library panics when it is asked for the kind of an event that it does not know: a key that is gone never came to
/// be.
fn event(event: &etcd_client::Event) -> Option<Event> {
    let found = event.kv()?;
    let value = (found.create_revision() > 0).then(|| found.value().to_vec());
    Some(Event { key: found.key().to_vec(), value, revision: found.mod_revision() })
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("turn", &self.turn).finish_non_exhaustive()
    }
}
