//! The API over a pair of sockets, with a table of its own and an owner that says what the test says.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::view::{ChangeView, ProblemView};
use super::*;
use crate::control::{Ask, Refusal};
use crate::deadline::Deadline;
use crate::dial;
use crate::load;
use crate::node::NodeName;
use crate::plan::{Next, Snapshot};
use crate::relay::testing::facts;
use crate::resolve::Home;
use crate::route::testing::{route, row};
use crate::route::{Host, Origin, Reach, Route, RouteTable, Taken, Upstream};

/// A daemon whose table has these routes, and the end at which changes are asked for.
struct Api {
    daemon: Arc<Daemon>,
    control: Control,
    asks: mpsc::Receiver<Ask>,
    _folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Told {
    head: String,
    body: String,
}

impl Told {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and code of an error, which is whole.
    fn error(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let view: view::ErrorView = serde_json::from_str(&self.body).unwrap();
        assert_eq!(view.status, self.status());
        assert!(self.head.lines().next().unwrap().ends_with(&view.title), "{self:?}");
        assert!(!view.detail.is_empty());
        (view.status, view.code)
    }
}

impl Api {
    fn new(patterns: &[&str]) -> Self {
        let mut routes = "allow_empty = true\n".to_owned();
        for pattern in patterns {
            writeln!(routes, "[[route]]\nmatch = '{pattern}'\nhost = '10.0.0.1:4370'").unwrap();
        }
        Self::with(&routes, "")
    }

    /// One with these files.
    fn with(routes: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("routes.toml"), routes).unwrap();
        std::fs::write(folder.path().join("portolan.toml"), config).unwrap();
        let home = Home::on(tokio::runtime::Handle::current());
        let loaded = load::load(&folder.path().join("portolan.toml"), None, None, &home, |_| load::Over::default())
            .loaded
            .unwrap();
        let (control, asks) = Control::new();
        Self { daemon: Arc::new(Daemon::new(loaded, std::sync::Weak::new())), control, asks, _folder: folder }
    }

    fn connect(&self) -> (UnixStream, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let served = serve(Arc::clone(&self.daemon), self.control.clone(), theirs, None);
        (ours, tokio::spawn(served))
    }

    /// Sends bytes on a connection of their own and reads to its end.
    async fn send(&self, bytes: &[u8]) -> Told {
        let (mut stream, _served) = self.connect();
        // The rest of what is refused early may find nobody.
        drop(stream.write_all(bytes).await);
        read(&mut stream).await
    }

    async fn ask(&self, method: &str, target: &str) -> Told {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    async fn post(&self, body: &str) -> Told {
        self.post_to("/v1/routes", body).await
    }

    async fn post_to(&self, target: &str, body: &str) -> Told {
        let (length, kind) = (body.len(), "Content-Type: application/json; charset=utf-8");
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}\r\n");
        self.send(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await
    }

    /// Asks, and answers the change that is asked for.
    async fn answered(mut self, method: &str, target: &str, answer: impl FnOnce(Ask)) -> Told {
        let mut asks = std::mem::replace(&mut self.asks, mpsc::channel(1).1);
        let owner = async { answer(asks.recv().await.unwrap()) };
        let asked = async {
            match method {
                "POST" if target == "/v1/routes" => self.post("{\"match\": \"^new/\"}").await,
                _ => self.ask(method, target).await,
            }
        };
        tokio::join!(asked, owner).0
    }
}

async fn read(stream: &mut UnixStream) -> Told {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.as_str(), ""));
    Told { head: head.to_owned(), body: body.to_owned() }
}

fn change(generation: u64) -> ChangeView {
    ChangeView { generation, routes: 1, added: 0, removed: 1, changed: 0, warnings: Vec::new() }
}

fn problem() -> ProblemView {
    let text = |text: &str| Some(text.to_owned());
    ProblemView {
        severity: "error".to_owned(),
        file: text("request"),
        line: Some(1),
        column: Some(2),
        message: "unknown key `wieght`".to_owned(),
        help: text("did you mean `weight`?"),
        rendered: "error: ...".to_owned(),
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let patterns: Vec<_> = (0..25).map(|number| format!("^db{number}@")).collect();
    let api = Api::new(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = api.ask("GET", &format!("/v1/routes?limit=10{after}")).await;
        assert_eq!((page.status(), page.header("content-type")), (200, Some("application/json")));
        let page: view::RoutePage = serde_json::from_str(&page.body).unwrap();
        seen.extend(page.routes.into_iter().map(|route| route.spec.pattern));
        pages += 1;
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    assert_eq!((seen, pages), (patterns, 3));
    let removed = api.ask("GET", "/v1/routes?removed=true").await.json();
    assert_eq!(removed, json!({"generation": 1, "routes": [], "next": null}));
    assert_eq!(api.ask("GET", "/v1/routes?limit=25").await.json()["next"], Value::Null, "a full page may be the last");
}

#[tokio::test]
async fn what_is_there_can_be_seen() {
    let api = Api::new(&["^a/b@", "@x$"]);
    let route = api.ask("GET", "/v1/routes/%5Ea%2Fb%40").await.json();
    assert_eq!((&route["match"], &route["host"]), (&json!("^a/b@"), &json!(["10.0.0.1:4370"])));
    assert_eq!(api.ask("GET", "/v1/routes/%5Ea").await.error(), (404, "unknown".to_owned()));
    let lookup = api.ask("GET", "/v1/lookup?node=a%2Fb@x").await.json();
    assert_eq!((&lookup["routes"][0], &lookup["routes"][1]["match"]), (&route, &json!("@x$")));
    assert_eq!(api.ask("GET", "/v1/lookup?node=b").await.error(), (404, "no_route".to_owned()));
    api.daemon.set_refused(Some("the disk is on fire".to_owned()));
    let table = api.ask("GET", "/v1/table").await.json();
    assert_eq!((&table["routes"], &table["added"], &table["removed"]), (&json!(2), &json!(0), &json!(0)));
    assert_eq!(table["files"][0]["routes"], 2);
    assert_eq!(table["refused"], "the disk is on fire");
    assert_eq!(api.ask("GET", "/v1/relays").await.json(), json!({"relays": [], "next": null}));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let api = Api::new(&["db"]);
    let (get, head) = (api.ask("GET", "/v1/table").await, api.ask("HEAD", "/v1/table").await);
    assert_eq!((head.status(), head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
}

#[tokio::test]
async fn a_route_is_added_as_it_was_sent() {
    let told = Api::new(&[])
        .answered("POST", "/v1/routes", |ask| {
            let Ask::Add(route_sent, reply) = ask else { panic!("{ask:?}") };
            assert_eq!(route_sent, json!({"match": "^new/"}));
            let warned = ChangeView { warnings: vec![problem()], ..change(7) };
            reply.send(Ok((row(route("^new/", 3)), warned))).unwrap();
        })
        .await;
    assert_eq!((told.status(), told.header("location")), (201, Some("/v1/routes/%5Enew%2F")));
    let added: view::AddedView = serde_json::from_str(&told.body).unwrap();
    assert_eq!((added.generation, added.warnings), (7, vec![problem()]));
    let as_route: view::RouteView = serde_json::from_str(&told.body).unwrap();
    assert_eq!(as_route, added.route, "who knows routes understands it");
}

#[tokio::test]
async fn a_route_is_removed_by_its_text() {
    let told = Api::new(&[])
        .answered("DELETE", "/v1/routes/%D1%8F%20%2F%25", |ask| {
            let Ask::Remove(pattern, reply) = ask else { panic!("{ask:?}") };
            assert_eq!(pattern, "я /%");
            reply.send(Ok(change(2))).unwrap();
        })
        .await;
    assert_eq!((told.status(), serde_json::from_str(&told.body).unwrap()), (200, change(2)));
}

#[tokio::test]
async fn a_reload_answers_when_it_is_done() {
    for (target, wanted) in [("/v1/reload?strict=true", true), ("/v1/reload", false)] {
        let told = Api::new(&[])
            .answered("POST", target, |ask| {
                let Ask::Reload { strict, reply } = ask else { panic!("{ask:?}") };
                assert_eq!(strict, wanted);
                reply.send(Err(Refusal::Invalid(vec![problem()]))).unwrap();
            })
            .await;
        assert_eq!(told.error(), (422, "invalid".to_owned()));
        assert_eq!(told.json()["problems"][0]["help"], "did you mean `weight`?");
    }
}

#[tokio::test]
async fn each_refusal_has_its_status_and_code() {
    let origin = Origin::File { file: std::path::Path::new("r.toml").into(), line: 3 };
    let taken = Taken { first: origin.clone(), second: origin };
    for (refusal, status, code, detail) in [
        (Refusal::Taken(taken), 409, "taken", "the pattern is taken by the route at r.toml:3"),
        (Refusal::Unknown, 404, "unknown", "no route of the table has this pattern"),
        (Refusal::Invalid(vec![problem(), problem()]), 422, "invalid", "unknown key `wieght` (and 1 more error)"),
        (Refusal::Unkept("no space".to_owned()), 507, "unkept", "the edit cannot be kept: no space"),
        (Refusal::Ending, 503, "draining", "the daemon is ending; the change may have been made or not"),
    ] {
        let told = Api::new(&[])
            .answered("DELETE", "/v1/routes/x", |ask| {
                let Ask::Remove(_, reply) = ask else { panic!("{ask:?}") };
                reply.send(Err(refusal)).unwrap();
            })
            .await;
        assert_eq!(told.error(), (status, code.to_owned()));
        assert_eq!(told.json()["detail"], detail);
    }
}

#[tokio::test]
async fn relays_are_listed_and_closed() {
    let api = Api::new(&[]);
    let relays = &api.daemon.relays;
    let _open = [("a", "^x"), ("b", "^x"), ("b", "^y")].map(|(node, pattern)| relays.enter(facts(node, pattern)));
    let last = api.ask("GET", "/v1/relays?match=%5Ey&node=b").await.json();
    let relay = &last["relays"][0];
    assert_eq!(
        (&relay["id"], &relay["up"], &relay["down"], &relay["client"]),
        (&json!(3), &json!(0), &json!(0), &Value::Null)
    );
    let listed = async |query: &str| {
        let page = api.ask("GET", &format!("/v1/relays?{query}")).await.json();
        page["relays"].as_array().unwrap().iter().map(|relay| relay["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(listed("node=b").await, [2, 3]);
    assert_eq!(listed("match=%5Ex&limit=1&after=1").await, [2]);

    let closed = async |which: &str| api.post_to("/v1/relays/close", which).await.json()["closed"].clone();
    assert_eq!(closed("{\"match\": \"^y\"}").await, 1);
    assert_eq!(closed("{\"node\": \"b\"}").await, 1, "one of the two has been told already");
    assert_eq!(closed("{\"ids\": [1, 1, 2, 99]}").await, 1);
    assert_eq!(closed("{\"ids\": []}").await, 0);
    for which in
        ["{}", "null", "{\"all\": true}", "{\"match\": \"x\", \"node\": \"b\"}", "{\"ids\": [-1]}", "{\"match\": null}"]
    {
        let told = api.post_to("/v1/relays/close", which).await;
        assert_eq!(told.error(), (400, "bad_request".to_owned()), "{which}");
        assert!(told.body.contains("the body says something else than what is asked for: "), "{which}: {told:?}");
    }
    assert!(api.post_to("/v1/relays/close", "{").await.body.contains("the body is not JSON: "));
}

#[tokio::test]
async fn what_is_explained_is_the_order_of_the_plan() {
    let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // A port that refuses: nothing listens on this end of a connection.
    let refuses = TcpStream::connect(node.local_addr().unwrap()).await.unwrap().local_addr().unwrap();
    let (alive, dead) = (node.local_addr().unwrap(), refuses);
    let api = Api::new(&[]);
    let routes = [("db", 7, [dead, alive]), ("^d", 9, [dead, dead]), ("b$", 7, [alive, alive])].map(
        |(pattern, weight, hosts)| {
            let upstreams = hosts.map(|host| Upstream { host: Host::Ip(host.ip()), port: host.port() }).into();
            Route { reach: Reach::Static(upstreams), ..route(pattern, weight) }
        },
    );
    let table = RouteTable::from_entries(routes.into()).unwrap();
    api.daemon.replace_snapshot(Snapshot { table, ..api.daemon.snapshot().next() });

    let explained = async || {
        let plan = api.ask("GET", "/v1/explain?node=db").await.json();
        let candidates = plan["candidates"].as_array().unwrap().iter();
        candidates.map(|one| format!("{} {}", one["match"], one["upstream"])).collect::<Vec<_>>()
    };
    let planned = || {
        let plan = api.daemon.plan(NodeName::parse("db").unwrap(), None);
        let text =
            |one: crate::plan::Candidate| format!("\"{}\" \"{}\"", one.course.pattern().unwrap(), one.upstream());
        plan.candidates().map(text).collect::<Vec<_>>()
    };
    let before = explained().await;
    assert!(api.daemon.upstreams.is_empty(), "nothing is noted as wanted");
    assert_eq!(before, planned());
    let plan = api.daemon.plan(NodeName::parse("db").unwrap(), None);
    dial::first(plan, Deadline::after(Duration::from_secs(5))).await.unwrap();
    let after = explained().await;
    assert_eq!(after, planned());
    assert_ne!(after, before, "what is dead stands behind");
}

#[tokio::test]
async fn what_is_explained_of_resolvers_is_the_order_of_the_plan_when_they_are_asked() {
    let answers = "['10.0.0.1:1', { host = '10.0.0.2', port = 2, tls = true }]";
    let api = Api::with(
        "[[route]]\nmatch = 'db'\nhost = '10.0.0.3:3'\ntls = { server_name = 'db' }\n\
         [[route]]\nmatch = '^d'\nresolver = 'lab'\nport = 9\nweight = 7\n\
         [[route]]\nmatch = 'x'\nresolver = 'lab'\nweight = 200\ntls = false\n",
        &format!("[discovery]\nresolver = 'lab'\n[resolver.lab]\ntype = 'static'\nnodes = {{ 'db@x' = {answers} }}\n"),
    );
    let plan = async || api.ask("GET", "/v1/explain?node=db@x").await.json();
    let before = plan().await;
    let places = before["questions"].as_array().unwrap().iter().map(|one| (&one["match"], &one["before"]));
    let expected = [(json!("x"), json!(0)), (json!("^d"), json!(1)), (Value::Null, json!(1))];
    assert_eq!(places.map(|(route, place)| (route.clone(), place.clone())).collect::<Vec<_>>(), expected);
    assert_eq!(before["candidates"].as_array().unwrap().len(), 1, "what is not known is not listed");

    let mut plan_of_request = api.daemon.plan(NodeName::parse("db@x").unwrap(), None);
    let mut planned = Vec::new();
    while let Some(next) = poll_fn(|cx| plan_of_request.poll_next(cx)).await {
        let Next::Candidate(one) = next else { panic!("{next:?}") };
        let name = one.health.tls().map(|tls| tls.server_name.clone().unwrap_or_default());
        planned.push(format!("{:?} {} {name:?}", one.course.pattern(), one.upstream()));
    }
    let explained = plan().await;
    let explained = explained["candidates"].as_array().unwrap().iter().map(|one| {
        let name = match &one["tls"] {
            Value::Bool(is_spoken) => is_spoken.then(String::new),
            policy => Some(policy["server_name"].as_str().unwrap().to_owned()),
        };
        format!("{:?} {} {name:?}", one["match"].as_str(), one["upstream"].as_str().unwrap())
    });
    assert_eq!(explained.collect::<Vec<_>>(), planned);
    assert_eq!(
        planned,
        [
            "Some(\"x\") 10.0.0.1:1 None",
            "Some(\"x\") 10.0.0.2:2 None",
            "Some(\"db\") 10.0.0.3:3 Some(\"db\")",
            "Some(\"^d\") 10.0.0.1:9 None",
            "Some(\"^d\") 10.0.0.2:9 Some(\"\")",
            "None 10.0.0.1:1 Some(\"db\")",
            "None 10.0.0.2:2 Some(\"db\")",
        ]
    );
}

#[tokio::test]
async fn a_body_is_json_of_a_bounded_length() {
    let api = Api::new(&[]);
    assert_eq!(api.post("{\"match\": ").await.error(), (400, "bad_request".to_owned()));
    assert_eq!(api.post(&format!("\"{}\"", "x".repeat(64 * 1024))).await.error(), (413, "too_large".to_owned()));
    let head = "POST /v1/routes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let plain = format!("{head}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}");
    assert_eq!(api.send(plain.as_bytes()).await.error(), (415, "unsupported_media_type".to_owned()));
    let chunked = format!("{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let endless = format!("{chunked}11000\r\n\"{}", "x".repeat(0x10fff));
    assert_eq!(api.send(endless.as_bytes()).await.error(), (413, "too_large".to_owned()));
    let broken = format!("{chunked}no length\r\n");
    assert_eq!(api.send(broken.as_bytes()).await.error(), (400, "bad_request".to_owned()));
}

#[tokio::test]
async fn a_path_that_takes_other_methods_says_which() {
    let told = Api::new(&[]).ask("PUT", "/v1/routes/x").await;
    assert_eq!(told.error(), (405, "method_not_allowed".to_owned()));
    assert_eq!(told.header("allow"), Some("GET, HEAD, DELETE"));
}

#[tokio::test]
async fn a_connection_serves_several_requests_and_a_client_that_ends_first() {
    let api = Api::new(&["db"]);
    let (mut stream, served) = api.connect();
    let get = "GET /v1/routes/db HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(get.repeat(2).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let told = read(&mut stream).await;
    assert_eq!((told.head + &told.body).matches("HTTP/1.1 200 OK").count(), 2);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_a_place_by_being_slow() {
    let api = Api::new(&["db"]);
    let began = Instant::now();
    assert_eq!(api.send(b"GET /v1/routes HTTP/1.1\r\nHost").await.head, "", "a head");
    assert!(began.elapsed() <= HEAD_TIMEOUT * 2);
    let slow = b"POST /v1/routes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    assert_eq!(api.send(slow).await.error(), (408, "too_slow".to_owned()));
    let (_idle, served) = api.connect();
    served.await.unwrap();
    assert!(began.elapsed() < LIFE);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_what_is_idle_and_what_waits_for_ever() {
    let api = Api::new(&["db"]);
    let (mut idle, served) = api.connect();
    let (mut waiting, asking) = api.connect();
    waiting.write_all(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // Answered by this very task: while a thread reads, a paused clock goes on.
    idle.write_all(b"GET /v1/none HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    api.daemon.drain.begin();
    served.await.unwrap();
    asking.await.unwrap();
    assert_eq!(read(&mut waiting).await.head, "");
}
