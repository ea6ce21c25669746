//! Servers that are asked for the records of a name, the next one where one fails or is silent.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::{Found, Said};
use super::sockets::Sockets;
use crate::resolve::NoAnswer;

/// How long a server may be silent before the next one is asked beside it: longer than one lost packet, which is sent
/// again after 333 ms.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a server may take; who asks is gone before that, as a rule.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many answers in a row may each say only that the name is another's alias.
const ALIASES: usize = 8;

/// Servers in the order in which they are asked.
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    list: Vec<Server>,
    /// The one that has said something last is asked first.
    first: AtomicUsize,
}

/// A server with its connections, over which several may ask at once.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    /// Of this server alone: which is asked when is not for the library to decide, as it takes a failure of one for
    /// everybody's.
    pool: NameServerPool<Sockets>,
}

impl Servers {
    /// Nothing is connected yet.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Result<Self, NoAnswer> {
        let list = addresses.iter().copied().map(Server::new).collect::<Result<_, _>>()?;
        Ok(Self { addresses, list, first: AtomicUsize::new(0) })
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The records of this kind that a name has, or those of the name that it is an alias of.
    pub(super) async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Found, NoAnswer> {
        let mut name = name.clone();
        let mut ttl = Duration::MAX;
        for _ in 0..ALIASES {
            let (server, response) = self.ask(&name, kind).await?;
            match Said::by(&response, &name, kind).map_err(|no| at(server, no))? {
                Said::Records(found) => return Ok(found.for_at_most(ttl)),
                Said::Nothing { ttl: nothing } => {
                    return Err(NoAnswer::Unknown { ttl: nothing.map(|nothing| nothing.min(ttl)) });
                }
                Said::Alias { of, ttl: alias } => {
                    name = of;
                    ttl = ttl.min(alias);
                }
            }
        }
        Err(NoAnswer::Garbled(format!("the name is an alias of an alias, and so on, more than {ALIASES} times")))
    }

    /// What the first server says that says anything, and which one that is.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<(SocketAddr, DnsResponse), NoAnswer> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.list.len());
        let mut waiting = (0..count).map(|place| (first + place) % count);
        let mut asked = JoinSet::new();
        let mut failure = NoAnswer::TimedOut;
        loop {
            if let Some((place, server)) = waiting.next().and_then(|place| Some((place, self.list.get(place)?.clone())))
            {
                let query = Query::query(name.clone(), kind);
                asked.spawn(async move { (place, server.ask(query).await) });
            }
            let patience = if waiting.len() == 0 { Duration::MAX } else { PATIENCE };
            match timeout(patience, asked.join_next()).await {
                Err(_silence) => {}
                Ok(None) => return Err(failure),
                Ok(Some(Ok((place, said)))) => match said {
                    Err(error) if !error.is_certain() => failure = telling(failure, error),
                    said => {
                        self.first.store(place, Ordering::Relaxed);
                        return said;
                    }
                },
                Ok(Some(Err(lost))) => failure = telling(failure, NoAnswer::Away(lost.to_string())),
            }
        }
    }
}

/// The first of two failures, unless it says nothing; a server that is there tells more than one that is not.
fn telling(first: NoAnswer, second: NoAnswer) -> NoAnswer {
    let is_told_more = !first.is_of_the_node() && second.is_of_the_node();
    if is_told_more || first == NoAnswer::TimedOut { second } else { first }
}

impl Server {
    fn new(address: SocketAddr) -> Result<Self, NoAnswer> {
        // With both, a truncated answer over UDP is asked for again over TCP.
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (address.port(), address.port());
        let config = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
        let mut options = ResolverOpts::default();
        options.timeout = TIMEOUT;
        let tls = TlsConfig::new().map_err(|error| no_answer(address, error))?;
        let context = Arc::new(PoolContext::new(options, tls));
        Ok(Self { address, pool: NameServerPool::from_config([config], context, Sockets::default()) })
    }

    async fn ask(&self, query: Query) -> Result<(SocketAddr, DnsResponse), NoAnswer> {
        let said = self.pool.lookup(query, DnsRequestOptions::default()).first_answer().await;
        said.map(|said| (self.address, said)).map_err(|error| no_answer(self.address, error))
    }
}

fn at(server: SocketAddr, no: NoAnswer) -> NoAnswer {
    if let NoAnswer::Garbled(why) = no { NoAnswer::Garbled(format!("{server}: {why}")) } else { no }
}

fn no_answer(server: SocketAddr, error: NetError) -> NoAnswer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            NoAnswer::Unknown { ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())) }
        }
        // One zone that is broken, or that the server does not serve, says nothing of the others (RFC 9520).
        NetError::Dns(DnsError::ResponseCode(code)) => NoAnswer::Refused(format!("{server} says `{code}`")),
        NetError::Timeout => NoAnswer::TimedOut,
        // The library's own words for it hide the reason as well.
        NetError::NoConnections => NoAnswer::Away(format!("{server} cannot be reached")),
        NetError::Proto(_) | NetError::Truncated | NetError::ForeignClassRecord { .. } => {
            NoAnswer::Garbled(format!("{server}: {error}"))
        }
        error => NoAnswer::Away(format!("{server}: {error}")),
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.addresses, f)
    }
}
