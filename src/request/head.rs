//! One head, fed in pieces of any size; the first byte tells SOCKS5 from HTTP.

use super::http::Head;
use super::{BadHead, ConnectRequest, Form, MAX_HEAD, http, lease, socks5};
use crate::node::NodeName;

/// Reads the head of one client, and holds at most [`MAX_HEAD`] bytes of it.
///
/// What comes out does not depend on how the bytes were split. After [`Step::Request`], [`Step::Lease`] or an error it
/// is spent.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// The bytes that no step has used yet.
    held: Vec<u8>,
    reading: Reading,
}

/// What the next bytes belong to.
#[derive(Debug, Default, Clone, Copy)]
enum Reading {
    /// Nothing is known: no byte has come.
    #[default]
    FirstByte,
    /// An HTTP head, which does not end within the first `searched` bytes.
    Http { searched: usize },
    /// The body of the wish for a lease, from one place to another.
    Body { from: usize, to: usize },
    /// The methods that a SOCKS5 client offers.
    Greeting,
    /// What a greeted SOCKS5 client asks for.
    Socks5Request,
}

/// What came of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The head is not complete.
    More,
    /// The client waits for these bytes (the SOCKS5 method); send them and call [`HeadReader::advance`] with no input,
    /// because what follows may have been read already.
    Reply(&'static [u8]),
    /// The head is complete.
    Request(ConnectRequest),
    /// A forward to this node is asked for. What follows is nobody's.
    Lease(NodeName),
}

impl HeadReader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, at most [`HeadReader::room`] of them: more is [`BadHead::TooLarge`].
    pub fn advance(&mut self, input: &[u8]) -> Result<Step, BadHead> {
        if input.len() > self.room() {
            return Err(BadHead::TooLarge);
        }
        let len = self.held.len() + input.len();
        if len > self.held.capacity() {
            // Doubled as usual, but not beyond what a head may have.
            let capacity = (2 * self.held.capacity()).clamp(len, MAX_HEAD);
            self.held.reserve_exact(capacity - self.held.len());
        }
        self.held.extend_from_slice(input);
        let step = self.step()?;
        if step == Step::More && self.room() == 0 {
            return Err(BadHead::TooLarge);
        }
        Ok(step)
    }

    /// How many bytes may be read next; never zero while the head is incomplete.
    pub fn room(&self) -> usize {
        MAX_HEAD.saturating_sub(self.held.len())
    }

    /// The form in which this client can be answered, as far as its first byte tells; `None` before that byte.
    ///
    /// The forms of HTTP are answered alike, and so is what is neither HTTP nor SOCKS5.
    pub fn form(&self) -> Option<Form> {
        match self.reading {
            Reading::Greeting => Some(Form::Socks5Greeting),
            Reading::Socks5Request => Some(Form::Socks5),
            Reading::FirstByte | Reading::Http { .. } | Reading::Body { .. } => match self.held.first()? {
                b'C' => Some(Form::Connect),
                _ => Some(Form::Upgrade),
            },
        }
    }

    fn step(&mut self) -> Result<Step, BadHead> {
        if let (Reading::FirstByte, Some(first)) = (self.reading, self.held.first()) {
            self.reading = by_first_byte(*first)?;
        }
        match self.reading {
            Reading::FirstByte => Ok(Step::More),
            Reading::Http { searched } => match end_of_head(&self.held, searched) {
                None => {
                    self.reading = Reading::Http { searched: self.held.len() };
                    Ok(Step::More)
                }
                Some(end) => match http::parse(self.held.get(..end).unwrap_or_default())? {
                    Head::Connect(request) => {
                        let tail = self.held.split_off(end);
                        Ok(Step::Request(ConnectRequest { tail, ..request }))
                    }
                    Head::Lease(length) => {
                        self.reading = Reading::Body { from: end, to: lease::end_of_body(end, &length)? };
                        self.step()
                    }
                },
            },
            Reading::Body { from, to } => match self.held.get(from..to) {
                None => Ok(Step::More),
                Some(body) => lease::wanted(body).map(Step::Lease),
            },
            Reading::Greeting => Ok(match socks5::greeting(&self.held)? {
                None => Step::More,
                Some(end) => {
                    self.held.drain(..end);
                    self.reading = Reading::Socks5Request;
                    Step::Reply(socks5::NO_AUTHENTICATION)
                }
            }),
            Reading::Socks5Request => Ok(match socks5::request(&self.held)? {
                None => Step::More,
                Some((node, end)) => {
                    let tail = self.held.split_off(end);
                    Step::Request(ConnectRequest { node, form: Form::Socks5, deadline: None, handoff: false, tail })
                }
            }),
        }
    }
}

fn by_first_byte(first: u8) -> Result<Reading, BadHead> {
    let guess = match first {
        socks5::VERSION => return Ok(Reading::Greeting),
        b'A'..=b'Z' => return Ok(Reading::Http { searched: 0 }),
        0x04 => "this looks like SOCKS4",
        0x16 => "this looks like TLS",
        _ => return Err(BadHead::Malformed(format!("the first byte is 0x{first:02x}; {SPOKEN_HERE}"))),
    };
    Err(BadHead::Malformed(format!("{guess}; {SPOKEN_HERE}")))
}

const SPOKEN_HERE: &str = "the socket speaks plain HTTP/1.1 (GET or CONNECT) or SOCKS5";

/// Where the first empty line ends. A line ends with CR LF, or with LF alone (RFC 9112, section 2.2).
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    (searched + 1..=bytes.len())
        .find(|end| bytes.get(..*end).is_some_and(|so_far| so_far.ends_with(b"\n\r\n") || so_far.ends_with(b"\n\n")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of a client's bytes: the replies, the request or the error, and the form known at the end.
    type Outcome = (Vec<u8>, Result<Option<ConnectRequest>, BadHead>, Option<Form>);

    /// The node that a lease is asked for is no tail, and stands here as a request without one.
    fn as_request(node: NodeName) -> ConnectRequest {
        ConnectRequest { handoff: true, ..ConnectRequest::forward(node) }
    }

    /// Feeds the pieces, never more than there is room for; what comes after the request belongs to its tail.
    fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let mut reader = HeadReader::new();
        let mut replies = Vec::new();
        let mut request: Option<ConnectRequest> = None;
        for piece in pieces {
            let mut piece = piece;
            while !piece.is_empty() {
                if let Some(request) = &mut request {
                    request.tail.extend_from_slice(piece);
                    break;
                }
                let (mut now, later) = piece.split_at(piece.len().min(reader.room()));
                loop {
                    match reader.advance(now) {
                        Err(bad) => {
                            assert!(reader.form().is_some(), "an error can be answered");
                            return (replies, Err(bad), reader.form());
                        }
                        Ok(Step::More) => break,
                        Ok(Step::Reply(reply)) => replies.extend_from_slice(reply),
                        Ok(Step::Request(complete)) => {
                            request = Some(complete);
                            break;
                        }
                        Ok(Step::Lease(node)) => return (replies, Ok(Some(as_request(node))), None),
                    }
                    now = b"";
                }
                assert!(reader.held.len() <= MAX_HEAD && reader.held.capacity() <= MAX_HEAD);
                piece = later;
            }
        }
        (replies, Ok(request), None)
    }

    /// Whole, byte by byte, and at every split in two.
    fn assert_splits_agree(bytes: &[u8]) -> Outcome {
        let whole = feed([bytes]);
        assert_eq!(feed(bytes.chunks(1)), whole, "byte by byte");
        for at in 0..=bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert_eq!(feed([left, right]), whole, "split at {at}");
        }
        whole
    }

    fn request(bytes: &[u8]) -> ConnectRequest {
        assert_splits_agree(bytes).1.unwrap().unwrap()
    }

    const UPGRADE: &[u8] =
        b"GET /v1/connect/a@b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n";
    const CONNECT: &[u8] = b"CONNECT a@b:0 HTTP/1.0\r\n\r\n";
    const SOCKS5: &[u8] = b"\x05\x01\x00\x05\x01\x00\x03\x03a@b\x00\x00";

    #[test]
    fn every_form_at_every_split_with_a_tail_behind_it() {
        for (head, form) in [(UPGRADE, Form::Upgrade), (CONNECT, Form::Connect), (SOCKS5, Form::Socks5)] {
            for tail in [&b""[..], b"\r\n\r\n", b"\x05\x01\x00GET / HTTP/1.1\n\n"] {
                let got = request(&[head, tail].concat());
                assert_eq!((got.form, got.node.as_str(), &got.tail[..]), (form, "a@b", tail));
            }
        }
    }

    #[test]
    fn a_lease_is_asked_for_at_every_split_whatever_follows() {
        let post = |length: usize, body: &str| {
            format!("POST /v1/forwards HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
        };
        let body = r#"{"node": "db@x"}"#;
        for behind in ["", "GET / HTTP/1.1\r\n\r\n"] {
            let asked = assert_splits_agree(&post(body.len(), &format!("{body}{behind}")));
            assert_eq!(asked.1, Ok(Some(as_request(NodeName::parse("db@x").unwrap()))));
        }
        assert_eq!(assert_splits_agree(&post(body.len() + 1, body)).1, Ok(None), "it is not complete");
        let cut = assert_splits_agree(&post(body.len() - 1, body)).1.unwrap_err().to_string();
        assert!(cut.starts_with("the body: EOF while parsing an object"), "{cut}");
        assert_eq!(assert_splits_agree(&post(MAX_HEAD, body)).1, Err(BadHead::TooLarge));
    }

    #[test]
    fn a_socks5_client_is_greeted_before_it_asks() {
        let mut reader = HeadReader::new();
        assert_eq!(reader.advance(SOCKS5), Ok(Step::Reply(b"\x05\x00")));
        assert_eq!(reader.form(), Some(Form::Socks5));
        assert!(matches!(reader.advance(b""), Ok(Step::Request(_))));
    }

    #[test]
    fn what_curl_writes_is_read() {
        let upgrade = b"GET /v1/connect/prod-db@10.0.1.50 HTTP/1.1\r\nHost: portolan\r\nUser-Agent: curl/7.88.1\r\n\
            Accept: */*\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n";
        let socks5 = b"\x05\x02\x00\x01\x05\x01\x00\x03\x11prod-db@10.0.1.50\x00P";
        for head in [&upgrade[..], socks5] {
            assert_eq!(request(head).node.as_str(), "prod-db@10.0.1.50");
        }
    }

    #[test]
    fn lines_may_end_with_lf_alone() {
        assert_eq!(request(b"CONNECT a@b HTTP/1.0\n\nX").tail, b"X");
        assert_eq!(request(b"CONNECT a@b HTTP/1.1\nHost: x\r\n\nX").tail, b"X");
    }

    #[test]
    fn what_is_neither_http_nor_socks5_is_refused_at_once() {
        for (first, text) in [
            (0x16, "this looks like TLS; the socket speaks plain HTTP/1.1 (GET or CONNECT) or SOCKS5"),
            (0x04, "this looks like SOCKS4; the socket speaks plain HTTP/1.1 (GET or CONNECT) or SOCKS5"),
            (b'\r', "the first byte is 0x0d; the socket speaks plain HTTP/1.1 (GET or CONNECT) or SOCKS5"),
        ] {
            let mut reader = HeadReader::new();
            assert_eq!(reader.advance(&[first]).unwrap_err().to_string(), text);
            assert_eq!(reader.form(), Some(Form::Upgrade));
        }
    }

    #[test]
    fn the_form_is_known_by_the_first_byte() {
        for (first, form) in [(b"G", Form::Upgrade), (b"C", Form::Connect), (b"\x05", Form::Socks5Greeting)] {
            let mut reader = HeadReader::new();
            assert_eq!(reader.form(), None);
            assert_eq!(reader.advance(first), Ok(Step::More));
            assert_eq!(reader.form(), Some(form));
        }
    }

    #[test]
    fn a_head_has_at_most_8192_bytes() {
        let head = |len: usize| {
            let (start, end) = ("CONNECT a@b HTTP/1.0\r\nx: ", "\r\n\r\n");
            format!("{start}{}{end}", "y".repeat(len - start.len() - end.len())).into_bytes()
        };
        assert!(matches!(feed([&head(MAX_HEAD)[..]]).1, Ok(Some(_))));
        assert!(matches!(feed(head(MAX_HEAD).chunks(1)).1, Ok(Some(_))));
        assert!(matches!(feed(head(MAX_HEAD).chunks(4095)).1, Ok(Some(_))));
        assert_eq!(feed([&head(MAX_HEAD + 1)[..]]).1, Err(BadHead::TooLarge));
        assert_eq!(feed(head(MAX_HEAD + 1).chunks(1)).1, Err(BadHead::TooLarge));
        assert_eq!(HeadReader::new().advance(&[b'G'; MAX_HEAD + 1]), Err(BadHead::TooLarge));
    }

    /// Bytes that look like heads of each form, and bytes that look like nothing.
    fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
        let any_head = "[A-Z]{1,8} [ -~]{0,60} HTTP/1\\.[01]\r?\n([A-Za-z-]{1,18}: ?[ -~]{0,20}\r?\n){0,4}\r?\n";
        let good_head = "(GET|CONNECT) (/v1/connect/)?[a-z@%0-9:?=&\\[\\]]{0,30} HTTP/1\\.1\r\nHost: x\r\n\
                         Connection: upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n[a-z\r\n]{0,9}";
        let noise = || prop::collection::vec(any::<u8>(), 0..300);
        let socks5 = (0u8..4, 0u8..3, 0u8..6, noise()).prop_map(|(methods, command, address_type, rest)| {
            let offered = (0..methods).collect();
            [vec![5, methods], offered, vec![5, command, 0, address_type], rest].concat()
        });
        prop_oneof![any_head.prop_map(String::into_bytes), good_head.prop_map(String::into_bytes), socks5, noise()]
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(bytes in client_bytes(), cuts in prop::collection::vec(1usize..40, 0..12)) {
            let whole = feed([&bytes[..]]);
            prop_assert_eq!(&feed(bytes.chunks(1)), &whole);
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            pieces.push(rest);
            prop_assert_eq!(feed(pieces), whole);
        }
    }
}
