//! The servers that a resolv.conf(5) names; what else stands in it is not for names that are whole already.

use std::net::{IpAddr, SocketAddr};

/// Each server in its order, with port 53 where none is written: `nameserver 10.0.0.53`, or with a port as OpenBSD writes
/// it, `nameserver [10.0.0.53]:5353`. A line that says nothing of this kind is passed over, as the C library does.
pub(super) fn servers(text: &str) -> Vec<SocketAddr> {
    text.lines().filter_map(server).collect()
}

fn server(line: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;

    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") || line.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let address = words.next()?;
    match address.strip_prefix('[') {
        None => Some(SocketAddr::new(address.parse().ok()?, PORT)),
        Some(bracketed) => {
            let (ip, port) = bracketed.split_once("]:")?;
            Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_stand_in_their_order() {
        let text = "# made by hand\nsearch example.org\nnameserver 10.0.0.1\nnameserver\t::1 # near\n\
                    nameserver [127.0.0.1]:5353\r\nnameserver [fd00::1]:53\noptions edns0 timeout:1\n";
        let servers: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "127.0.0.1:5353", "[fd00::1]:53"]);
    }

    #[test]
    fn what_names_no_server_is_passed_over() {
        let text = "nameserver\nnameserver dns.example\n;nameserver 10.0.0.1\n nameserver 10.0.0.2\n\
                    nameserver [10.0.0.3]\nnameserver [10.0.0.4]:70000\nnameservers 10.0.0.5\n\0";
        assert_eq!(servers(text), []);
    }
}
