//! The resolvers of a configuration. One whose settings are as before is the same, with all that it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Resolver;

/// The resolvers, by their names, each with the settings `S` that it was made of.
#[derive(Debug)]
pub struct Resolvers<S>(BTreeMap<Arc<str>, (S, Arc<Resolver>)>);

impl<S: PartialEq> Resolvers<S> {
    /// The resolvers of a new configuration: those of the previous one whose settings are the same, and new ones by
    /// `make`. What is not in it any more ends with the last request that asks it.
    pub fn following(
        previous: Option<&Self>,
        settings: impl IntoIterator<Item = (Arc<str>, S)>,
        mut make: impl FnMut(&Arc<str>, &S) -> Arc<Resolver>,
    ) -> Self {
        let before = |name: &str, settings: &S| {
            let (old, resolver) = previous?.0.get(name)?;
            (old == settings).then(|| Arc::clone(resolver))
        };
        let followed = settings.into_iter().map(|(name, settings)| {
            let resolver = before(&name, &settings).unwrap_or_else(|| make(&name, &settings));
            (name, (settings, resolver))
        });
        Self(followed.collect())
    }

    /// The resolver of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resolver>> {
        self.0.get(name).map(|(_, resolver)| resolver)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resolver>> {
        self.0.values().map(|(_, resolver)| resolver)
    }
}

impl<S> Default for Resolvers<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
