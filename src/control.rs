//! Asks for changes at run time: whoever wants one sends it to the task that owns the table, and waits for its answer.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::admin::view::{ChangeView, ProblemView};
use crate::config::{Severity, plural};
use crate::route::{Route, Row, Taken};

/// Asks the task that owns the table. Changes are made one after the other, in the order in which they were asked for.
#[derive(Debug, Clone)]
pub struct Control {
    asks: mpsc::Sender<Ask>,
}

/// A change that is asked for, and where its answer goes.
#[derive(Debug)]
pub enum Ask {
    /// Add a route: an object with the keys of `[[route]]`.
    Add(Value, Reply<(Arc<Row<Route>>, ChangeView)>),
    /// Take the route with this pattern out.
    Remove(String, Reply<ChangeView>),
    /// Read the files again.
    Reload {
        /// Whether a warning counts as an error.
        strict: bool,
        /// Where the answer goes.
        reply: Reply<ChangeView>,
    },
}

/// Where the answer to one ask goes; whoever drops it unused is ending.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A route in force has the pattern.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// No route in force has the pattern.
    #[error("no route of the table has this pattern")]
    Unknown,
    /// What was written is wrong; without an error, its warnings were to count as such.
    #[error("{}", why(.0))]
    Invalid(Vec<ProblemView>),
    /// The edit cannot be kept on disk, and is not in force: why.
    #[error("the edit cannot be kept: {0}")]
    Unkept(String),
    /// The daemon is ending; the change may have been made or not.
    #[error("the daemon is ending; the change may have been made or not")]
    Ending,
}

impl Control {
    /// How many asks may wait; the next ones wait for their turn to wait.
    const WAITING: usize = 16;

    /// The two ends: for those who ask, and for the task that owns the table.
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(Self::WAITING);
        (Self { asks }, receiver)
    }

    /// Adds a route, an object with the keys of `[[route]]`. Once this has answered, the edit is kept.
    pub async fn add(&self, route: Value) -> Result<(Arc<Row<Route>>, ChangeView), Refusal> {
        self.ask(|reply| Ask::Add(route, reply)).await
    }

    /// Takes the route with this pattern out. Once this has answered, the edit is kept.
    pub async fn remove(&self, pattern: String) -> Result<ChangeView, Refusal> {
        self.ask(|reply| Ask::Remove(pattern, reply)).await
    }

    /// Reads the files again; `strict` makes a warning an error.
    pub async fn reload(&self, strict: bool) -> Result<ChangeView, Refusal> {
        self.ask(|reply| Ask::Reload { strict, reply }).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_ended| Refusal::Ending)?;
        answer.await.unwrap_or(Err(Refusal::Ending))
    }
}

/// The first error, however many warnings come before it.
fn why(problems: &[ProblemView]) -> String {
    let mut errors = problems.iter().filter(|problem| problem.severity == Severity::Error.as_str());
    match (errors.next(), errors.count()) {
        (None, _) => format!("{}, and none was to be let pass", plural(problems.len(), "warning")),
        (Some(only), 0) => only.message.clone(),
        (Some(first), others) => format!("{} (and {})", first.message, plural(others, "more error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problem;

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        let warning = |message: &str| ProblemView::of(&Problem::warning(message));
        let error = |message: &str| ProblemView::of(&Problem::error(message));
        for (problems, told) in [
            (vec![warning("odd"), error("wrong")], "wrong"),
            (vec![error("wrong"), warning("odd"), error("bad")], "wrong (and 1 more error)"),
            (vec![warning("odd"), warning("queer")], "2 warnings, and none was to be let pass"),
        ] {
            assert_eq!(Refusal::Invalid(problems).to_string(), told);
        }
    }

    #[tokio::test]
    async fn an_ask_is_answered() {
        let (control, mut asks) = Control::new();
        let owner = async {
            let Some(Ask::Remove(pattern, reply)) = asks.recv().await else { panic!("no removal") };
            assert_eq!(pattern, "^db@");
            reply.send(Err(Refusal::Unknown)).unwrap();
        };
        let (removed, ()) = tokio::join!(control.remove("^db@".to_owned()), owner);
        assert_eq!(removed, Err(Refusal::Unknown));
    }

    #[tokio::test]
    async fn nobody_waits_for_an_owner_that_is_gone() {
        let (control, mut asks) = Control::new();
        let owner = async { drop(asks.recv().await) };
        let (reloaded, ()) = tokio::join!(control.reload(false), owner);
        assert_eq!(reloaded, Err(Refusal::Ending), "it has dropped the answer");
        drop(asks);
        assert_eq!(control.reload(false).await, Err(Refusal::Ending), "it takes no asks");
    }
}
