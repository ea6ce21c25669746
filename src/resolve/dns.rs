//! The DNS: services (SRV), or the addresses of a host (A, AAAA) with a port of the configuration.

mod message;
mod resolv_conf;
mod servers;
mod sockets;
mod srv;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::task::JoinSet;

use self::message::Found;
use self::servers::Servers;
use super::{Answer, Answers, Ask, Asking, NoAnswer, Template};
use crate::aside::blocking;
use crate::dial::{Dice, has_way};
use crate::node::NodeName;
use crate::route::Host;

/// What is asked of the DNS, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers, in the order in which they are asked; empty: those that `resolv_conf` names.
    pub servers: Vec<SocketAddr>,
    /// A file in the format of resolv.conf(5), as a rule `/etc/resolv.conf`. It is read at each question.
    pub resolv_conf: PathBuf,
    /// The name of a service.
    pub srv: Option<Template>,
    /// The name of a host, where there is no such service.
    pub address: Option<Template>,
    /// The port at that host; `None`: the route must know it.
    pub port: Option<u16>,
}

/// Asks the DNS, and nothing else: neither `/etc/hosts` nor a search list. It keeps no answer.
#[derive(Debug, Clone)]
pub struct Dns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: DnsConfig,
    /// Whom the last question was put to.
    servers: Mutex<Option<Arc<Servers>>>,
    dice: Dice,
}

/// The most hosts that the answer for one service is taken from.
const MOST_HOSTS: usize = 64;
/// For how long an answer holds at most that lacks a host, because it could not be asked for.
const INCOMPLETE: Duration = Duration::from_secs(5);

impl Dns {
    /// Nothing is asked yet.
    pub fn new(config: DnsConfig) -> Self {
        Self::with(config, Dice::random())
    }

    fn with(config: DnsConfig, dice: Dice) -> Self {
        Self(Arc::new(Inner { config, servers: Mutex::new(None), dice }))
    }
}

impl Ask for Dns {
    fn ask(&self, node: NodeName) -> Asking {
        let this = Arc::clone(&self.0);
        Box::pin(async move { this.answers(&node).await })
    }
}

impl Inner {
    /// The services, or if there are none the addresses.
    async fn answers(&self, node: &NodeName) -> Result<Answers, NoAnswer> {
        let servers = self.servers().await?;
        let no_service = match &self.config.srv {
            None => None,
            Some(template) => match services(&servers, template, node).await {
                Ok(found) => return self.at_hosts(&servers, found).await,
                Err(no) if !no.is_certain() || self.config.address.is_none() => return Err(no),
                Err(NoAnswer::Unknown { ttl }) => ttl,
                Err(_not_askable) => None,
            },
        };
        let Some(template) = &self.config.address else {
            return Err(NoAnswer::NotAskable("the resolver has neither `srv` nor `address`".to_owned()));
        };
        let answers = self.at_address(&servers, template.fill(node)?).await?;
        // When either is over, there may be a service.
        Ok(Answers { ttl: answers.ttl.into_iter().chain(no_service).min(), ..answers })
    }

    /// Every address of every host in its order, with the service's port there.
    async fn at_hosts(&self, servers: &Arc<Servers>, services: Found) -> Result<Answers, NoAnswer> {
        let mut ttl = services.ttl;
        let mut order = srv::in_order(services.records.into_iter().filter_map(service).collect(), &self.dice);
        // The root as the one target says that the service is decidedly not available.
        order.retain(|service| !service.target.is_root());
        order.truncate(MOST_HOSTS);
        let hosts = addresses_of_all(servers, &order).await;

        let mut list = Vec::new();
        let mut failure = None;
        for service in order {
            match hosts.get(&service.target) {
                Some(Ok(host)) => {
                    ttl = ttl.min(host.ttl);
                    list.extend(answers_at(host, &service.target, Some(service.port)));
                }
                Some(Err(no)) if !no.is_certain() => failure = Some(no.clone()),
                _ => {}
            }
        }
        match (list.is_empty(), failure) {
            (true, None) => Err(NoAnswer::Unknown { ttl: Some(ttl) }),
            (true, Some(failure)) => Err(failure),
            (false, failure) => {
                let ttl = if failure.is_some() { ttl.min(INCOMPLETE) } else { ttl };
                Ok(Answers { list: list.into(), ttl: Some(ttl) })
            }
        }
    }

    /// Every address of one host; an address is its own answer.
    async fn at_address(&self, servers: &Servers, host: Host) -> Result<Answers, NoAnswer> {
        let port = self.config.port;
        let name = match host {
            Host::Ip(ip) => return Ok(Answers { list: [answer(ip, None, port)].into(), ttl: None }),
            Host::Name(name) => domain(&name)?,
        };
        let addresses = addresses(servers, &name).await?;
        Ok(Answers { list: answers_at(&addresses, &name, port).collect(), ttl: Some(addresses.ttl) })
    }

    /// The servers of the moment; the same as before, with their connections, while they are called the same.
    async fn servers(&self) -> Result<Arc<Servers>, NoAnswer> {
        let addresses = match &*self.config.servers {
            [] => read_servers(self.config.resolv_conf.clone()).await?,
            servers => servers.to_vec(),
        };
        let mut known = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(servers) if servers.addresses() == addresses => Ok(Arc::clone(servers)),
            _ => Ok(Arc::clone(known.insert(Arc::new(Servers::new(addresses)?)))),
        }
    }
}

/// The servers that a file names. To read it costs less than any question, and so it is read before each.
async fn read_servers(path: PathBuf) -> Result<Vec<SocketAddr>, NoAnswer> {
    let shown = path.display().to_string();
    let text = blocking(move || fs::read_to_string(path)).await.flatten();
    let text = text.map_err(|error| NoAnswer::Away(format!("{shown} cannot be read: {error}")))?;
    match resolv_conf::servers(&text) {
        servers if servers.is_empty() => Err(NoAnswer::Away(format!("{shown} names no server"))),
        servers => Ok(servers),
    }
}

async fn services(servers: &Servers, template: &Template, node: &NodeName) -> Result<Found, NoAnswer> {
    match template.fill(node)? {
        Host::Name(name) => servers.lookup(&domain(&name)?, RecordType::SRV).await,
        Host::Ip(ip) => Err(NoAnswer::NotAskable(format!("{ip} is an address, and no name of a service"))),
    }
}

fn service(data: RData) -> Option<SRV> {
    if let RData::SRV(service) = data { Some(service) } else { None }
}

/// The addresses of the targets of services, each target asked for once and all at the same time.
async fn addresses_of_all(servers: &Arc<Servers>, services: &[SRV]) -> HashMap<Name, Result<Addresses, NoAnswer>> {
    let mut asked = JoinSet::new();
    let mut found = HashMap::new();
    for service in services {
        let left = NoAnswer::Away("the question was lost".to_owned());
        if found.insert(service.target.clone(), Err(left)).is_none() {
            let (servers, target) = (Arc::clone(servers), service.target.clone());
            asked.spawn(async move {
                let addresses = addresses(&servers, &target).await;
                (target, addresses)
            });
        }
    }
    while let Some(joined) = asked.join_next().await {
        found.extend(joined.ok());
    }
    found
}

/// The addresses of a host.
struct Addresses {
    /// In the order in which they are to be tried; never empty.
    list: Vec<IpAddr>,
    ttl: Duration,
}

/// Asks for both families. One is enough: whether the other has none, or nobody says, does not matter then.
async fn addresses(servers: &Servers, host: &Name) -> Result<Addresses, NoAnswer> {
    let (v6, v4) = tokio::join!(servers.lookup(host, RecordType::AAAA), servers.lookup(host, RecordType::A));
    let ttl = match (&v6, &v4) {
        (Ok(v6), Ok(v4)) => v6.ttl.min(v4.ttl),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => one.ttl,
        (Err(NoAnswer::Unknown { ttl: v6 }), Err(NoAnswer::Unknown { ttl: v4 })) => {
            return Err(NoAnswer::Unknown { ttl: (*v6).min(*v4) });
        }
        (Err(no), Err(other)) => return Err(if no.is_certain() { other.clone() } else { no.clone() }),
    };
    // Of each family in turn, IPv6 first (RFC 8305, section 4), and last what this machine has no way to.
    let of = |found: Result<Found, NoAnswer>| found.into_iter().flat_map(|found| found.records).enumerate();
    let mut list: Vec<_> = of(v6).chain(of(v4)).filter_map(|(place, data)| Some((place, data.ip_addr()?))).collect();
    list.sort_by_key(|(place, ip)| (!has_way(*ip), *place));
    Ok(Addresses { list: list.into_iter().map(|(_, ip)| ip).collect(), ttl })
}

fn answers_at(host: &Addresses, name: &Name, port: Option<u16>) -> impl Iterator<Item = Answer> {
    let certified: Arc<str> = name.to_ascii().trim_end_matches('.').into();
    host.list.iter().map(move |ip| answer(*ip, Some(Arc::clone(&certified)), port))
}

fn answer(ip: IpAddr, certified: Option<Arc<str>>, port: Option<u16>) -> Answer {
    Answer { host: Host::Ip(ip), certified, port, tls: None, handshake: None, proto: None }
}

/// The whole name, to which no search list applies.
fn domain(name: &str) -> Result<Name, NoAnswer> {
    Name::from_labels(name.split('.').map(str::as_bytes)).map_err(|error| NoAnswer::NotAskable(error.to_string()))
}
