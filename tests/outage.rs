//! A service that is killed and started again in the midst of a thousand requests: who has another candidate loses none,
//! and who has no other loses those of the outage alone.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::ops::Range;

use crate::support::client::{line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::dns::NameServer;
use crate::support::epmd::PortMapper;
use crate::support::node::{DeadPort, Node};
use crate::support::registrar::{Registrar, routes, unknown};
use crate::support::until;

/// Nodes that the service knows; all of them are at the same address.
const REGISTERED: [&str; 3] = ["known", "before", "lone"];

/// What is asked for, in turn: a static route that works; a resolver that knows nothing of the node, and a static route
/// behind it; a static route that is dead, and an old answer behind it; an old answer alone; nothing else at all.
const KINDS: usize = 5;

/// Who has nothing else.
const LONE: usize = KINDS - 1;

trait Service {
    /// `kill -9`
    fn kill(&mut self);
    /// It knows what it knew before.
    fn restart(&mut self);
}

struct Requests {
    daemon: Daemon,
    host: &'static str,
}

impl Requests {
    /// `keys` are those of a resolver that asks the service.
    fn new(keys: &str, host: &'static str, fixed: &Node, dead: &DeadPort) -> Self {
        let mut routes = fixed.route("^fixed@", "") + &fixed.route("^behind-", "") + &dead.route("^before@", "");
        routes += "[[route]]\nmatch = '^behind-[0-9]'\nresolver = 'fleet'\nweight = 200\n";
        routes += "[[route]]\nmatch = '^lone@'\nresolver = 'strict'\nfinal = true\n";
        let mut more = "[discovery]\nresolver = 'fleet'\n".to_owned();
        for (name, stale) in [("fleet", "1h"), ("strict", "never")] {
            let times = format!("ttl = '10ms'\nnegative_ttl = '10ms'\nstale = '{stale}'");
            writeln!(more, "[resolver.{name}]\n{keys}\n{times}").unwrap();
        }
        Self { daemon: Daemon::start_with(&routes, &more), host }
    }

    fn is_reached(&self, name: &str, at: &str) -> bool {
        let (mut stream, answer) = upgrade(&self.daemon.socket(), &format!("{name}@{}", self.host));
        answer.status == 101 && line(&mut stream) == at
    }

    /// Who has nothing else is reached.
    fn is_lone_reached(&self) -> bool {
        self.is_reached("lone", "discovered")
    }

    /// How many requests of each kind are lost.
    fn lost(&self, numbers: Range<usize>) -> [usize; KINDS] {
        let mut lost = [0; KINDS];
        for number in numbers {
            let kind = number % KINDS;
            let is_reached = match kind {
                0 => self.is_reached("fixed", "fixed"),
                1 => self.is_reached(&format!("behind-{number}"), "fixed"),
                2 => self.is_reached("before", "discovered"),
                3 => self.is_reached("known", "discovered"),
                _ => self.is_lone_reached(),
            };
            lost[kind] += usize::from(!is_reached);
        }
        lost
    }

    /// How often the log says this of the resolver without old answers.
    fn told(&self, message: &str) -> usize {
        self.daemon.lines().iter().filter(|line| line["message"] == message && line["resolver"] == "strict").count()
    }
}

/// A thousand requests, and two outages in their midst.
fn survive(service: &mut impl Service, keys: &str, host: &'static str, fixed: &Node) {
    let dead = DeadPort::new();
    let requests = Requests::new(keys, host, fixed, &dead);
    let (none, mut only_lone) = ([0; KINDS], [0; KINDS]);
    assert_eq!(requests.lost(0..250), none, "all is well");
    for (outage, after) in [(250..500, 500..750), (750..875, 875..1000)] {
        service.kill();
        until("its last answer is over", || !requests.is_lone_reached());
        only_lone[LONE] = outage.len() / KINDS;
        assert_eq!(requests.lost(outage), only_lone, "the service is gone");
        service.restart();
        until("it is asked again", || requests.is_lone_reached());
        assert_eq!(requests.lost(after), none, "the service is back");
    }
    let away = requests.told("resolver is away; old answers serve as long as they may");
    assert_eq!((away, requests.told("resolver is back")), (2, 2));
}

#[cfg(feature = "etcd")]
impl Service for crate::support::etcd::Etcd {
    fn kill(&mut self) {
        self.kill();
    }

    fn restart(&mut self) {
        self.restart();
    }
}

#[cfg(feature = "etcd")]
#[test]
fn etcd_is_killed_and_restarted_in_the_midst_of_a_thousand_requests() {
    use portolan::dialect::ergo::{GenRoute, routes_to_base64};

    use crate::support::etcd::Etcd;

    let (mut etcd, node, fixed) = (Etcd::new(), Node::named("discovered"), Node::named("fixed"));
    let value = routes_to_base64(&[GenRoute { port: node.port(), ..GenRoute::default() }]);
    for name in REGISTERED {
        etcd.put(&format!("nodes/{name}@127.0.0.1"), &value);
    }
    let keys = format!("type = 'etcd'\nprefix = 'nodes/'\nendpoints = ['{}']", etcd.endpoint());
    survive(&mut etcd, &keys, "127.0.0.1", &fixed);
}

impl Service for NameServer {
    fn kill(&mut self) {
        self.kill();
    }

    fn restart(&mut self) {
        self.restart();
    }
}

#[test]
fn a_name_server_is_killed_and_restarted_in_the_midst_of_a_thousand_requests() {
    let (node, fixed) = (Node::named("discovered"), Node::named("fixed"));
    let record = |name: &&str| format!("_ergo._tcp.{name} SRV 0 0 {} here\n", node.port());
    let records = REGISTERED.iter().map(record).collect::<String>() + "here A 127.0.0.1\n";
    let mut server = NameServer::new("fleet.test", &records);
    let keys = format!("type = 'dns'\nservers = '{}'\nsrv = '_ergo._tcp.{{name}}.{{host}}'", server.address());
    survive(&mut server, &keys, "fleet.test", &fixed);
}

impl Service for Registrar {
    fn kill(&mut self) {
        self.kill();
    }

    fn restart(&mut self) {
        self.restart();
    }
}

#[test]
fn a_registrar_of_ergo_is_killed_and_restarted_in_the_midst_of_a_thousand_requests() {
    let (node, fixed) = (Node::named("discovered"), Node::named("fixed"));
    let known = routes(&[node.port()]);
    let mut registrar = Registrar::sending(move |node| {
        let is_registered = REGISTERED.iter().any(|name| node.strip_suffix("@127.0.0.1") == Some(name));
        vec![if is_registered { known.clone() } else { unknown() }]
    });
    let keys = format!("type = 'ergo'\nport = {}", registrar.port());
    survive(&mut registrar, &keys, "127.0.0.1", &fixed);
}

/// An EPMD with nodes that register themselves when it is there.
struct Registered {
    mapper: PortMapper,
    port: u16,
    registrations: Vec<TcpStream>,
}

impl Service for Registered {
    fn kill(&mut self) {
        self.mapper.kill();
    }

    fn restart(&mut self) {
        self.mapper.restart();
        self.registrations = REGISTERED.map(|name| self.mapper.register(name, self.port)).into();
    }
}

#[test]
fn an_epmd_is_killed_and_restarted_in_the_midst_of_a_thousand_requests() {
    let (node, fixed) = (Node::named("discovered"), Node::named("fixed"));
    let mapper = PortMapper::new();
    let registrations = REGISTERED.map(|name| mapper.register(name, node.port())).into();
    let keys = format!("type = 'epmd'\nport = {}", mapper.port());
    let mut registered = Registered { mapper, port: node.port(), registrations };
    survive(&mut registered, &keys, "127.0.0.1", &fixed);
}
