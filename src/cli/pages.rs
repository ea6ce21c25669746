//! The lists of the admin API, asked for page by page.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::admin::{Admin, Failure};
use crate::admin::segment;
use crate::admin::view::{
    AnswerPage, KnownView, RelayPage, RelayView, RoutePage, RouteView, UpstreamPage, UpstreamView,
};

/// So many entries are asked for at once.
const PAGE: usize = 1000;

/// A page of a list.
pub(super) trait Page: DeserializeOwned {
    /// What is listed.
    type Entry;

    /// Its entries, and what the next page is asked for with, if there is one.
    fn parts(self) -> (Vec<Self::Entry>, Option<String>);
}

/// The pages of a list, one after the other.
pub(super) struct Pages<'a, P> {
    admin: &'a Admin,
    path: String,
    /// The place of the next page in the query, if there is one.
    after: Option<String>,
    kind: PhantomData<P>,
}

impl<'a, P: Page> Pages<'a, P> {
    /// `filter`: what the query says besides, each key behind a `&`.
    pub(super) fn new(admin: &'a Admin, list: &str, filter: &str) -> Self {
        Self { admin, path: format!("{list}?limit={PAGE}{filter}"), after: Some(String::new()), kind: PhantomData }
    }

    /// The whole list.
    pub(super) fn all(self) -> Result<Vec<P::Entry>, Failure> {
        Ok(self.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

impl<P: Page> Iterator for Pages<'_, P> {
    type Item = Result<Vec<P::Entry>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let after = self.after.take()?;
        let page = self.admin.get::<P>(&format!("{}{after}", self.path));
        Some(page.map(|page| {
            let (entries, next) = page.parts();
            self.after = next.map(|next| format!("&after={next}"));
            entries
        }))
    }
}

impl Page for RoutePage {
    type Entry = RouteView;

    fn parts(self) -> (Vec<RouteView>, Option<String>) {
        (self.routes, self.next)
    }
}

impl Page for RelayPage {
    type Entry = RelayView;

    fn parts(self) -> (Vec<RelayView>, Option<String>) {
        (self.relays, self.next.map(|next| next.to_string()))
    }
}

impl Page for AnswerPage {
    type Entry = KnownView;

    fn parts(self) -> (Vec<KnownView>, Option<String>) {
        (self.answers, self.next.map(|next| segment(&next)))
    }
}

impl Page for UpstreamPage {
    type Entry = UpstreamView;

    fn parts(self) -> (Vec<UpstreamView>, Option<String>) {
        (self.upstreams, self.next.map(|next| next.to_string()))
    }
}
