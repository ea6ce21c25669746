//! The resolvers of a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Ask, Dns, Epmd, Ergo, Home, Resolver};
use crate::config::{ResolverConfig, ResolverKind};

/// The resolvers of a configuration, by name.
#[derive(Debug, Default)]
pub struct Resolvers {
    by_name: BTreeMap<Arc<str>, (ResolverConfig, Arc<Resolver>)>,
}

/// Whom discovery asks.
#[derive(Debug)]
pub struct Discovery {
    /// The resolver that is asked where no route matches, or all that match have failed.
    pub resolver: Arc<Resolver>,
    /// Whether it is asked when a route matched.
    pub after_static_failure: bool,
}

impl Resolvers {
    /// Those of a configuration. One that is configured as in `previous` is that one, with all that it knows.
    pub fn following(previous: Option<&Self>, configs: &[ResolverConfig], home: &Home) -> Self {
        let resolver = |config: &ResolverConfig| {
            let known = previous.and_then(|previous| previous.by_name.get(&config.name));
            let resolver = match known {
                Some((before, resolver)) if before == config => Arc::clone(resolver),
                Some(_) | None => start(config, home),
            };
            (Arc::clone(&config.name), (config.clone(), resolver))
        };
        Self { by_name: configs.iter().map(resolver).collect() }
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resolver>> {
        self.by_name.get(name).map(|(_, resolver)| resolver)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resolver>> {
        self.by_name.values().map(|(_, resolver)| resolver)
    }
}

fn start(config: &ResolverConfig, home: &Home) -> Arc<Resolver> {
    let (kind, ask): (_, Arc<dyn Ask>) = match &config.kind {
        ResolverKind::Static(nodes) => ("static", Arc::new(nodes.clone())),
        ResolverKind::Dns(config) => ("dns", Arc::new(Dns::new(config.clone()))),
        ResolverKind::Etcd(config) => {
            ("etcd", Arc::new(super::EtcdNodes::new(config.etcd.clone(), config.prefix.clone())))
        }
        ResolverKind::Ergo(port) => ("ergo", Arc::new(Ergo::new(*port, Arc::clone(home.nodes())))),
        ResolverKind::Epmd(port) => ("epmd", Arc::new(Epmd::new(*port))),
    };
    let (name, tls) = (Arc::clone(&config.name), Arc::clone(&config.answer_tls));
    Resolver::new(name, kind, ask, config.questions.clone(), tls, home.clone())
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::resolve::{Questions, StaticNodes};

    fn config(name: &str, names: usize) -> ResolverConfig {
        let questions = Questions { names, ..Questions::default() };
        let kind = ResolverKind::Static(StaticNodes::default());
        ResolverConfig { name: name.into(), kind, questions, answer_tls: Arc::default() }
    }

    #[tokio::test]
    async fn a_resolver_that_is_configured_as_before_is_the_same() {
        let following = |previous, configs: &[_]| Resolvers::following(previous, configs, &Home::on(Handle::current()));
        let first = following(None, &[config("a", 1), config("b", 1)]);
        let second = following(Some(&first), &[config("a", 1), config("b", 2)]);
        let is_same = |name| Arc::ptr_eq(first.get(name).unwrap(), second.get(name).unwrap());
        assert!(is_same("a") && !is_same("b") && second.iter().count() == 2);
        assert!(following(Some(&second), &[config("c", 1)]).get("a").is_none());
    }
}
