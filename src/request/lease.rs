//! `POST /v1/forwards`: a client asks for a forward of its own, and says in JSON to which node.

use serde::{Deserialize, Serialize};

use super::{BadHead, MAX_HEAD};
use crate::node::NodeName;

/// What is asked for: the body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    node: String,
}

/// What is given: the body of the answer, in the one shape that the daemon writes and clients read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// The node that it leads to.
    pub node: String,
    /// The address that it listens on.
    pub host: String,
    /// The port, of the kernel's choice.
    pub port: u16,
    /// It ends when nobody has used it and nobody has asked for it again for so many milliseconds.
    pub idle_timeout_ms: u64,
}

/// Where the body ends that begins behind a head of so many bytes.
pub(super) fn end_of_body(head: usize, length: &[u8]) -> Result<usize, BadHead> {
    // Digits alone: `parse` would take a sign.
    let digits = str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(digits) = digits.filter(|digits| !digits.is_empty()) else {
        return Err(BadHead::Malformed("the Content-Length is no number".to_owned()));
    };
    let end = digits.parse().ok().and_then(|length: usize| head.checked_add(length));
    end.filter(|end| *end <= MAX_HEAD).ok_or(BadHead::TooLarge)
}

/// The node that a body asks for.
pub(super) fn wanted(body: &[u8]) -> Result<NodeName, BadHead> {
    let bad = |why: String| BadHead::Malformed(format!("the body: {why}; write {{\"node\": \"db@prod\"}}"));
    // serde would take the array of an object's values for the object.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(bad("it is no JSON object".to_owned()));
    }
    let Wanted { node } = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    NodeName::parse(&node).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_names_a_node_and_nothing_else() {
        assert_eq!(wanted(br#" {"node": "db@\u043c"} "#).unwrap().as_str(), "db@м");
        let said = |body: &str| wanted(body.as_bytes()).unwrap_err().to_string();
        for (body, why) in [
            (r#"{"nod": "a"}"#, "unknown field `nod`, expected `node` at line 1 column 6"),
            (r#"{"node": "a", "node": "b"}"#, "duplicate field `node` at line 1 column 20"),
            (r#"{"node": 1}"#, "invalid type: integer `1`, expected a string at line 1 column 10"),
            (r#"{"node": "a"} x"#, "trailing characters at line 1 column 15"),
            ("{}", "missing field `node` at line 1 column 2"),
            ("", "EOF while parsing a value at line 1 column 0"),
            (r#"["a"]"#, "it is no JSON object"),
            (r#"{"node": ""}"#, "the node name is empty"),
            (r#"{"node": "a\n"}"#, "the node name has the control character U+000A"),
        ] {
            assert_eq!(said(body), format!("the body: {why}; write {{\"node\": \"db@prod\"}}"), "{body}");
        }
    }

    #[test]
    fn a_body_has_a_length_and_an_end() {
        assert_eq!(end_of_body(100, b"20"), Ok(120));
        assert_eq!(end_of_body(100, b"8092"), Ok(8192));
        for large in [&b"8093"[..], b"18446744073709551615", b"99999999999999999999"] {
            assert_eq!(end_of_body(100, large), Err(BadHead::TooLarge));
        }
        for bad in [&b""[..], b"+1", b"-1", b"1,1", b"0x1", b"\xff"] {
            assert_eq!(end_of_body(1, bad).unwrap_err().to_string(), "the Content-Length is no number");
        }
    }

    proptest! {
        #[test]
        fn any_node_that_is_written_is_read(node in "\\PC{1,60}") {
            let body = serde_json::json!({ "node": node }).to_string();
            let read = wanted(body.as_bytes()).unwrap();
            prop_assert_eq!(read.as_str(), node);
        }

        #[test]
        fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(wanted(&body));
            drop(end_of_body(body.len(), &body));
        }
    }
}
