//! Why a request of the API is not done: the only map to status, code and body.

use hyper::header::{self, HeaderValue};
use hyper::{StatusCode, http::HeaderName};

use super::view::ErrorView;
use super::{Answer, with_body};
use crate::control::Refusal;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Error {
    /// The change is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing in force matches the node; so many routes that do were removed at run time.
    #[error("no route matches the node{}", removed(*.0))]
    NoRoute(usize),
    /// No upstream that requests have wanted has this number.
    #[error("no upstream has the number {0}; `portolan upstreams` lists those that requests have wanted")]
    NoUpstream(u64),
    /// No resolver of the configuration has this name.
    #[error("no resolver is called {0}; `portolan resolvers` lists those of the configuration")]
    NoResolver(String),
    /// The query, the path or the body cannot be read: where and why.
    #[error("{0}")]
    BadRequest(String),
    /// The path names nothing.
    #[error("there is nothing at this path; a / inside a pattern is written %2F")]
    NotFound,
    /// The method cannot be had here; these can.
    #[error("this path takes {0}")]
    MethodNotAllowed(&'static str),
    /// The body does not come.
    #[error("the body did not come in time")]
    TooSlow,
    /// The body has more bytes than this.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// The body is of another kind.
    #[error("the body must be JSON, and its Content-Type application/json")]
    MediaType,
    /// Our own fault.
    #[error("the answer cannot be made: {0}")]
    Internal(String),
}

impl Error {
    /// The only map from an error to what a client is told.
    fn outcome(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(Refusal::Taken(_)) => (StatusCode::CONFLICT, "taken"),
            Self::Refused(Refusal::Unknown) | Self::NoUpstream(_) | Self::NoResolver(_) => {
                (StatusCode::NOT_FOUND, "unknown")
            }
            Self::Refused(Refusal::Invalid(_)) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Refused(Refusal::Unkept(_)) => (StatusCode::INSUFFICIENT_STORAGE, "unkept"),
            Self::Refused(Refusal::Ending) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::NoRoute(_) => (StatusCode::NOT_FOUND, "no_route"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// A header line that the status asks for.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::MethodNotAllowed(allowed) => Some((header::ALLOW, HeaderValue::from_static(allowed))),
            Self::Refused(Refusal::Ending) => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        }
    }

    /// What the client is told.
    pub(super) fn answer(self) -> Answer {
        let (status, code) = self.outcome();
        let (header, detail) = (self.header(), self.to_string());
        let problems = if let Self::Refused(Refusal::Invalid(problems)) = self { problems } else { Vec::new() };
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let view = ErrorView { title, status: status.as_u16(), code: code.to_owned(), detail, problems };
        // Texts and numbers: there is nothing that could not be written.
        let mut body = serde_json::to_vec(&view).unwrap_or_default();
        body.push(b'\n');
        let mut answer = with_body(status, "application/problem+json", body);
        answer.headers_mut().extend(header);
        answer
    }
}

fn removed(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "; one that does was removed at run time".to_owned(),
        count => format!("; {count} that do were removed at run time"),
    }
}
