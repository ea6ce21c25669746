use tokio::time::Instant;

use super::*;
use crate::dial::testing::{Act, Scripted, upstream};
use crate::dial::{DialError, Trusts};
use crate::drain::Drain;
use crate::resolve::Resolvers;
use crate::route::RouteTable;
use crate::route::testing::route;

/// A table with a route to each of these ports, the heaviest first, and what is known of them.
struct Lab {
    snapshot: Arc<Snapshot>,
    upstreams: Arc<Upstreams>,
}

impl Lab {
    fn new(ports: u16) -> Self {
        let routes = (1..=ports).map(|port| Route {
            reach: Reach::Static([upstream(port)].into()),
            // One key for each, and all match.
            ..route(&format!("^db|{port}"), -i64::from(port))
        });
        let table = RouteTable::from_entries(routes.collect()).unwrap();
        let (removed, files, trusts) = (RouteTable::new(), Vec::new(), Arc::new(Trusts::new(None)));
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            table,
            removed,
            files,
            trusts,
            slots: Arc::default(),
            resolvers: Arc::default(),
            discovery: None,
            shared: None,
        });
        Self { snapshot, upstreams: Scripted::new(&[Act::HANG; 9]).upstreams(Drain::new()) }
    }

    fn plan(&self) -> Plan {
        let (snapshot, upstreams) = (Arc::clone(&self.snapshot), Arc::clone(&self.upstreams));
        Plan::new(snapshot, upstreams, DialConfig::default(), NodeName::parse("db@x").unwrap(), None)
    }

    fn ports(&self) -> Vec<u16> {
        self.plan().candidates().map(|candidate| candidate.upstream().port).collect()
    }

    fn eject(&self, port: u16) {
        let candidate = self.plan().candidates().find(|candidate| candidate.upstream().port == port).unwrap();
        candidate.health.failed(&candidate, &DialError::Refused, Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn the_ejected_stand_behind_the_healthy_in_their_order_and_none_is_left_out() {
    let lab = Lab::new(5);
    assert_eq!(lab.ports(), [1, 2, 3, 4, 5]);
    lab.eject(4);
    lab.eject(1);
    assert_eq!(lab.ports(), [2, 3, 5, 1, 4]);
    assert!(
        lab.plan().candidates().all(|candidate| candidate.is_ejected == [1, 4].contains(&candidate.upstream().port))
    );
    [2, 3, 5].into_iter().for_each(|port| lab.eject(port));
    assert_eq!(lab.ports(), [1, 2, 3, 4, 5], "all are ejected: none stands before another");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_at_behind_the_first_healthy_one() {
    let lab = Lab::new(9);
    lab.plan().candidates().next().unwrap();
    assert_eq!(lab.upstreams.len(), 1);
    lab.eject(1);
    let known = lab.upstreams.len();
    assert_eq!(lab.plan().candidates().next().unwrap().upstream().port, 2);
    assert_eq!((lab.upstreams.len(), known), (2, 1));
}

/// A lab with resolvers, each of which knows the port 50 and more of `db@x`.
mod asked {
    use tokio::runtime::Handle;

    use super::*;
    use crate::config::{ResolverConfig, ResolverKind};
    use crate::resolve::{Answer, Ask, Asking, Home, Questions, Resolver, StaticNodes};
    use crate::route::Asked;

    fn answer(port: u16, tls: Option<bool>) -> Answer {
        let host = upstream(port).host;
        Answer { host, certified: None, port: Some(port), tls, handshake: None, proto: None }
    }

    fn resolver(name: &str, answers: &[(u16, Option<bool>)]) -> ResolverConfig {
        let mut nodes = StaticNodes::default();
        if !answers.is_empty() {
            let answers = answers.iter().map(|(port, tls)| answer(*port, *tls)).collect();
            nodes.insert(NodeName::parse("db@x").unwrap(), answers);
        }
        let kind = ResolverKind::Static(nodes);
        ResolverConfig { name: name.into(), kind, questions: Default::default(), answer_tls: Arc::default() }
    }

    fn asking(pattern: &str, weight: i64, resolver: &str) -> Route {
        let asked = Asked { resolver: resolver.into(), hosts: Box::default(), port: None, is_plain: false };
        Route { reach: Reach::Asked(Box::new(asked)), ..route(pattern, weight) }
    }

    fn leading(pattern: &str, weight: i64, port: u16) -> Route {
        Route { reach: Reach::Static([upstream(port)].into()), ..route(pattern, weight) }
    }

    /// What a plan comes to when everything fails: ports with their TLS, and failures.
    async fn told(lab: &Lab) -> Vec<String> {
        let mut plan = lab.plan();
        let mut told = Vec::new();
        while let Some(next) = std::future::poll_fn(|cx| plan.poll_next(cx)).await {
            told.push(match next {
                Next::Candidate(candidate) => {
                    let tls = candidate.health.tls().map(|tls| tls.server_name.clone().unwrap_or("said".into()));
                    let tls = tls.map(|name| format!(" {name}")).unwrap_or_default();
                    format!("{}{tls} by {}", candidate.upstream().port, candidate.course)
                }
                Next::Failed(attempt) => format!("{}: {}", attempt.course, attempt.error),
            });
        }
        match (plan.is_unmatched(), plan.unknown_to()) {
            (true, Some(resolver)) => told.push(format!("unknown to {resolver}")),
            (true, None) => told.push("no route".into()),
            (false, _) => {}
        }
        told
    }

    fn lab(routes: Vec<Route>, resolvers: &[ResolverConfig], discovery: Option<(&str, bool)>) -> Lab {
        let lab = Lab::new(0);
        let resolvers = Resolvers::following(None, resolvers, &Home::on(Handle::current()));
        let discovery = discovery.map(|(name, after_static_failure)| {
            let resolver = Arc::clone(resolvers.get(name).unwrap());
            Arc::new(Discovery { resolver, after_static_failure })
        });
        let table = RouteTable::from_entries(routes).unwrap();
        let snapshot = Snapshot { table, resolvers: Arc::new(resolvers), discovery, ..lab.snapshot.next() };
        Lab { snapshot: Arc::new(snapshot), ..lab }
    }

    fn policy(name: &str, insecure_skip_verify: bool) -> Option<Arc<TlsPolicy>> {
        let server_name = Some(name.to_owned());
        Some(Arc::new(TlsPolicy { server_name, insecure_skip_verify, ..TlsPolicy::default() }))
    }

    #[tokio::test]
    async fn static_routes_come_before_discovery_and_resolver_routes_in_their_place() {
        let (fleet, other) = (resolver("fleet", &[(50, None), (51, None)]), resolver("other", &[(60, None)]));
        let routes = vec![leading("^db", 300, 1), asking("db", 200, "other"), leading("b@", 100, 2)];
        let lab = lab(routes, &[fleet, other], Some(("fleet", true)));
        let expected = [
            "1 by route \"^db\"",
            "60 by route \"db\"",
            "2 by route \"b@\"",
            "50 by resolver \"fleet\"",
            "51 by resolver \"fleet\"",
        ];
        assert_eq!(told(&lab).await, expected);
        lab.eject(1);
        assert_eq!(told(&lab).await[2], expected[0], "behind the others of its own step");
    }

    #[tokio::test]
    async fn what_ends_a_plan_before_discovery() {
        let fleet = || [resolver("fleet", &[(50, None)])];
        let last = |route: Route| Route { is_final: true, ..route };
        let heavy = || leading("^db", 300, 1);
        let ended = lab(vec![heavy(), last(leading("b@", 100, 2))], &fleet(), Some(("fleet", true)));
        assert_eq!(told(&ended).await.len(), 2, "any route that matches may say so");
        assert_eq!(told(&lab(vec![heavy()], &fleet(), Some(("fleet", false)))).await.len(), 1);
        let unmatched = lab(vec![last(leading("^other", 1, 1))], &fleet(), Some(("fleet", false)));
        assert_eq!(told(&unmatched).await, ["50 by resolver \"fleet\""]);
        assert_eq!(told(&lab(vec![], &fleet(), None)).await, ["no route"]);
    }

    #[tokio::test]
    async fn a_resolver_that_knows_nothing_is_a_failed_attempt_only_where_something_matched() {
        let ignorant = || [resolver("fleet", &[])];
        assert_eq!(told(&lab(vec![], &ignorant(), Some(("fleet", true)))).await, ["unknown to fleet"]);
        let matched = lab(vec![leading("^db", 1, 1)], &ignorant(), Some(("fleet", true)));
        let expected = ["1 by route \"^db\"", "resolver \"fleet\": the resolver knows no such node"];
        assert_eq!(told(&matched).await, expected);
        let asked = lab(vec![asking("^db", 1, "fleet")], &ignorant(), None);
        assert_eq!(told(&asked).await, ["route \"^db\": the resolver knows no such node"]);
    }

    #[tokio::test]
    async fn discovery_never_weakens_the_tls_of_a_route_that_matches() {
        let fleet = || [resolver("fleet", &[(50, Some(false)), (51, Some(true))])];
        let with = |tls, route: Route| Route { tls, ..route };
        let plain = lab(vec![leading("^db", 1, 1)], &fleet(), Some(("fleet", true)));
        assert_eq!(told(&plain).await[1..], ["50 by resolver \"fleet\"", "51 said by resolver \"fleet\""]);
        let routes = vec![
            with(policy("skips", true), leading("^db", 3, 1)),
            with(policy("first", false), leading("db", 2, 2)),
            with(policy("second", false), leading("b@", 1, 3)),
        ];
        let strict = lab(routes, &fleet(), Some(("fleet", true)));
        assert_eq!(told(&strict).await[3..], ["50 first by resolver \"fleet\"", "51 first by resolver \"fleet\""]);
    }

    #[tokio::test]
    async fn a_route_that_works_asks_nobody() {
        let lab = lab(vec![leading("^db", 1, 1)], &[resolver("fleet", &[(50, None)])], Some(("fleet", true)));
        lab.plan().candidates().next().unwrap();
        let resolver = Arc::clone(lab.snapshot.resolvers.get("fleet").unwrap());
        assert_eq!(resolver.status().asked, 0);
    }

    /// A service that never answers.
    #[derive(Debug)]
    struct Hangs;

    impl Ask for Hangs {
        fn ask(&self, _node: NodeName) -> Asking {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_holds_up_nobody_who_does_not_need_it() {
        let (questions, home) = (Questions::default(), Home::on(Handle::current()));
        let resolver = Resolver::new("fleet".into(), "hangs", Arc::new(Hangs), questions, Arc::default(), home);
        let discovery = Some(Arc::new(Discovery { resolver, after_static_failure: true }));
        let lab = lab(vec![leading("^db", 1, 1)], &[], None);
        let lab = Lab { snapshot: Arc::new(Snapshot { discovery, ..lab.snapshot.next() }), ..lab };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // More nodes that only it could know than it may be asked for at once.
        let mut all: Vec<_> =
            (0..300).map(|n| Plan { node: NodeName::parse(&format!("{n}@y")).unwrap(), ..lab.plan() }).collect();
        let polls: Vec<_> = all.iter_mut().map(|plan| plan.poll_next(&mut cx)).collect();
        let refused = polls.iter().filter(|poll| matches!(poll, Poll::Ready(Some(Next::Failed(_))))).count();
        assert_eq!((polls.iter().filter(|poll| poll.is_pending()).count(), refused), (256, 44));

        let began = Instant::now();
        for _ in 0..1000 {
            assert!(matches!(lab.plan().poll_next(&mut cx), Poll::Ready(Some(Next::Candidate(_)))));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        let Some(Next::Failed(attempt)) = std::future::poll_fn(|cx| all[0].poll_next(cx)).await else {
            panic!("it does not fail")
        };
        assert_eq!(attempt.error, DialError::Unresolved(NoAnswer::TimedOut));
        assert_eq!(Some(began.elapsed()), DialConfig::default().race_after, "who needs it waits as for an upstream");
    }
}

#[test]
fn tls_policies_that_no_route_has_any_more_are_let_go() {
    let policy = |n: usize| {
        Arc::new(TlsPolicy { server_name: Some(format!("n{n}")), insecure_skip_verify: true, ..TlsPolicy::default() })
    };
    let mut snapshot = Lab::new(1).snapshot.next();
    snapshot.table.add(Route { tls: Some(policy(7)), ..route("^tls", 1) }).unwrap();
    for n in 0..10_000 {
        let mut trusts = snapshot.trusts.extended();
        trusts.open(&policy(n)).unwrap();
        snapshot.trust(trusts);
    }
    assert!(snapshot.trusts.get(&policy(7)).is_some());
    let kept = (0..10_000).filter(|n| snapshot.trusts.get(&policy(*n)).is_some()).count();
    assert!(kept < 200, "{kept}");
}
