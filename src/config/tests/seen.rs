//! The exact text that a person sees for every kind of mistake.

use super::{Kind, messages, route, said};

#[test]
fn unknown_key() {
    let expected = "\
error: unknown key `wieght` in [[route]]
 --> routes.toml:4:1
  |
4 | wieght = 200
  | ^^^^^^
  |
  = help: did you mean `weight`?

1 error
";
    assert_eq!(said(Kind::Routes, &route("wieght = 200")), expected);
    assert_eq!(
        messages(Kind::Daemon, "[limits]\nspeed = 1"),
        ["unknown key `speed` in [limits]; write one of: relays, drain_timeout, half_close_timeout, idle_timeout, \
             leases, lease_idle_timeout"]
    );
}

#[test]
fn unknown_table() {
    let expected = "\
error: unknown table `sokcet` at the top level
 --> portolan.toml:1:2
  |
1 | [sokcet]
  |  ^^^^^^
  |
  = help: did you mean `socket`?

1 error
";
    assert_eq!(said(Kind::Daemon, "[sokcet]\npath = 'x'\n"), expected);
}

#[test]
fn wrong_type() {
    let expected = "\
error: `final` is a string, not true or false
 --> routes.toml:4:9
  |
4 | final = \"yes\"
  |         ^^^^^
  |
  = help: write `final = true` or `final = false`

1 error
";
    assert_eq!(said(Kind::Routes, &route("final = \"yes\"")), expected);
    assert_eq!(
        messages(Kind::Routes, &route("weight = 1.5\nname = 3\nconnect_timeout = 3\ntls = 'x'")),
        [
            "`weight` is a float, not an integer; \
                 write a whole number without quotes, from -9223372036854775808 to 9223372036854775807",
            "`name` is an integer, not a string; write text in quotes: '3'",
            "`connect_timeout` is an integer, not a duration; \
                 write a number and a unit, such as \"1500ms\", \"3s\" or \"5m\", from 1ms to 1h",
            "`tls` is a string, not true, false or a table; write `tls = true` or { ca = 'ca.pem' }",
        ]
    );
    assert_eq!(
        messages(Kind::Routes, "[route]\nmatch = 'x'"),
        ["`route` is a table, not an array of tables; write [[route]] on a line of its own, once for each"]
    );
}

#[test]
fn bad_regex() {
    let expected = "\
error: `match` is not a pattern: missing closing ): `prod-db(@`
 --> routes.toml:2:16
  |
2 | match = 'prod-db(@'
  |                 ^
  |
  = help: a literal character such as ( or [ is written with a backslash: \\(

1 error
";
    assert_eq!(said(Kind::Routes, "[[route]]\nmatch = 'prod-db(@'\nhost = 'h:1'\n"), expected.replace(":16", ":17"));
}

#[test]
fn bad_regex_between_three_quotes() {
    let said = said(Kind::Routes, "[[route]]\nmatch = '''^a{2,1}$'''\nhost = 'h:1'\n");
    assert!(said.contains("not a pattern: invalid repeat count: `{2,1}`\n --> routes.toml:2:14\n"), "{said}");
    assert!(said.contains("\n  |              ^^^^^\n"), "{said}");
}

#[test]
fn backslash_in_a_basic_string() {
    let expected = "\
error: a backslash in a \"...\" string begins an escape, and this is none
 --> routes.toml:2:14
  |
2 | match = \"prod\\.db\"
  |               ^
  |
  = help: write the text as a literal string, '...', in which a backslash is a backslash

1 error
";
    let text = "[[route]]\nmatch = \"prod\\.db\"\nhost = 'h:1'\n";
    assert_eq!(said(Kind::Routes, text), expected.replace(":14", ":15"));
    assert_eq!(
        messages(Kind::Routes, "[[route]]\nmatch = \"\\bprod\"\nhost = 'h:1'\n"),
        ["the pattern has the control character U+0008, which no node name has; \
              write the pattern as a literal string, '...', in which a backslash is a backslash"]
    );
}

#[test]
fn same_pattern_twice_in_a_file() {
    let expected = "\
error: the pattern `db` is taken
 --> routes.toml:6:9
  |
6 | match = 'db'
  |         ^^^^ written again here
  |
 ::: routes.toml:2:9
  |
2 | match = 'db'
  |         ---- first written here
  |
  = help: remove one of the two, or write their hosts as one array

1 error
";
    assert_eq!(said(Kind::Routes, &format!("{}{}", route(""), route(""))), expected);
    assert_eq!(said(Kind::Routes, &format!("{}{}", route(""), route("disabled = true"))), "");
}

#[test]
fn ports() {
    let expected = "\
error: `port` is 0, out of range
 --> routes.toml:4:8
  |
4 | port = 0
  |        ^
  |
  = help: write a whole number from 1 to 65535

error: `port` is 70000, out of range
 --> routes.toml:8:8
  |
8 | port = 70000
  |        ^^^^^
  |
  = help: write a whole number from 1 to 65535

2 errors
";
    let text = "[[route]]\nmatch = 'a'\nhost = 'h'\nport = 0\n[[route]]\nmatch = 'b'\nhost = 'h'\nport = 70000\n";
    assert_eq!(said(Kind::Routes, text), expected);
    assert_eq!(
        messages(Kind::Routes, "[[route]]\nmatch = 'a'\nhost = ['h', '::1', 'g:1']\n"),
        [
            "`h` has no port; add `port = 4370` to the route, or write it behind the host: 'h:4370'",
            "`::1` has no port; add `port = 4370` to the route, or write it behind the host: '[::1]:4370'",
        ]
    );
}

#[test]
fn empty_file() {
    let expected = "\
error: the file has no [[route]]
--> routes.toml
 = help: write one, or `allow_empty = true` if that is meant

1 error
";
    assert_eq!(said(Kind::Routes, ""), expected);
    assert_eq!(said(Kind::Routes, "allow_empty = true\n"), "");
    assert_eq!(said(Kind::Daemon, ""), "");
}

#[test]
fn socket_path_too_long() {
    let path = "a".repeat(108);
    let expected = format!(
        "\
error: the path of the socket has 108 bytes, a Unix socket has at most 107
 --> portolan.toml:2:8
  |
2 | path = '{path}'
  |        {}
  |
  = help: choose a shorter path than {}...

1 error
",
        "^".repeat(80),
        "a".repeat(60)
    );
    assert_eq!(said(Kind::Daemon, &format!("[socket]\npath = '{path}'\n")), expected);
    assert_eq!(said(Kind::Daemon, &format!("[socket]\npath = '{}'\n", "a".repeat(107))), "");
}

#[test]
fn unsupported_keys_and_tables() {
    let expected = "\
error: `dialect` is not supported yet
 --> routes.toml:4:1
  |
4 | dialect = \"ergo\"
  | ^^^^^^^
  |
  = help: remove it: this version would not do what it says

error: [[proxy_route]] is not supported yet
 --> routes.toml:5:1
  |
5 | [[proxy_route]]
  | ^^^^^^^^^^^^^^^
  |
  = help: remove it: this version would not do what it says

2 errors
";
    assert_eq!(said(Kind::Routes, &route("dialect = \"ergo\"\n[[proxy_route]]\nmatch = 'x'")), expected);
    let text = "[node]\n[socket]\nallow = {}\n";
    let messages = messages(Kind::Daemon, text);
    let what: Vec<_> = messages.iter().filter_map(|m| m.split_once(" is not supported yet")).map(|m| m.0).collect();
    let expected = ["[node]", "`allow`"];
    assert_eq!((what.as_slice(), messages.len()), (&expected[..], expected.len()));
}

#[test]
fn patterns_of_file_names() {
    let expected = "\
error: `*` stands in the name of a folder
 --> portolan.toml:1:12
  |
1 | routes = 'a*/b.toml'
  |            ^
  |
  = help: a pattern is of file names only: write one entry for each folder

1 error
";
    assert_eq!(said(Kind::Daemon, "routes = 'a*/b.toml'"), expected);
    let expected = "\
error: this is no pattern of file names: invalid range pattern
 --> portolan.toml:1:14
  |
1 | routes = 'd/a[b.toml'
  |              ^
  |
  = help: write [abc], [a-z] or [!a-z], and a bracket itself as [[]

1 error
";
    assert_eq!(said(Kind::Daemon, "routes = 'd/a[b.toml'"), expected);
    assert_eq!(
        messages(Kind::Daemon, "routes = ['a/**', 'b/*', './b/*']"),
        [
            "`**` is no pattern of file names; write `*`; folders below are not looked into",
            "\"./b/*\" is named twice; remove one of the two",
        ]
    );
}

#[test]
fn two_problems_at_once_in_the_order_of_the_file() {
    let text = "[[route]]\nwieght = 1\nmatch = 'a'\nhost = 'a b'\nfoo\n";
    let expected = "\
error: unknown key `wieght` in [[route]]
 --> routes.toml:2:1
  |
2 | wieght = 1
  | ^^^^^^
  |
  = help: did you mean `weight`?

error: `host` is \"a b\", and ' ' stands in no host name
 --> routes.toml:4:8
  |
4 | host = 'a b'
  |        ^^^^^
  |
  = help: write a name of letters, digits, `-`, `_` and `.`, or an address

error: key with no value, expected `=`
 --> routes.toml:5:4
  |
5 | foo
  |    ^
  |
  = help: write `key = value`

3 errors
";
    assert_eq!(said(Kind::Routes, text), expected);
}

#[test]
fn tls() {
    let text = route("tls = { cert = 'c.pem', server_name = 'a b', pin_sha256 = ['x'], insecure_skip_verify = true }");
    let messages = messages(Kind::Routes, &text);
    assert_eq!(messages[0], "`cert` is written without `key`; add `key = 'file.pem'`");
    assert_eq!(
        messages[1],
        "`server_name` is \"a b\", which no certificate bears; write a DNS name or an IP address, without a port"
    );
    assert!(messages[2].starts_with("\"x\" is no SHA-256 in base64; write the 44 characters of: openssl"));
    assert_eq!(
        messages[3],
        "the route `db` verifies the peer's key alone: neither chain nor dates nor name; that is right for a peer \
             without an authority; for any other, name its authority in `ca` instead"
    );
    assert_eq!(messages.len(), 4);

    assert_eq!(
        self::messages(Kind::Routes, &route("tls = { insecure_skip_verify = true }")),
        ["the route `db` does not verify who answers: anybody between here and there can; \
             name its certificate authority in `ca`, or its key in `pin_sha256`"]
    );
}

#[test]
fn forwards() {
    let text = "[socket]\npath = 'p.sock'\n[[forward]]\nlisten = '127.0.0.1:1'\nnode = 'a'\nmode = '0600'\n\
                    [[forward]]\nlisten = 'unix:./p.sock'\nnode = 'a'\nopen = true\n[[forward]]\nlisten = 'localhost:1'\n\
                    open = true\n[[forward]]\nlisten = '0.0.0.0:2'\nopen = true\nnode = 'a'\n";
    assert_eq!(
        messages(Kind::Daemon, text),
        [
            "it is not written who may use the TCP forward; \
                 write `users = ['app']`, or `open = true` for every user of this machine",
            "`mode` is for a forward on a Unix socket; remove it, or listen on \"unix:/path\"",
            "the address is taken; give each its own",
            "`open` is for a TCP forward; remove it: `mode`, `owner` and `group` say who may",
            "the forward has no `node`; write which node its clients are connected to: node = \"db@prod\"",
            "`listen` is \"localhost:1\", which is no address; \
                 write an address and a port, \"127.0.0.1:7001\" or \"[::1]:7001\", or \"unix:/path\"",
            "the forward on 0.0.0.0:2 is open to the network, not to this machine's users only; \
                 listen on 127.0.0.1 or [::1] unless that is meant",
        ]
    );
}

#[test]
fn values_of_the_daemon() {
    let text = "[socket]\nmode = '1777'\n[limits]\nrelays = 0\nidle_timeout = '0s'\ndrain_timeout = 'soon'\n\
                    [log]\nlevel = 'inof'\nformat = 'xml'\n";
    let duration = "write a number and a unit, such as \"1500ms\", \"3s\" or \"5m\", from 1ms to";
    assert_eq!(
        messages(Kind::Daemon, text),
        [
            "`mode` is \"1777\", which is no file mode; \
                 write octal digits from \"0000\" to \"0777\", such as \"0660\""
                .to_owned(),
            "`relays` is 0, out of range; write a whole number from 1 to 1000000000".to_owned(),
            format!("`idle_timeout` is \"0s\", out of range; {duration} 30days, or \"never\""),
            format!("`drain_timeout` is \"soon\", which is no duration; {duration} 1day"),
            "`level` is \"inof\", which is none of its values; did you mean `info`?".to_owned(),
            "`format` is \"xml\", which is none of its values; write one of: auto, text, json, journald".to_owned(),
        ]
    );
}

#[test]
fn settings_of_a_route() {
    let expected = "\
error: `source` is an IPv4 address, and every `host` an IPv6 address
 --> routes.toml:4:10
  |
4 | source = '10.0.0.5'
  |          ^^^^^^^^^^
  |
  = help: write an IPv6 address of this machine, or the name of an interface

1 error
";
    let text = "[[route]]\nmatch = 'a'\nhost = '[fd00::1]:1'\nsource = '10.0.0.5'\n";
    assert_eq!(said(Kind::Routes, text), expected);
    let wrong =
        "source = '10.0.0.0/8'\nproxy_protocol = 'v1'\nmax_relays = 0\nidle_timeout = '31days'\nkeepalive = '0s'";
    assert_eq!(
        messages(Kind::Routes, &route(wrong)),
        [
            "`source` is \"10.0.0.0/8\", neither an address nor the name of an interface; \
                 write an address of this machine, '10.0.0.5', or the name of an interface, 'eth1'",
            "`proxy_protocol` is \"v1\", which is none of its values; did you mean `v2`?",
            "`max_relays` is 0, out of range; write a whole number from 1 to 1000000000",
            "`idle_timeout` is \"31days\", out of range; write a number and a unit, such as \"1500ms\", \"3s\" or \"5m\", \
                 from 1ms to 30days, or \"never\"",
            "`keepalive` is \"0s\", out of range; write a number and a unit, such as \"1500ms\", \"3s\" or \"5m\", \
                 from 1s to 9h, or \"never\"",
        ]
    );
    assert_eq!(
        messages(Kind::Daemon, "[dial]\nrace_after = '3s'"),
        [
            "`race_after` has no effect: an attempt has ended by its `connect_timeout` before; write a shorter one, or \"never\""
        ]
    );
}

#[cfg(feature = "etcd")]
#[test]
fn shared_tables() {
    let all = "routes = ['r.toml', 'etcd:fleet', 'etcd:other', 'etcd:fleet', 'etcd:lab', 'etcd:flee']\n\
               [resolver.fleet]\ntype = 'etcd'\nendpoints = 'http://e:2379'\n\
               [resolver.other]\ntype = 'etcd'\nendpoints = 'http://e:2379'\n\
               [resolver.lab]\ntype = 'static'\nnodes = { 'a@b' = 'h:1' }\n";
    let expected = [
        "a second shared table: a daemon follows one; remove one of the two",
        "\"etcd:fleet\" is named twice; remove one of the two",
        "[resolver.lab] is not of type etcd; name one that is: a table is shared through etcd only",
        "there is no resolver \"flee\"; write [resolver.flee] in portolan.toml, or name another",
    ];
    assert_eq!(messages(Kind::Daemon, all), expected);
}
