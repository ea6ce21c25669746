//! A question that is asked, and the requests that wait for what comes of it.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use super::{Answers, NoAnswer, Outcome, Resolver};
use crate::node::NodeName;

/// A request's wait for a question that others may wait for as well; dropping it leaves the question to them.
pub struct Waiting(Pin<Box<dyn Future<Output = Outcome> + Send>>);

/// A question under way. However it ends, who waits is told.
pub(super) struct Question {
    pub(super) resolver: Arc<Resolver>,
    pub(super) node: NodeName,
    pub(super) begun: Instant,
    /// How often changes may have been missed before it was asked.
    pub(super) doubts: u64,
    pub(super) said: watch::Sender<Option<Outcome>>,
    /// What the service said; `None`: the question was broken off, by the end of the daemon or a panic.
    pub(super) outcome: Option<Result<Answers, NoAnswer>>,
    pub(super) _slot: OwnedSemaphorePermit,
}

impl Question {
    /// For how long an answer that would serve is held back for a better one.
    const PATIENCE: Duration = Duration::from_millis(500);

    pub(super) async fn run(mut self) {
        let mut asked = pin!(timeout(self.resolver.timeout(), self.resolver.service().ask(self.node.clone())));
        let outcome = match timeout(Self::PATIENCE, &mut asked).await {
            Ok(outcome) => outcome,
            Err(_late) => {
                self.resolver.late(&self);
                asked.await
            }
        };
        self.outcome = Some(outcome.unwrap_or(Err(NoAnswer::TimedOut)));
    }

    pub(super) fn say(&self, outcome: Outcome) {
        self.said.send_replace(Some(outcome));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        Arc::clone(&self.resolver).ended(self, outcome);
    }
}

impl Waiting {
    pub(super) fn for_one(mut said: watch::Receiver<Option<Outcome>>) -> Self {
        Self(Box::pin(async move {
            let outcome = said.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            // Whoever asks says something before it lets go.
            outcome.unwrap_or_else(|| Err(NoAnswer::Away("the question was broken off".to_owned())))
        }))
    }
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}
