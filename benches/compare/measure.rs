//! What is measured: each by itself, with a peer and an upstream of its own.

mod failover;
mod idle;
mod reload;
mod traffic;

use crate::Failure;
use crate::peers::{Entry, Peer, Setting};
use crate::process::Core;
use crate::running::Running;

/// A number of a measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// What it is, with its unit.
    pub(crate) title: &'static str,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Whether it is also told as a share of direct's, and what is better there.
    pub(crate) ratio: Option<Better>,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Of one load.
    pub(crate) seconds: f64,
    /// Relays that are held, by who can.
    pub(crate) relays: usize,
    /// Seconds of requests around a reload.
    pub(crate) steady: f64,
    /// Requests while the primary does not answer.
    pub(crate) requests: usize,
}

/// One measure.
pub(crate) struct Measure {
    /// Its name behind `--only`.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) setting: Setting,
    /// Whether a TLS upstream resumes sessions.
    pub(crate) resume: bool,
    /// Measured without being asked for.
    pub(crate) usual: bool,
    /// Measured at each door of a peer, not only at its first.
    pub(crate) doors: bool,
    /// Measured twice in a round, with the ends on each other's core the second time; what counts is the mean.
    pub(crate) both_ways: bool,
    /// Holds relays by the thousand.
    pub(crate) many: bool,
    pub(crate) metrics: &'static [Metric],
    /// The values of the metrics, in their order.
    run: fn(&mut Running, &Extent) -> Result<Vec<f64>, Failure>,
}

/// All of them, in the order of the report.
pub(crate) const MEASURES: &[Measure] = &[
    traffic::DOWNLOAD_1,
    traffic::DOWNLOAD_8,
    traffic::UPLOAD_1,
    traffic::UPLOAD_8,
    traffic::ROUND_TRIP,
    traffic::CONNECTIONS_1,
    traffic::CONNECTIONS_64,
    idle::PLAIN,
    idle::TLS,
    traffic::TLS_BULK,
    traffic::TLS_FULL,
    traffic::TLS_RESUMED,
    failover::BLACKHOLE,
    failover::SILENT,
    reload::RELOAD,
];

impl Measure {
    /// The doors at which this peer is measured so.
    pub(crate) fn entries(&self, peer: &Peer) -> &'static [Entry] {
        let is_fit = peer.measures.is_empty() || peer.measures.contains(&self.key);
        if !is_fit || !peer.settings.contains(&self.setting) || (self.many && peer.most_relays == 0) {
            return &[];
        }
        if self.doors { peer.entries } else { &peer.entries[..1] }
    }

    /// Starts the peer and measures it.
    pub(crate) fn run(
        &self,
        peer: &'static Peer,
        entry: Entry,
        user: Option<&str>,
        extent: &Extent,
    ) -> Result<Vec<f64>, Failure> {
        let once = |core| {
            let mut running = Running::start(peer, entry, self.setting, self.resume, core, user)?;
            (self.run)(&mut running, extent)
        };
        let mut values = once(Core::First)?;
        if self.both_ways {
            for (value, other) in values.iter_mut().zip(once(Core::Last)?) {
                *value = value.midpoint(other);
            }
        }
        Ok(values)
    }
}
