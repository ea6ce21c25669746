//! What a resolver makes of what it hears: whether its service is there, and what the log is told.

use tokio::time::Instant;
use tracing::{field, info, warn};

use super::outage::Failure;
use super::resolver::{Inside, Resolver};
use super::status::State;
use super::{Answers, NoAnswer};
use crate::node::NodeName;

/// The log's words for a node that a service which is there does not answer about.
const NO_ANSWER: &str = "resolver has no answer for a node";

impl Resolver {
    /// Notes what it means for the service that it said this of a node, or nothing. The log hears of the begin of an
    /// outage and of its end. What is returned is to be kept of the node in place of the outcome.
    pub(super) fn hear(
        &self,
        inside: &mut Inside,
        node: &NodeName,
        outcome: &Result<Answers, NoAnswer>,
        asked: Instant,
        now: Instant,
    ) -> Option<NoAnswer> {
        match outcome {
            // Our own doing.
            Err(NoAnswer::NotAskable(_) | NoAnswer::Busy) => {}
            Err(NoAnswer::Away(error)) => {
                self.failed(inside, node, Failure { error: error.clone(), is_silence: false, asked }, now);
            }
            Err(NoAnswer::TimedOut) => {
                let error = format!("no answer within {}", humantime::format_duration(self.timeout()));
                if inside.outages.has_answered_since(self.service().service(node), asked) {
                    self.tell(inside, node, NO_ANSWER, &error);
                    return Some(NoAnswer::Refused(format!("{error}, where others are answered")));
                }
                self.failed(inside, node, Failure { error, is_silence: true, asked }, now);
            }
            Ok(_) | Err(NoAnswer::Unknown { .. }) => self.answered(inside, node, now),
            Err(NoAnswer::Garbled(error)) => {
                self.answered(inside, node, now);
                self.tell(inside, node, "resolver was not understood", error);
            }
            Err(NoAnswer::Refused(error)) => {
                self.answered(inside, node, now);
                self.tell(inside, node, NO_ANSWER, error);
            }
        }
        None
    }

    /// The log hears of what concerns one node, once in a while.
    fn tell(&self, inside: &Inside, node: &NodeName, what: &'static str, error: &str) {
        if inside.told.turn().is_some() {
            let (resolver, service) = self.names(node);
            warn!(resolver, service, %node, error, "{what}");
        }
    }

    fn answered(&self, inside: &mut Inside, node: &NodeName, now: Instant) {
        inside.counts.is(State::Up, now);
        if let Some(outage) = inside.outages.answered(self.service().service(node), now) {
            let ((resolver, service), after) = (self.names(node), outage.away(now).lasts);
            let oldest_served = outage.oldest_served.map(field::debug);
            info!(resolver, service, ?after, oldest_served, "resolver is back");
        }
    }

    fn failed(&self, inside: &mut Inside, node: &NodeName, failure: Failure, now: Instant) {
        inside.counts.is(State::Away, now);
        let error = failure.error.clone();
        if inside.outages.failed(self.service().service(node), node, failure, now) {
            let (resolver, service) = self.names(node);
            warn!(resolver, service, error, "resolver is away; old answers serve as long as they may");
        }
        if let (Some(old), Some(outage)) =
            (inside.cache.old(node, now), inside.outages.of(self.service().service(node)))
        {
            outage.serves(old.age);
        }
    }

    /// What the log calls it, and which of its services, if there are several.
    fn names<'a>(&'a self, node: &'a NodeName) -> (&'a str, Option<&'a str>) {
        (self.name(), Some(self.service().service(node)).filter(|service| !service.is_empty()))
    }
}
