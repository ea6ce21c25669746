//! What the routes of a table may name besides themselves.

use std::sync::Arc;

use crate::dial::Trusts;

/// What the routes of a table may name besides themselves, as far as whoever reads them knows it.
#[derive(Debug, Default)]
pub struct Context<'a> {
    /// Opens the files that `tls` names; without it they are not looked at.
    pub trusts: Option<&'a mut Trusts>,
    /// The names of the resolvers that there are; without it none is missed.
    pub resolvers: Option<Vec<Arc<str>>>,
}

impl Context<'_> {
    /// The resolver's name, shared by all who name it; `None` if there is no such resolver.
    pub(super) fn resolver(&self, name: &str) -> Option<Arc<str>> {
        let Some(resolvers) = &self.resolvers else { return Some(name.into()) };
        resolvers.iter().find(|resolver| &***resolver == name).map(Arc::clone)
    }
}

impl<'a> From<Option<&'a mut Trusts>> for Context<'a> {
    fn from(trusts: Option<&'a mut Trusts>) -> Self {
        Self { trusts, resolvers: None }
    }
}
