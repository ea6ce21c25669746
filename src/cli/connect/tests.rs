//! The command against a scripted daemon on a Unix socket.

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n";

/// A listener in a folder of its own, and the arguments that find it.
struct Scene {
    folder: tempfile::TempDir,
    listener: UnixListener,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        Self { folder, listener }
    }

    /// Accepts the client, reads its head and answers.
    async fn answer(&self, answer: &[u8]) -> (String, UnixStream) {
        let (mut daemon, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(daemon.read_u8().await.unwrap());
        }
        daemon.write_all(answer).await.unwrap();
        (String::from_utf8(head).unwrap(), daemon)
    }

    async fn connect(
        &self,
        timeout: Option<Duration>,
        input: impl AsyncRead + Unpin,
        output: impl AsyncWrite + Unpin,
    ) -> Result<(), Failure> {
        let args = ConnectArgs { socket: None, timeout, node: NodeName::parse("a/b@c").unwrap() };
        connect(&args, &Client::at(self.folder.path().join("s")), input, output).await
    }

    /// What a client with this input and no end of patience is told by a daemon that answers so and ends.
    async fn refused_by(&self, answer: &[u8]) -> (String, Exit) {
        let daemon = async { drop(self.answer(answer).await) };
        let (ended, ()) = tokio::join!(self.connect(None, &b""[..], Vec::new()), daemon);
        let failure = ended.unwrap_err();
        (failure.to_string(), failure.exit())
    }
}

/// Bytes of every value, in no short period.
fn binary(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn input_ends_and_the_answer_still_comes() {
    let scene = Scene::new();
    let mut output = Vec::new();
    let daemon = async {
        let (head, mut daemon) = scene.answer(&[SWITCHED, b"first "].concat()).await;
        assert_eq!(
            head,
            "GET /v1/connect/a%2Fb@c HTTP/1.1\r\nHost: portolan\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n"
        );
        let mut question = String::new();
        daemon.read_to_string(&mut question).await.unwrap();
        daemon.write_all(question.to_uppercase().as_bytes()).await.unwrap();
    };
    let (ended, ()) = tokio::join!(scene.connect(None, &b"question"[..], &mut output), daemon);
    ended.unwrap();
    assert_eq!(output, b"first QUESTION");
}

#[tokio::test]
async fn large_binary_data_goes_both_ways_at_once() {
    let scene = Scene::new();
    let (up, down) = (binary(5_000_001), binary(3_000_017));
    let mut output = Vec::new();
    let daemon = async {
        let (_, daemon) = scene.answer(SWITCHED).await;
        let (mut read, mut write) = daemon.into_split();
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(read.read_to_end(&mut got), async {
            write.write_all(&down).await.unwrap();
            write.shutdown().await.unwrap();
        });
        read.unwrap();
        got
    };
    let (ended, got) = tokio::join!(scene.connect(None, &up[..], &mut output), daemon);
    ended.unwrap();
    assert!(got == up && output == down);
}

#[tokio::test]
async fn a_node_that_ends_first_still_gets_a_whole_file() {
    let scene = Scene::new();
    let file = binary(2_000_000);
    let daemon = async {
        let (_, mut daemon) = scene.answer(SWITCHED).await;
        daemon.shutdown().await.unwrap();
        let mut got = Vec::new();
        daemon.read_to_end(&mut got).await.unwrap();
        got
    };
    let (ended, got) = tokio::join!(scene.connect(None, &file[..], Vec::new()), daemon);
    ended.unwrap();
    assert!(got == file);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ended_is_not_kept_by_a_silent_input() {
    let scene = Scene::new();
    let (_keyboard, input) = tokio::io::duplex(1);
    let mut output = Vec::new();
    let daemon = async { drop(scene.answer(&[SWITCHED, b"bye"].concat()).await) };
    let (ended, ()) = tokio::join!(scene.connect(None, input, &mut output), daemon);
    ended.unwrap();
    assert_eq!(output, b"bye");
}

#[tokio::test]
async fn a_refusal_names_each_attempt_and_steers_no_terminal() {
    let body = r#"{"title":"Bad Gateway","status":502,"code":"all_failed","detail":"all 2 attempts failed","node":"a",
        "attempts":[{"match":"^a","node":"a","address":"10.0.1.50:4370","stage":"tcp","error":"connection refused","ms":1},
        {"match":"^a","node":"a","address":"h:1","stage":"dns","error":"\u001b[2Jboo","ms":20}],"more_attempts":3}"#;
    let answer = format!("HTTP/1.1 502 Bad Gateway\r\ncontent-length: {}\r\n\r\n{body}and more", body.len());
    let told = "refused: all 2 attempts failed\n  10.0.1.50:4370, tcp: connection refused (1 ms), route ^a\n  \
                h:1, dns: \u{fffd}[2Jboo (20 ms), route ^a\n  and 3 more attempts";
    assert_eq!(Scene::new().refused_by(answer.as_bytes()).await, (told.to_owned(), Exit::Refused));
}

#[tokio::test]
async fn an_answer_of_the_daemon_is_understood() {
    let node = NodeName::parse("a").unwrap();
    let answer = crate::request::refused(crate::request::Form::Upgrade, Some(&node), &crate::close::Refused::NoRoute);
    let told = "refused: no route matches the node; `portolan lookup NAME` shows what the table has for a name";
    assert_eq!(Scene::new().refused_by(&answer).await, (told.to_owned(), Exit::Refused));
}

#[tokio::test]
async fn a_daemon_that_answers_before_it_reads_is_heard() {
    let scene = Scene::new();
    let daemon = async {
        let (mut daemon, _) = scene.listener.accept().await.unwrap();
        let answer = crate::request::refused(crate::request::Form::Upgrade, None, &crate::close::Refused::Busy);
        daemon.write_all(&answer).await.unwrap();
    };
    let (ended, ()) = tokio::join!(scene.connect(None, &b""[..], Vec::new()), daemon);
    assert_eq!(ended.unwrap_err().exit(), Exit::Refused);
}

#[tokio::test]
async fn a_cut_is_not_an_end() {
    let scene = Scene::new();
    let daemon = async {
        let (_, daemon) = scene.answer(SWITCHED).await;
        // A Unix socket that is closed with bytes unread resets its peer.
        daemon.readable().await.unwrap();
    };
    let (_keyboard, rest) = tokio::io::duplex(1);
    let input = (&b"x"[..]).chain(rest);
    let (ended, ()) = tokio::join!(scene.connect(None, input, Vec::new()), daemon);
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit(), Exit::Cut);
    assert!(failure.to_string().starts_with("the connection was cut: "), "{failure}");
}

#[tokio::test]
async fn what_the_node_said_before_it_took_no_more_is_output() {
    let scene = Scene::new();
    let mut output = Vec::new();
    let daemon = async {
        let (_, mut daemon) = scene.answer(SWITCHED).await;
        daemon.write_all(b"enough").await.unwrap();
    };
    let (ended, ()) = tokio::join!(scene.connect(None, tokio::io::repeat(b'x'), &mut output), daemon);
    assert_eq!(ended.unwrap_err().exit(), Exit::Cut);
    assert_eq!(output, b"enough");
}

#[tokio::test]
async fn an_output_that_nobody_reads_ends_quietly() {
    let scene = Scene::new();
    let (output, reader) = tokio::io::duplex(1);
    drop(reader);
    let (_keyboard, input) = tokio::io::duplex(1);
    let answer = [SWITCHED, b"unheard"].concat();
    let daemon = scene.answer(&answer);
    let (ended, _daemon) = tokio::join!(scene.connect(None, input, output), daemon);
    assert_eq!(ended.unwrap_err().exit(), Exit::Ok);
}

#[tokio::test]
async fn what_is_no_daemon_is_said_to_be_none() {
    let scene = Scene::new();
    for (answer, why) in [
        (&b""[..], "it ended the connection without an answer"),
        (b"SSH-2.0-x\r\n", "it does not speak HTTP/1.1: invalid HTTP version"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "it answered with the HTTP status 200"),
    ] {
        let told = format!("what listens there is no portolan daemon, or it is broken: {why}");
        assert_eq!(scene.refused_by(answer).await, (told, Exit::NoDaemon));
    }
    let args = ConnectArgs { socket: None, timeout: None, node: NodeName::parse("a").unwrap() };
    let nowhere = Client::at(scene.folder.path().join("nowhere"));
    assert_eq!(connect(&args, &nowhere, &b""[..], Vec::new()).await.unwrap_err().exit(), Exit::NoDaemon);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_silent_past_the_timeout_is_none() {
    let scene = Scene::new();
    let daemon = scene.answer(b"");
    let (ended, (head, _daemon)) =
        tokio::join!(scene.connect(Some(Duration::from_millis(1500)), &b""[..], Vec::new()), daemon);
    assert_eq!(ended.unwrap_err().exit(), Exit::NoDaemon);
    assert!(head.starts_with("GET /v1/connect/a%2Fb@c?deadline=1500000us HTTP/1.1\r\n"), "{head}");
}

#[test]
fn arguments_are_checked_before_anything_is_opened() {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ConnectArgs,
    }
    let parse = |args: &[&str]| Command::try_parse_from([&["connect"], args].concat()).map(|command| command.args);
    let args = parse(&["--socket", "/s", "--timeout", "2s", "a@b"]).unwrap();
    assert_eq!((args.socket, args.timeout), (Some(PathBuf::from("/s")), Some(Duration::from_secs(2))));
    for (bad, why) in [
        (&["a\nb"][..], "the node name has the control character U+000A"),
        (&[""], "the node name is empty"),
        (&["--timeout", "0s", "a"], "it must be more than 0 and at most 1h"),
        (&["--timeout", "2h", "a"], "it must be more than 0 and at most 1h"),
        (&["--timeout", "soon", "a"], "write a duration such as 2s or 1500ms"),
        (&[], "<NAME>"),
    ] {
        let error = parse(bad).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(why), "{error}");
    }
}
