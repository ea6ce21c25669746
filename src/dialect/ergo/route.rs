//! `gen.Route` (gen/registrar.go), and a list of them as Ergo's etcd registrar writes it: base64 of EDF.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::edf::{BadEdf, REGISTERED, Reader, TYPE, put_slice, put_string};
use crate::node::NodeName;
use crate::resolve::Answer;
use crate::route::Host;

/// The registered name of the type.
const NAME: &str = "#ergo.services/ergo/gen/Route";

/// A route without any text: three of its strings' lengths for each version, host, port and TLS.
pub(super) const LEAST: usize = 2 + 2 + 1 + 2 * 4 * 2;

/// No host and no version is longer: what is kept of a node is bounded.
const LONGEST: usize = 255;

/// Where a node listens, as it registers itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GenRoute {
    /// The host; empty where it is the host part of the node's name, as it is in every route that Ergo registers.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// Of the handshake.
    pub handshake: Version,
    /// Of the protocol behind it.
    pub proto: Version,
}

/// `gen.Version`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// Such as `EHS`.
    pub name: String,
    /// Such as `R1`.
    pub release: String,
    /// Mostly empty.
    pub commit: String,
    /// Such as `MIT`.
    pub license: String,
}

impl Version {
    /// The first release of this name, as Ergo writes it.
    fn r1(name: &str) -> Self {
        Self { name: name.to_owned(), release: "R1".to_owned(), commit: String::new(), license: "MIT".to_owned() }
    }

    /// As Ergo writes it, `EHS:R1`; `None` of an empty one, and of one that is none by its length.
    fn shown(&self) -> Option<Arc<str>> {
        let is_one = !self.name.is_empty() && self.name.len() + self.release.len() < LONGEST;
        is_one.then(|| format!("{}:{}", self.name, self.release).into())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BadEdf> {
        let [name, release, commit, license] =
            ["its name", "its release", "its commit", "its license"].map(|what| reader.string(what));
        Ok(Self { name: name?, release: release?, commit: commit?, license: license? })
    }

    fn put(&self, out: &mut Vec<u8>) {
        [&self.name, &self.release, &self.commit, &self.license].into_iter().for_each(|text| put_string(out, text));
    }
}

impl GenRoute {
    /// A plain route with the versions that every node of Ergo 3 has.
    pub fn at(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: false, handshake: Version::r1("EHS"), proto: Version::r1("ENP") }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, BadEdf> {
        Ok(Self {
            host: reader.string("the host of a route")?,
            port: reader.u16("the port of a route")?,
            tls: reader.boolean("TLS of a route")?,
            handshake: Version::read(reader)?,
            proto: Version::read(reader)?,
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_string(out, &self.host);
        out.extend(self.port.to_be_bytes());
        out.push(self.tls.into());
        self.handshake.put(out);
        self.proto.put(out);
    }
}

/// The routes of a value in etcd. Line ends in it do not count, as Go's decoder has it.
pub fn routes_from_base64(value: &[u8]) -> Result<Vec<GenRoute>, BadEdf> {
    let text: Vec<u8> = value.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    let bytes = STANDARD.decode(text).map_err(|error| BadEdf { at: 0, what: format!("no base64: {error}") })?;
    let mut reader = Reader::new(&bytes);
    reader.expect(TYPE, "the type of the value")?;
    if reader.take(folded().len(), "the type of the value")? != folded() {
        return Err(reader.bad("the value is no list of routes"));
    }
    let routes = reader.slice("the routes", LEAST, GenRoute::read)?;
    if !reader.is_at_end() {
        return Err(reader.bad("bytes are left behind the routes"));
    }
    Ok(routes)
}

/// A value for etcd.
pub fn routes_to_base64(routes: &[GenRoute]) -> String {
    let mut bytes = vec![TYPE];
    bytes.extend(folded());
    put_slice(&mut bytes, routes, |out, route| route.put(out));
    STANDARD.encode(bytes)
}

/// "A slice of the registered type", with its length.
fn folded() -> Vec<u8> {
    let mut fold = vec![0x9d, REGISTERED];
    put_string(&mut fold, NAME);
    let mut folded = u16::try_from(fold.len()).unwrap_or_default().to_be_bytes().to_vec();
    folded.append(&mut fold);
    folded
}

/// What the routes of a node answer; `None` if they lead nowhere.
pub fn answers(node: &NodeName, routes: &[GenRoute]) -> Option<Arc<[Answer]>> {
    let own_host = host_part(node);
    let answer = |route: &GenRoute| {
        let host = Some(route.host.as_str()).filter(|host| !host.is_empty()).or(own_host)?;
        let host = Some(host).filter(|host| host.len() <= LONGEST)?;
        let host = IpAddr::from_str(host).map_or_else(|_| Host::Name(host.into()), Host::Ip);
        let (handshake, proto) = (route.handshake.shown(), route.proto.shown());
        let port = Some(route.port).filter(|port| *port != 0)?;
        Some(Answer { host, certified: None, port: Some(port), tls: Some(route.tls), handshake, proto })
    };
    let answers: Vec<_> = routes.iter().filter_map(answer).collect();
    (!answers.is_empty()).then(|| answers.into())
}

/// What stands behind the only `@` of a name (`gen.Atom.Host`).
pub(crate) fn host_part(node: &NodeName) -> Option<&str> {
    let (name, host) = node.as_str().split_once('@')?;
    (!name.is_empty() && !host.is_empty() && !host.contains('@')).then_some(host)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two values of Ergo's etcd registrar.
    const ONE: &str = "ggAhnYMAHSNlcmdvLnNlcnZpY2VzL2VyZ28vZ2VuL1JvdXRlnQAAAAEACTEwLjAuMS41MBESAQADRUhTAAJSMQAAAANNSVQAA0VOUAACUjEAAAADTUlU";
    const TWO: &str = "ggAhnYMAHSNlcmdvLnNlcnZpY2VzL2VyZ28vZ2VuL1JvdXRlnQAAAAIADGRiMS5pbnRlcm5hbDqYAAADRUhTAAJSMQAAAANNSVQAA0VOUAACUjEAAAADTUlUAAxkYjIuaW50ZXJuYWw6mQEAA0VIUwACUjEAAAADTUlUAANFTlAAAlIxAAAAA01JVA==";

    pub(in crate::dialect::ergo) fn route(host: &str, port: u16, tls: bool) -> GenRoute {
        GenRoute { tls, ..GenRoute::at(host, port) }
    }

    pub(in crate::dialect::ergo) fn any_route() -> impl Strategy<Value = GenRoute> {
        let version = || {
            ("[A-Z]{0,4}", "[A-Z0-9é]{0,4}", "[a-f0-9]{0,9}", ".{0,5}")
                .prop_map(|(name, release, commit, license)| Version { name, release, commit, license })
        };
        ("[a-z0-9.:]{0,20}", any::<u16>(), any::<bool>(), version(), version())
            .prop_map(|(host, port, tls, handshake, proto)| GenRoute { host, port, tls, handshake, proto })
    }

    #[test]
    fn the_values_of_ergo_are_read_and_written_byte_for_byte() {
        let one = [route("10.0.1.50", 4370, true)];
        let two = [route("db1.internal", 15000, false), route("db2.internal", 15001, true)];
        for (text, routes) in [(ONE, &one[..]), (TWO, &two[..])] {
            assert_eq!(routes_from_base64(text.as_bytes()).as_deref(), Ok(routes));
            assert_eq!(routes_to_base64(routes), text);
        }
        assert_eq!(routes_from_base64(format!("{ONE}\r\n").as_bytes()).map(|routes| routes.len()), Ok(1));
        let none = "ggAhnYMAHSNlcmdvLnNlcnZpY2VzL2VyZ28vZ2VuL1JvdXRl/w==";
        assert_eq!(routes_from_base64(none.as_bytes()), Ok(Vec::new()));
        assert_eq!(routes_to_base64(&[]), none);
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said_with_its_place() {
        let said = |value: &[u8]| routes_from_base64(value).unwrap_err().to_string();
        assert!(said(b"?").starts_with("at byte 0: no base64: "));
        assert_eq!(said(b""), "at byte 0: the type of the value needs 1 bytes, and 0 are left");
        assert_eq!(said(b"gw=="), "at byte 0: 0x83 stands in the place of the type of the value (0x82)");
        let short = STANDARD.decode(ONE).unwrap();
        let cut = STANDARD.encode(&short[..70]);
        assert!(said(cut.as_bytes()).contains("bytes, and "), "{}", said(cut.as_bytes()));
        let mut flood = short.clone();
        flood[37..41].fill(0xff);
        assert_eq!(
            said(STANDARD.encode(flood).as_bytes()),
            "at byte 37: the routes should be 4294967295, and 46 bytes are left"
        );
        let more = [&short[..], b"x"].concat();
        assert_eq!(said(STANDARD.encode(more).as_bytes()), "at byte 87: bytes are left behind the routes");
    }

    #[test]
    fn an_empty_host_is_the_host_part_of_the_name() {
        let node = |name| NodeName::parse(name).unwrap();
        let found = answers(&node("db@10.0.0.7"), &[route("", 1, false), route("h", 2, true), route("h", 0, true)]);
        let shown: Vec<_> =
            found.unwrap().iter().map(|one| format!("{}:{:?} {:?}", one.host, one.port, one.tls)).collect();
        assert_eq!(shown, ["10.0.0.7:Some(1) Some(false)", "h:Some(2) Some(true)"]);
        assert_eq!(answers(&node("db"), &[route("", 1, false)]), None);
        assert_eq!(answers(&node("a@b@c"), &[route("", 1, false)]), None);
        assert_eq!(answers(&node("db@x"), &[route(&"h".repeat(256), 1, false)]), None);
        let mut long = route("h", 1, false);
        long.handshake.release = "1".repeat(60_000);
        assert_eq!(answers(&node("db@x"), &[long]).unwrap()[0].handshake, None);
        let versions = answers(&node("db@x"), &[route("", 1, false)]).unwrap();
        assert_eq!(versions[0].handshake.as_deref(), Some("EHS:R1"));
    }

    proptest! {
        #[test]
        fn routes_are_read_as_they_are_written(routes in prop::collection::vec(any_route(), 0..5)) {
            prop_assert_eq!(routes_from_base64(routes_to_base64(&routes).as_bytes()), Ok(routes));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), whole in any::<bool>()) {
            let head = if whole { STANDARD.decode(ONE).unwrap()[..36].to_vec() } else { Vec::new() };
            drop(routes_from_base64(STANDARD.encode([head, bytes].concat()).as_bytes()));
        }
    }
}
