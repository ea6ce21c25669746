//! EPMD as a resolver: Erlang's own, on a port of the test.

use crate::support::client::{connect, line, upgrade};
use crate::support::daemon::Daemon;
use crate::support::epmd::PortMapper;
use crate::support::node::Node;
use crate::support::until;

fn asking(mapper: &PortMapper) -> String {
    format!(
        "[discovery]\nresolver = 'erlang'\n[resolver.erlang]\ntype = 'epmd'\nport = {}\nttl = '10ms'\nnegative_ttl = '10ms'\n",
        mapper.port()
    )
}

#[test]
fn a_node_is_reached_at_the_port_that_it_has_registered() {
    let (mapper, node) = (PortMapper::new(), Node::named("registered"));
    let daemon = Daemon::start_with("allow_empty = true\n", &asking(&mapper));
    let (_, unknown) = upgrade(&daemon.socket(), "db@127.0.0.1");
    assert_eq!(unknown.problem()["code"], "no_route");

    let registration = mapper.register("db", node.port());
    until("the node is known", || upgrade(&daemon.socket(), "db@127.0.0.1").1.status == 101);
    assert_eq!(line(&mut connect(&daemon.socket(), "db@127.0.0.1")), "registered");
    assert_eq!(line(&mut connect(&daemon.socket(), "db@localhost")), "registered", "a host that is looked up");
    let (_, no_host) = upgrade(&daemon.socket(), "db");
    assert_eq!(no_host.problem()["code"], "all_failed");

    drop(registration);
    mapper.wait_until_gone("db");
    until("the node is gone", || upgrade(&daemon.socket(), "db@127.0.0.1").1.status != 101);
}

#[test]
fn an_epmd_that_is_gone_loses_nothing_that_is_known_and_is_asked_when_it_is_back() {
    let (mut mapper, node, moved) = (PortMapper::new(), Node::named("known"), Node::named("moved"));
    let daemon = Daemon::start_with("allow_empty = true\n", &asking(&mapper));
    let registration = mapper.register("db", node.port());
    assert_eq!(line(&mut connect(&daemon.socket(), "db@127.0.0.1")), "known");
    mapper.kill();
    drop(registration);
    for _ in 0..100 {
        assert_eq!(line(&mut connect(&daemon.socket(), "db@127.0.0.1")), "known");
    }
    mapper.restart();
    let _registration = mapper.register("db", moved.port());
    until("moved", || line(&mut connect(&daemon.socket(), "db@127.0.0.1")) == "moved");
}
