//! A network of which a script says what happens, for tests whose clock is paused.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::health::Dice;
use super::network::{Dialing, Network, Up};
use super::tries::Tries;
use super::{DialError, Stage, Upstreams};
use crate::drain::Drain;
use crate::plan::Candidate;
use crate::route::testing::{route, row};
use crate::route::{Host, Upstream};
use crate::stream::Stream;

/// What an upstream does with a connection; times are milliseconds from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Act {
    /// When it answers.
    pub(crate) answer: Option<u64>,
    /// When and how it ends; `None`: never.
    pub(crate) end: Option<(u64, Ending)>,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Up,
    Refused,
    /// For a reason that ejects nobody.
    Local,
    /// In no way that was foreseen.
    Panics,
}

impl Act {
    /// It never says anything.
    pub(crate) const HANG: Self = Self { answer: None, end: None };

    /// It is up after so long.
    pub(crate) fn up(after: u64) -> Self {
        Self { answer: None, end: Some((after, Ending::Up)) }
    }

    /// It refuses after so long.
    pub(crate) fn refused(after: u64) -> Self {
        Self { answer: None, end: Some((after, Ending::Refused)) }
    }
}

/// The network, whose upstreams are told apart by their ports.
#[derive(Debug, Clone)]
pub(crate) struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug)]
struct Script {
    acts: HashMap<u16, Act>,
    epoch: Instant,
    /// The port, and the milliseconds since the epoch.
    began: Vec<(u16, u64)>,
}

impl Scripted {
    /// These acts for the ports from 1 on.
    pub(crate) fn new(acts: &[Act]) -> Self {
        let acts = (1..).zip(acts.iter().copied()).collect();
        Self(Arc::new(Mutex::new(Script { acts, epoch: Instant::now(), began: Vec::new() })))
    }

    /// Another act from now on.
    pub(crate) fn set(&self, port: u16, act: Act) {
        self.0.lock().unwrap().acts.insert(port, act);
    }

    /// Who was dialed when.
    pub(crate) fn began(&self) -> Vec<(u16, u64)> {
        self.0.lock().unwrap().began.clone()
    }

    /// How often an upstream was dialed.
    pub(crate) fn count(&self, port: u16) -> usize {
        self.began().iter().filter(|(dialed, _)| *dialed == port).count()
    }

    /// What is known of these upstreams.
    pub(crate) fn upstreams(&self, drain: Drain) -> Arc<Upstreams> {
        Arc::new(Upstreams::over(Box::new(self.clone()), drain, Dice::seeded(1)))
    }
}

impl Network for Scripted {
    fn dial(&self, candidate: &Candidate, tries: Arc<Tries>) -> Dialing {
        let (port, now) = (candidate.upstream().port, Instant::now());
        let mut script = self.0.lock().unwrap();
        let since = u64::try_from((now - script.epoch).as_millis()).unwrap();
        script.began.push((port, since));
        let act = script.acts[&port];
        Box::pin(async move {
            let at = |after| now + Duration::from_millis(after);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let this = tries.begin(Stage::Tcp, Some(address));
            if let Some(answer) = act.answer {
                sleep_until(at(answer)).await;
                tries.answer();
            }
            let Some((after, ending)) = act.end else { return pending().await };
            sleep_until(at(after)).await;
            match ending {
                Ending::Up => {
                    return Some(Up { stream: Stream::Unix(UnixStream::pair().unwrap().0), address });
                }
                Ending::Refused => tries.fail(this, DialError::Refused),
                Ending::Local => tries.fail(this, DialError::Local("no descriptors".to_owned())),
                Ending::Panics => panic!("on purpose"),
            }
            None
        })
    }
}

/// The upstream of a port.
pub(crate) fn upstream(port: u16) -> Upstream {
    Upstream { host: Host::Ip([127, 0, 0, 1].into()), port }
}

/// A candidate of a route of its own, with a `connect_timeout` of 3 s and a `race_after` of 1.5 s.
pub(crate) fn candidate(upstreams: &Upstreams, port: u16) -> Candidate {
    let health = upstreams.meet(&upstream(port), None);
    Candidate {
        course: row(route(&format!("port {port}"), 100)).into(),
        certified: None,
        trust: None,
        preface: None,
        turn: None,
        connect_timeout: Duration::from_secs(3),
        race_after: Some(Duration::from_millis(1500)),
        is_ejected: health.is_ejected(),
        health,
    }
}
