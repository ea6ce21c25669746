//! What leads to an upstream: a route of the table, or discovery.

use std::fmt;
use std::sync::Arc;

use crate::resolve::Discovery;
use crate::route::{Route, Row, Settings};

/// What leads to an upstream. Cloning is cheap.
#[derive(Debug, Clone)]
pub enum Course {
    /// A route of the table.
    Route(Arc<Row<Route>>),
    /// The default resolver, for what no route has reached.
    Discovery(Arc<Discovery>),
}

impl Course {
    /// How it is dialed and its relays are kept.
    pub fn settings(&self) -> &Settings {
        match self {
            Self::Route(route) => route.settings(),
            Self::Discovery(_) => &Settings::DEFAULT,
        }
    }

    /// The pattern of the route.
    pub fn pattern(&self) -> Option<&str> {
        match self {
            Self::Route(route) => Some(route.pattern.as_str()),
            Self::Discovery(_) => None,
        }
    }

    /// The name of the resolver that was asked, if one was.
    pub fn resolver(&self) -> Option<&str> {
        match self {
            Self::Route(route) => route.reach.asked().map(|asked| &*asked.resolver),
            Self::Discovery(discovery) => Some(discovery.resolver.name()),
        }
    }

    /// Whether both are the same row of a table, or the same discovery.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Route(one), Self::Route(other)) => Arc::ptr_eq(one, other),
            (Self::Discovery(one), Self::Discovery(other)) => Arc::ptr_eq(one, other),
            (Self::Route(_) | Self::Discovery(_), _) => false,
        }
    }
}

impl From<Arc<Row<Route>>> for Course {
    fn from(route: Arc<Row<Route>>) -> Self {
        Self::Route(route)
    }
}

/// `route "^db@"` or `resolver "fleet"`.
impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => write!(f, "route {:?}", route.pattern.as_str()),
            Self::Discovery(discovery) => write!(f, "resolver {:?}", &**discovery.resolver.name()),
        }
    }
}
