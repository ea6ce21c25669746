//! The resolver against scripted servers, which speak UDP and TCP on a port of the kernel's choice.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// What a server does with a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Answers what the zone says; where there is nothing, with the zone's TTL and its minimum.
    Answers(Option<(u32, u32)>),
    /// Says over UDP that the answer is too long for it.
    Truncates,
    Says(ResponseCode),
    Silent,
    /// Says something that is no message behind the question's number.
    Babbles,
    /// Answers about another name.
    Strays,
}

use Habit::{Answers as Says, Babbles, Silent, Strays, Truncates};

/// A server that runs until the runtime ends.
struct Server {
    address: SocketAddr,
    /// What it was asked: how, the name, and the kind.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// With records as a zone file has them, and this habit.
    async fn new(habit: Habit, zone: &[&str]) -> Self {
        let zone: Arc<[Record]> = zone.iter().map(|line| record(line)).collect();
        let asked = Arc::default();
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        tokio::spawn(over_udp(udp, habit, Arc::clone(&zone), Arc::clone(&asked)));
        tokio::spawn(over_tcp(tcp, habit, zone, Arc::clone(&asked)));
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

/// On the same port.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn over_udp(socket: UdpSocket, habit: Habit, zone: Arc<[Record]>, asked: Arc<Mutex<Vec<String>>>) {
    let mut packet = [0; 1500];
    loop {
        let (length, peer) = socket.recv_from(&mut packet).await.unwrap();
        let question = Message::from_vec(&packet[..length]).unwrap();
        asked.lock().unwrap().push(format!("udp {}", question.queries[0]));
        let mut answer = answered(&question, habit, &zone);
        match habit {
            Silent => continue,
            Babbles => {
                let babble = [&question.metadata.id.to_be_bytes()[..], &[0xff; 20]].concat();
                socket.send_to(&babble, peer).await.unwrap();
                continue;
            }
            Truncates => {
                answer.metadata.truncation = true;
                answer.answers.clear();
            }
            _ => {}
        }
        socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
    }
}

async fn over_tcp(listener: TcpListener, habit: Habit, zone: Arc<[Record]>, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (zone, asked) = (Arc::clone(&zone), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut packet = vec![0; length.into()];
                stream.read_exact(&mut packet).await.unwrap();
                let question = Message::from_vec(&packet).unwrap();
                asked.lock().unwrap().push(format!("tcp {}", question.queries[0]));
                let answer = answered(&question, habit, &zone).to_vec().unwrap();
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
    }
}

fn answered(question: &Message, habit: Habit, zone: &[Record]) -> Message {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    let of_name = || zone.iter().filter(|record| record.name == query.name);
    let is_answer = |record: &&Record| [query.query_type, RecordType::CNAME].contains(&record.record_type());
    answer.add_answers(of_name().filter(is_answer).cloned());
    match habit {
        Says(Some((ttl, minimum))) if answer.answers.is_empty() => {
            let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
            answer.add_authority(Record::from_rdata(name("test"), ttl, RData::SOA(soa)));
        }
        Habit::Says(code) => answer.metadata.response_code = code,
        Strays => {
            answer.add_answer(record("other.test 60 A 127.0.0.9"));
        }
        _ => {}
    }
    if answer.answers.is_empty() && of_name().next().is_none() && matches!(habit, Says(_)) {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer.add_query(query);
    answer
}

/// `a.test 60 A 127.0.0.1`
fn record(line: &str) -> Record {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap();
    let (owner, ttl, kind) = (name(word()), word().parse().unwrap(), word());
    let data = match kind {
        "A" => RData::A(A(word().parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(word().parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(name(word()))),
        "SRV" => {
            let mut number = || word().parse().unwrap();
            let (priority, weight, port) = (number(), number(), number());
            RData::SRV(SRV::new(priority, weight, port, name(word())))
        }
        other => panic!("{other}"),
    };
    Record::from_rdata(owner, ttl, data)
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn config(servers: &[&Server], srv: Option<&str>, address: Option<&str>) -> DnsConfig {
    let template = |text| Template::parse(text).unwrap();
    DnsConfig {
        servers: servers.iter().map(|server| server.address).collect(),
        resolv_conf: "/not/there".into(),
        srv: srv.map(template),
        address: address.map(template),
        port: Some(9),
    }
}

/// The answers in short, `127.0.0.1:4370 a.test`, and for how many seconds they hold.
async fn ask(config: DnsConfig, node: &str) -> Result<(Vec<String>, Option<u64>), NoAnswer> {
    said(&Dns::with(config, Dice::seeded(1)), node).await
}

async fn said(dns: &Dns, node: &str) -> Result<(Vec<String>, Option<u64>), NoAnswer> {
    let answers = dns.ask(NodeName::parse(node).unwrap()).await?;
    let list = answers.list.iter().map(|answer| {
        let Host::Ip(ip) = answer.host else { panic!("{answer:?}") };
        let address = answer.port.map_or(ip.to_string(), |port| SocketAddr::new(ip, port).to_string());
        answer.certified.as_ref().map_or(address.clone(), |name| format!("{address} {name}"))
    });
    Ok((list.collect(), answers.ttl.map(|ttl| ttl.as_secs())))
}

const SRV_OF_DB: Option<&str> = Some("_ergo._tcp.{name}.{host}");
const HOST: Option<&str> = Some("{host}");

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn services_come_by_their_priority_with_each_address_of_their_hosts() {
    let zone = [
        "_ergo._tcp.db.fleet.test 60 SRV 20 0 4372 b.test",
        "_ergo._tcp.db.fleet.test 60 SRV 10 0 4370 a.test",
        "_ergo._tcp.db.fleet.test 60 SRV 30 0 4371 a.test",
        "_ergo._tcp.db.fleet.test 60 SRV 40 0 4371 gone.test",
        "a.test 50 A 127.0.0.1",
        "a.test 40 A 127.0.0.2",
        "a.test 45 AAAA ::1",
        "b.test 55 A 127.0.0.3",
    ];
    let server = Server::new(Says(Some((5, 5))), &zone).await;
    let (mut list, ttl) = ask(config(&[&server], SRV_OF_DB, HOST), "db@fleet.test").await.unwrap();
    // Where this machine has no IPv6, that address is the last of its host.
    list.sort_by_key(|answer| answer.contains(':') && answer.starts_with('['));
    let expected = [
        "127.0.0.1:4370 a.test",
        "127.0.0.2:4370 a.test",
        "127.0.0.3:4372 b.test",
        "127.0.0.1:4371 a.test",
        "127.0.0.2:4371 a.test",
        "[::1]:4370 a.test",
        "[::1]:4371 a.test",
    ];
    assert_eq!((list, ttl), (strings(&expected), Some(40)));
    assert_eq!(server.asked().len(), 7, "each host once: {:?}", server.asked());
}

#[tokio::test]
async fn the_root_as_target_says_that_there_is_no_service() {
    let server = Server::new(Says(None), &["_ergo._tcp.db.test 60 SRV 0 0 0 .", "test 60 A 127.0.0.1"]).await;
    let no = ask(config(&[&server], SRV_OF_DB, HOST), "db@test").await;
    assert_eq!(no, Err(NoAnswer::Unknown { ttl: Some(Duration::from_secs(60)) }));
    assert_eq!(server.asked().len(), 1, "{:?}", server.asked());
}

#[tokio::test]
async fn where_there_is_no_service_the_address_counts() {
    let server = Server::new(Says(Some((300, 20))), &["host.test 60 A 127.0.0.1"]).await;
    let both = config(&[&server], SRV_OF_DB, HOST);
    assert_eq!(ask(both.clone(), "db@host.test").await.unwrap(), (strings(&["127.0.0.1:9 host.test"]), Some(20)));
    let address = DnsConfig { srv: None, port: None, ..both.clone() };
    assert_eq!(ask(address, "db@host.test").await.unwrap(), (strings(&["127.0.0.1 host.test"]), Some(60)));
    let srv = DnsConfig { address: None, ..both };
    assert_eq!(ask(srv, "db@host.test").await, Err(NoAnswer::Unknown { ttl: Some(Duration::from_secs(20)) }));
}

#[tokio::test]
async fn nothing_holds_for_as_long_as_the_zone_says() {
    for (soa, ttl) in [(Some((300, 20)), Some(20)), (Some((10, 20)), Some(10)), (None, None)] {
        let server = Server::new(Says(soa), &["other.test 60 A 127.0.0.1"]).await;
        let no = ask(config(&[&server], None, HOST), "db@host.test").await;
        assert_eq!(no, Err(NoAnswer::Unknown { ttl: ttl.map(Duration::from_secs) }));
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = Server::new(Truncates, &["host.test 60 A 127.0.0.1"]).await;
    let (list, _) = ask(config(&[&server], None, HOST), "db@host.test").await.unwrap();
    assert_eq!(list, ["127.0.0.1:9 host.test"]);
    let asked = server.asked();
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("tcp ")).count(), 2, "{asked:?}");
}

#[tokio::test]
async fn an_alias_leads_to_the_records_of_its_name_in_one_answer_or_several() {
    let zone = [
        "_ergo._tcp.db.test 50 CNAME services.test",
        "services.test 60 SRV 1 1 4370 alias.test",
        "alias.test 40 CNAME host.test",
        "host.test 60 A 127.0.0.1",
        "round.test 60 CNAME about.test",
        "about.test 60 CNAME round.test",
    ];
    let server = Server::new(Says(Some((5, 5))), &zone).await;
    let answers = ask(config(&[&server], SRV_OF_DB, None), "db@test").await.unwrap();
    assert_eq!(answers, (strings(&["127.0.0.1:4370 alias.test"]), Some(40)));
    let no = ask(config(&[&server], None, HOST), "db@round.test").await.unwrap_err();
    assert!(no.to_string().ends_with("an alias of an alias, and so on, more than 8 times"), "{no}");
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_is_of_no_use() {
    let good =
        Server::new(Says(None), &["host.test 60 A 127.0.0.1", "_ergo._tcp.db.host.test 60 SRV 1 1 1 host.test"]).await;
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let gone = Server { address: gone, asked: Arc::default() };
    for bad in [
        gone,
        Server::new(Habit::Says(ResponseCode::ServFail), &[]).await,
        Server::new(Habit::Says(ResponseCode::Refused), &[]).await,
        Server::new(Babbles, &[]).await,
        Server::new(Silent, &[]).await,
    ] {
        let dns = Dns::with(config(&[&bad, &good], SRV_OF_DB, None), Dice::seeded(1));
        let (list, _) = said(&dns, "db@host.test").await.unwrap();
        assert_eq!(list, ["127.0.0.1:1 host.test"]);
        bad.asked.lock().unwrap().clear();
        said(&dns, "db@host.test").await.unwrap();
        assert_eq!(bad.asked(), [""; 0], "who has answered is asked first");
    }
}

#[tokio::test]
async fn what_no_server_answers_is_said_with_its_name() {
    let text = async |server: &Server| {
        let no = ask(config(&[server], None, HOST), "db@host.test").await.unwrap_err();
        assert!(!no.is_certain(), "{no}");
        no.to_string().replace(&server.address.to_string(), "SERVER")
    };
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let began = tokio::time::Instant::now();
    let gone = text(&Server { address: gone, asked: Arc::default() }).await;
    assert!(gone.starts_with("is away: SERVER"), "{gone}");
    assert!(began.elapsed() < Duration::from_secs(2), "it is known before the time is over");
    let fails = Server::new(Habit::Says(ResponseCode::ServFail), &[]).await;
    assert_eq!(text(&fails).await, "has no answer for this name: SERVER says `Server Failure`");
    let babbles = text(&Server::new(Babbles, &[]).await).await;
    assert!(babbles.starts_with("gave an answer that is not understood: SERVER: "), "{babbles}");
    let strays = text(&Server::new(Strays, &[]).await).await;
    assert_eq!(
        strays,
        "gave an answer that is not understood: SERVER: the answer is about other names than host.test."
    );
}

#[tokio::test]
async fn one_family_is_enough_and_a_host_that_cannot_be_asked_for_is_left_out_for_a_while() {
    let zone =
        ["s.test 60 SRV 1 1 1 v4.test", "s.test 60 SRV 2 2 2 v6.test", "v4.test 60 A 127.0.0.1", "v6.test 60 AAAA ::1"];
    let server = Server::new(Says(Some((1, 1))), &zone).await;
    let answers = ask(config(&[&server], Some("s.test"), None), "x").await.unwrap();
    assert_eq!(answers, (strings(&["127.0.0.1:1 v4.test", "[::1]:2 v6.test"]), Some(60)));
}

#[tokio::test]
async fn an_address_in_the_name_is_the_answer_and_nobody_is_asked() {
    let server = Server::new(Says(None), &[]).await;
    let answers = ask(config(&[&server], None, HOST), "db@10.0.1.50").await.unwrap();
    assert_eq!(answers, (strings(&["10.0.1.50:9"]), None));
    assert_eq!(server.asked(), [""; 0]);
    let no = ask(config(&[&server], SRV_OF_DB, HOST), "db").await.unwrap_err();
    assert!(matches!(no, NoAnswer::NotAskable(_)), "{no}");
}

#[tokio::test]
async fn the_file_with_the_servers_is_read_at_each_question() {
    let one = Server::new(Says(None), &["host.test 60 A 127.0.0.1"]).await;
    let two = Server::new(Says(None), &["host.test 60 A 127.0.0.2"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    let dns = Dns::new(DnsConfig { resolv_conf: path.clone(), ..config(&[], None, HOST) });
    let no = said(&dns, "db@host.test").await.unwrap_err().to_string();
    assert_eq!(no, format!("is away: {} cannot be read: No such file or directory (os error 2)", path.display()));
    for (server, address) in [(&one, "127.0.0.1"), (&two, "127.0.0.2"), (&one, "127.0.0.1")] {
        fs::write(&path, format!("nameserver [{}]:{}\n", server.address.ip(), server.address.port())).unwrap();
        let (list, _) = said(&dns, "db@host.test").await.unwrap();
        assert_eq!(list, [format!("{address}:9 host.test")]);
    }
    fs::write(&path, "search test\n").unwrap();
    let no = said(&dns, "db@host.test").await.unwrap_err().to_string();
    assert_eq!(no, format!("is away: {} names no server", path.display()));
}

#[tokio::test]
async fn one_truncated_answer_may_hold_more_hosts_than_are_asked_for() {
    let lines: Vec<String> = (0..100)
        .flat_map(|n| [format!("s.test 60 SRV 1 1 {n} h{n}.test"), format!("h{n}.test 60 A 127.0.0.{n}")])
        .collect();
    let server = Server::new(Truncates, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (list, _) = ask(config(&[&server], Some("s.test"), None), "x").await.unwrap();
    assert_eq!(list.len(), MOST_HOSTS);
}
