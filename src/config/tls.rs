//! `tls` of a route.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use toml::Spanned;

use super::context::Context;
use super::document::Document;
use super::problem::Problem;
use super::section::{Keys, Section, brief};
use crate::dial::Opened;
use crate::route::{Identity, TlsPolicy};

pub(super) const KEYS: Keys = Keys {
    heading: "`tls`",
    known: &["ca", "cert", "key", "server_name", "pin_sha256", "insecure_skip_verify"],
    later: &[],
};

const ANSWER_KEYS: Keys = Keys { heading: "`answer_tls`", known: KEYS.known, later: &[] };

/// The policies of a table: equal ones are one, and their files are opened once.
pub(super) struct Policies<'a> {
    shared: Mutex<HashSet<Arc<TlsPolicy>>>,
    opened: HashSet<Arc<TlsPolicy>>,
    context: Context<'a>,
}

/// Where a policy is written first in a part of a file.
pub(super) struct Written {
    policy: Arc<TlsPolicy>,
    at: Range<usize>,
    keys: Vec<(String, Range<usize>)>,
}

impl<'a> Policies<'a> {
    pub(super) fn new(context: Context<'a>) -> Self {
        Self { shared: Mutex::default(), opened: HashSet::new(), context }
    }

    /// What the routes may name.
    pub(super) fn context(&self) -> &Context<'a> {
        &self.context
    }

    /// The policy of a route, called `route` in messages; `written` gets it when it is not there yet. A problem has been
    /// reported, except those of the files.
    pub(super) fn read(
        &self,
        section: &Section<'_>,
        route: &str,
        written: &mut Vec<Written>,
    ) -> Option<Arc<TlsPolicy>> {
        let value = section.value("tls")?;
        let policy = match (value.get_ref().as_bool(), value.get_ref().as_table()) {
            (Some(false), _) => return None,
            (Some(true), _) => TlsPolicy::default(),
            (_, Some(_)) => policy(&section.section("tls", &KEYS)?, &format!("`{}`", brief(route))),
            (None, None) => {
                section.wrong_type("tls", value, "true, false or a table", "write `tls = true` or { ca = 'ca.pem' }");
                return None;
            }
        };
        let policy = self.share(policy);
        if !written.iter().any(|written| Arc::ptr_eq(&written.policy, &policy)) {
            let table = value.get_ref().as_table();
            let keys = table.into_iter().flatten().map(|(key, value)| (key.get_ref().to_string(), value.span()));
            written.push(Written { policy: Arc::clone(&policy), at: value.span(), keys: keys.collect() });
        }
        Some(policy)
    }

    /// The policy of `answer_tls`; the default where it is not written.
    pub(super) fn of_resolver(section: &Section<'_>, resolver: &str) -> TlsPolicy {
        match section.value("answer_tls") {
            None => TlsPolicy::default(),
            Some(_) => section
                .section("answer_tls", &ANSWER_KEYS)
                .map(|tls| policy(&tls, &format!("[resolver.{}]", brief(resolver))))
                .unwrap_or_default(),
        }
    }

    /// Opens the files of those that were not opened before.
    pub(super) fn open(&mut self, document: &Document, written: Vec<Written>) {
        let Some(trusts) = &mut self.context.trusts else { return };
        for Written { policy, at, keys } in written {
            if !self.opened.insert(Arc::clone(&policy)) {
                continue;
            }
            let (key, problem) = match trusts.open(&policy) {
                Ok(Opened::Fresh | Opened::Kept | Opened::Renewed) => continue,
                Ok(Opened::KeptOld(error)) => {
                    let message = format!("{error}; what was read from it before stays in force");
                    (error.key, Problem::warning(message))
                }
                Err(error) => (error.key, Problem::error(error.to_string())),
            };
            let span = keys.into_iter().find(|(written, _)| written == key).map_or(at, |(_, span)| span);
            document.report(span, problem.help("put it right, or name another file"));
        }
    }

    fn share(&self, policy: TlsPolicy) -> Arc<TlsPolicy> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(&policy) {
            return Arc::clone(known);
        }
        let policy = Arc::new(policy);
        shared.insert(Arc::clone(&policy));
        policy
    }
}

fn policy(tls: &Section<'_>, route: &str) -> TlsPolicy {
    let insecure_skip_verify = tls.boolean("insecure_skip_verify").unwrap_or(false);
    if insecure_skip_verify {
        tls.report(tls.key_span("insecure_skip_verify"), unverified(route, tls.has("pin_sha256")));
    }
    TlsPolicy {
        ca: tls.path("ca").map(Spanned::into_inner),
        identity: identity(tls),
        server_name: server_name(tls),
        pins: pins(tls),
        insecure_skip_verify,
    }
}

/// What `insecure_skip_verify` gives up; with a pin that is much less.
fn unverified(route: &str, pinned: bool) -> Problem {
    if pinned {
        let message = format!("the route {route} verifies the peer's key alone: neither chain nor dates nor name");
        return Problem::warning(message)
            .help("that is right for a peer without an authority; for any other, name its authority in `ca` instead");
    }
    let message = format!("the route {route} does not verify who answers: anybody between here and there can");
    Problem::warning(message).help("name its certificate authority in `ca`, or its key in `pin_sha256`")
}

fn identity(tls: &Section<'_>) -> Option<Identity> {
    let (cert, key) = (tls.path("cert"), tls.path("key"));
    for (here, missing) in [("cert", "key"), ("key", "cert")] {
        if tls.has(here) && !tls.has(missing) {
            let problem = Problem::error(format!("`{here}` is written without `{missing}`"));
            tls.document().report_missing(tls.key_span(here), problem.help(format!("add `{missing} = 'file.pem'`")));
        }
    }
    cert.zip(key).map(|(cert, key)| Identity { cert: cert.into_inner(), key: key.into_inner() })
}

fn server_name(tls: &Section<'_>) -> Option<String> {
    let text = tls.text("server_name")?;
    if ServerName::try_from(*text.get_ref()).is_err() {
        let message = format!("`server_name` is \"{}\", which no certificate bears", brief(text.get_ref()));
        tls.report(text.span(), Problem::error(message).help("write a DNS name or an IP address, without a port"));
        return None;
    }
    Some((*text.get_ref()).to_owned())
}

fn pins(tls: &Section<'_>) -> Vec<[u8; 32]> {
    let parse = |text: Spanned<&str>| {
        let pin = parse_pin(text.get_ref());
        if pin.is_none() {
            let message = format!("\"{}\" is no SHA-256 in base64", brief(text.get_ref()));
            let help = "write the 44 characters of: openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin \
                        -outform der | openssl dgst -sha256 -binary | base64";
            tls.report(text.span(), Problem::error(message).help(help));
        }
        pin
    };
    tls.texts("pin_sha256").unwrap_or_default().into_iter().filter_map(parse).collect()
}

/// As RFC 7469 writes it, section 2.1.1: base64; `sha256//` before it is how curl does.
fn parse_pin(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.strip_prefix("sha256//").unwrap_or(text)).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_32_bytes_of_base64() {
        let pin = "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";
        assert!(parse_pin(pin).is_some());
        assert_eq!(parse_pin(&format!("sha256//{pin}")), parse_pin(pin));
        assert_eq!(parse_pin("d6qzRu9z"), None);
        assert_eq!(parse_pin("?"), None);
    }
}
