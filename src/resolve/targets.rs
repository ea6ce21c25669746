//! What answers come to where a route says something in their place: field by field, what is written wins.

use std::sync::Arc;

use super::cache::MOST_ANSWERS;
use super::{Answer, NoAnswer};
use crate::route::{Asked, HostPort, TlsPolicy, Upstream};

/// Where an answer leads, ready to be dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub upstream: Upstream,
    /// How TLS is spoken there; `None` is plain TCP.
    pub tls: Option<Arc<TlsPolicy>>,
    /// The name that its certificate must bear; `None`: the host as it is dialed.
    pub certified: Option<Arc<str>>,
}

/// What stands in place of what a resolver answers.
#[derive(Debug, Clone, Copy)]
pub struct Override<'a> {
    hosts: &'a [HostPort],
    port: Option<u16>,
    tls: Tls<'a>,
}

/// Whose word counts for TLS.
#[derive(Debug, Clone, Copy)]
enum Tls<'a> {
    /// It is spoken so, whatever the answer says.
    Forced(&'a Arc<TlsPolicy>),
    /// It is not spoken, whatever the answer says.
    Plain,
    /// The answer's.
    Answered,
}

impl<'a> Override<'a> {
    /// What a route says; `tls` is the route's.
    pub fn of(asked: &'a Asked, tls: Option<&'a Arc<TlsPolicy>>) -> Self {
        let tls = match tls {
            Some(policy) => Tls::Forced(policy),
            None if asked.is_plain => Tls::Plain,
            None => Tls::Answered,
        };
        Self { hosts: &asked.hosts, port: asked.port, tls }
    }

    /// Discovery has nothing to say, but for TLS where a route that matched has it: that is never weakened.
    pub fn of_discovery(tls: Option<&'a Arc<TlsPolicy>>) -> Self {
        Self { hosts: &[], port: None, tls: tls.map_or(Tls::Answered, Tls::Forced) }
    }

    /// Where the answers lead, in their order, each place once. `said` is how TLS is spoken where an answer says so.
    pub fn apply(self, answers: &[Answer], said: &Arc<TlsPolicy>) -> Result<Vec<Target>, NoAnswer> {
        let mut targets = Vec::new();
        for answer in answers {
            let tls = match self.tls {
                Tls::Forced(policy) => Some(policy),
                Tls::Answered if answer.tls == Some(true) => Some(said),
                Tls::Plain | Tls::Answered => None,
            };
            for (host, own, certified) in self.hosts_for(answer) {
                let Some(port) = own.or(self.port).or(answer.port) else { continue };
                let upstream = Upstream { host: host.clone(), port };
                let target = Target { upstream, tls: tls.cloned(), certified: certified.cloned() };
                if targets.len() < MOST_ANSWERS && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            return Err(NoAnswer::NotAskable("it answers without a port, and none is written in its place".to_owned()));
        }
        Ok(targets)
    }

    /// The hosts to be dialed for an answer, each with its own port and the name that its certificate must bear.
    fn hosts_for(
        self,
        answer: &'a Answer,
    ) -> impl Iterator<Item = (&'a crate::route::Host, Option<u16>, Option<&'a Arc<str>>)> {
        let written = self.hosts.iter().map(|written| (&written.host, written.port, None));
        let answered = self.hosts.is_empty().then_some((&answer.host, None, answer.certified.as_ref()));
        written.chain(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Host;

    fn answer(host: &str, port: Option<u16>, tls: Option<bool>) -> Answer {
        Answer { host: Host::Name(host.into()), certified: None, port, tls, handshake: None, proto: None }
    }

    fn asked(hosts: &[(&str, Option<u16>)], port: Option<u16>, is_plain: bool) -> Asked {
        let hosts = hosts.iter().map(|(host, port)| HostPort { host: Host::Name((*host).into()), port: *port });
        Asked { resolver: "r".into(), hosts: hosts.collect(), port, is_plain }
    }

    fn policy(server_name: &str) -> Arc<TlsPolicy> {
        Arc::new(TlsPolicy { server_name: Some(server_name.to_owned()), ..TlsPolicy::default() })
    }

    /// Each target as `host:port`, with the server name of its policy where it has TLS.
    fn shown(over: Override<'_>, answers: &[Answer]) -> Vec<String> {
        let targets = over.apply(answers, &policy("said")).unwrap();
        let name = |tls: &Arc<TlsPolicy>| format!(" {}", tls.server_name.as_deref().unwrap());
        targets.iter().map(|t| format!("{}{}", t.upstream, t.tls.as_ref().map(name).unwrap_or_default())).collect()
    }

    #[test]
    fn each_field_that_is_written_wins_and_the_others_are_the_answers() {
        let answers = [answer("a", Some(1), Some(true)), answer("b", Some(2), None), answer("b", Some(2), None)];
        assert_eq!(shown(Override::of(&asked(&[], None, false), None), &answers), ["a:1 said", "b:2"]);
        assert_eq!(shown(Override::of(&asked(&[], Some(9), true), None), &answers), ["a:9", "b:9"]);
        let bastion = asked(&[("x", None), ("y", Some(7))], None, false);
        assert_eq!(shown(Override::of(&bastion, None), &answers), ["x:1 said", "y:7 said", "x:2", "y:7"]);
        let forced = policy("forced");
        let all = asked(&[("x", None)], Some(9), false);
        assert_eq!(shown(Override::of(&all, Some(&forced)), &answers), ["x:9 forced"]);
        assert_eq!(shown(Override::of_discovery(Some(&forced)), &answers), ["a:1 forced", "b:2 forced"]);
        assert_eq!(shown(Override::of_discovery(None), &answers), ["a:1 said", "b:2"]);
    }

    #[test]
    fn an_answer_without_a_port_needs_one() {
        let answers = [answer("a", None, None), answer("b", Some(2), None)];
        assert_eq!(shown(Override::of(&asked(&[], None, false), None), &answers), ["b:2"]);
        assert!(Override::of_discovery(None).apply(&answers[..1], &policy("said")).is_err());
    }

    #[test]
    fn a_host_that_is_written_must_be_certified_itself() {
        let answers = [Answer { certified: Some("db.example".into()), ..answer("10.0.0.1", Some(1), Some(true)) }];
        let certified = |over: Override<'_>| over.apply(&answers, &policy("said")).unwrap()[0].certified.clone();
        assert_eq!(certified(Override::of_discovery(None)).as_deref(), Some("db.example"));
        assert_eq!(certified(Override::of(&asked(&[("x", None)], None, false), None)), None);
    }

    #[test]
    fn a_flood_of_answers_is_cut() {
        let answers: Vec<_> = (1..2000).map(|port| answer("a", Some(port), None)).collect();
        assert_eq!(Override::of_discovery(None).apply(&answers, &policy("said")).unwrap().len(), MOST_ANSWERS);
    }
}
