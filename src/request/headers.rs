//! The header lines of a request, where two readers could disagree.

use super::BadHead;
use super::http::malformed;

/// Those of one head.
pub(super) struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    pub(super) fn of(lines: &'a [httparse::Header<'a>]) -> Self {
        Self(lines)
    }

    fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b [u8]> {
        self.0.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// Whether one of the lists of this name holds the token, in any case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// RFC 9112, section 3.2: exactly one Host line under HTTP/1.1, never two. What it says means nothing here.
    pub(super) fn check_host(&self, minor: u8) -> Result<(), BadHead> {
        match self.values("host").count() {
            1 => Ok(()),
            0 if minor == 0 => Ok(()),
            0 => malformed("an HTTP/1.1 head needs a Host line, such as `Host: portolan` (RFC 9112, section 3.2)"),
            _ => malformed("the head has more than one Host line (RFC 9112, section 3.2)"),
        }
    }

    /// How long the body is; exactly one line says it.
    pub(super) fn length(&self) -> Result<Vec<u8>, BadHead> {
        if self.values("transfer-encoding").next().is_some() {
            return malformed("the head has a Transfer-Encoding; send the body with a Content-Length");
        }
        let mut lengths = self.values("content-length");
        match (lengths.next(), lengths.next()) {
            (Some(length), None) => Ok(length.to_owned()),
            (None, _) => malformed("the head has no Content-Length, and the node is asked for in the body"),
            (Some(_), Some(_)) => malformed("the head has more than one Content-Length"),
        }
    }

    /// A body would be taken for the first bytes to the node, or the other way round.
    pub(super) fn check_no_body(&self) -> Result<(), BadHead> {
        if self.values("transfer-encoding").next().is_some() {
            return malformed("the head has a Transfer-Encoding, but a request has no body here");
        }
        if self.values("content-length").any(|value| value != b"0") {
            return malformed("the head has a Content-Length other than 0, but a request has no body here");
        }
        Ok(())
    }
}
