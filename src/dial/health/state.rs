//! One upstream: whether it is ejected, and what its last attempts were like.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Shared;
use super::ejection::Lengths;
use super::probe::{self, Wanted};
use crate::dial::DialError;
use crate::drain::Drain;
use crate::plan::Candidate;
use crate::route::{TlsPolicy, Upstream};

/// What is known of one upstream.
///
/// Whoever dials it reads atomics, and writes them when it is up; only a failure and the end of an ejection take the lock.
pub struct Health {
    id: u64,
    upstream: Upstream,
    tls: Option<Arc<TlsPolicy>>,
    pub(super) shared: Arc<Shared>,
    ejected: AtomicBool,
    /// Ejected, and nobody has wanted it for so long that it is not probed either.
    resting: AtomicBool,
    /// Whether an attempt that its request has given up runs on.
    unseen: AtomicBool,
    attempts: AtomicU64,
    failures: AtomicU64,
    /// In microseconds; 0: it was never up.
    latency: AtomicU64,
    smoothed: AtomicU64,
    last_good: ArcSwapOption<SocketAddr>,
    /// In milliseconds since the epoch of what is shared.
    dialed: AtomicU64,
    wanted_at: AtomicU64,
    /// How the last request that met it while it was ejected would have dialed it.
    wanted: ArcSwapOption<Wanted>,
    record: Mutex<Record>,
}

/// What only failures change.
#[derive(Debug, Default)]
struct Record {
    phase: Phase,
    lengths: Lengths,
    last_error: Option<LastError>,
    /// Since when it has been healthy again.
    back: Option<Instant>,
    /// Counts the changes between health and ejection, so that a probe knows whether it is still asked.
    change: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Healthy,
    Ejected {
        since: Instant,
        until: Instant,
    },
    Probing {
        since: Instant,
    },
}

/// Whether an upstream takes its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Healthy,
    /// It failed, and stands behind the healthy ones of its step.
    Ejected {
        /// Until it is probed; zero when that waits for a request that wants it.
        left: Duration,
    },
    /// It stands behind still, and the attempt that may let it back is being made.
    Probing,
}

/// The last failure of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// Why the attempt failed.
    pub error: DialError,
    /// When.
    pub at: SystemTime,
}

/// How long attempts took that were up: name lookup, TCP and TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The last one.
    pub last: Duration,
    /// Smoothed, an eighth of each new one (as TCP does it, RFC 6298).
    pub smoothed: Duration,
}

/// What is to be done when an ejection is over.
pub(super) enum Due {
    /// Another one has decided meanwhile.
    Nothing,
    /// Nobody has wanted it for long: the next request that does will start a probe.
    Rest,
    Probe(Arc<Wanted>),
}

impl Health {
    /// For how long an upstream is probed that no request has wanted.
    const WANTED: Duration = Duration::from_secs(600);

    pub(super) fn new(id: u64, upstream: Upstream, tls: Option<Arc<TlsPolicy>>, shared: Arc<Shared>) -> Self {
        let now = shared.now();
        Self {
            id,
            upstream,
            tls,
            shared,
            ejected: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            unseen: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            smoothed: AtomicU64::new(0),
            last_good: ArcSwapOption::empty(),
            dialed: AtomicU64::new(now),
            wanted_at: AtomicU64::new(now),
            wanted: ArcSwapOption::empty(),
            record: Mutex::default(),
        }
    }

    /// Its number, from 1 on; it is never given again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its address, as it is written.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// How TLS is spoken to it; `None` is plain TCP.
    pub fn tls(&self) -> Option<&Arc<TlsPolicy>> {
        self.tls.as_ref()
    }

    /// Whether it stands behind the healthy ones.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// Whether it takes its turn.
    pub fn standing(&self) -> Standing {
        match self.record().phase {
            Phase::Healthy => Standing::Healthy,
            Phase::Ejected { until, .. } => Standing::Ejected { left: until.saturating_duration_since(Instant::now()) },
            Phase::Probing { .. } => Standing::Probing,
        }
    }

    /// Its last failure, whether that has ejected it or not.
    pub fn last_error(&self) -> Option<LastError> {
        self.record().last_error.clone()
    }

    /// Failures since it was up for the last time.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Attempts so far, probes among them.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// How long it takes to be up; `None` if it never was.
    pub fn latency(&self) -> Option<Latency> {
        let last = self.latency.load(Ordering::Relaxed);
        let smoothed = Duration::from_micros(self.smoothed.load(Ordering::Relaxed));
        (last > 0).then(|| Latency { last: Duration::from_micros(last), smoothed })
    }

    /// Where it was up for the last time.
    pub fn last_good(&self) -> Option<SocketAddr> {
        self.last_good.load().as_deref().copied()
    }

    /// When it was dialed for the last time, on a scale of its own.
    pub(super) fn last_dialed(&self) -> u64 {
        self.dialed.load(Ordering::Relaxed)
    }

    /// Whether an attempt that its request has given up may run on; it says when it has ended.
    pub(in crate::dial) fn may_run_on(&self) -> bool {
        !self.shared.drain.has_begun() && !self.unseen.swap(true, Ordering::AcqRel)
    }

    /// The attempt that ran on has ended.
    pub(in crate::dial) fn ran_on(&self) {
        self.unseen.store(false, Ordering::Release);
    }

    /// Ends what nobody waits for.
    pub(in crate::dial) fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    /// An attempt is made.
    pub(in crate::dial) fn begun(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.dialed.store(self.shared.now(), Ordering::Relaxed);
    }

    /// A plan has met it while it was ejected.
    pub(crate) fn wanted(self: &Arc<Self>, candidate: &Candidate) {
        self.wanted_at.store(self.shared.now(), Ordering::Relaxed);
        if !self.wanted.load().as_ref().is_some_and(|wanted| wanted.is_of(candidate)) {
            self.wanted.store(Some(Arc::new(Wanted::of(candidate))));
        }
        if self.resting.swap(false, Ordering::AcqRel) {
            let change = self.record().change;
            probe::start(self, change, Instant::now());
        }
    }

    /// An attempt was up. It lets the upstream back, unless the attempt came too late to be of use.
    pub(in crate::dial) fn up(&self, took: Duration, address: SocketAddr, in_time: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let smoothed = match self.smoothed.load(Ordering::Relaxed) {
            0 => micros,
            before => before - before / 8 + micros / 8,
        };
        self.latency.store(micros, Ordering::Relaxed);
        self.smoothed.store(smoothed, Ordering::Relaxed);
        if self.last_good.load().as_deref() != Some(&address) {
            self.last_good.store(Some(Arc::new(address)));
        }
        if in_time {
            if self.failures() > 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            if self.is_ejected() {
                self.let_back(address);
            }
        }
    }

    /// An attempt that `began` then has failed: the upstream is ejected, unless the fault is not its own.
    pub(crate) fn failed(self: &Arc<Self>, candidate: &Candidate, error: &DialError, began: Instant) {
        if matches!(error, DialError::Full(_)) {
            // That is the route's affair: the upstream was not asked.
            return;
        }
        let now = Instant::now();
        let mut record = self.record();
        if record.back.is_some_and(|back| began < back) {
            // What began before it was let back, or reset, says nothing of how it is since.
            return;
        }
        record.last_error = Some(LastError { error: error.clone(), at: SystemTime::now() });
        if !error.ejects() {
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        if record.phase != Phase::Healthy {
            return;
        }
        let healthy = record.back.map_or(Duration::MAX, |back| now - back);
        let length = self.shared.dice.jittered(record.lengths.next(healthy));
        let until = now + length;
        record.phase = Phase::Ejected { since: now, until };
        record.change += 1;
        let change = record.change;
        self.wanted_at.store(self.shared.now(), Ordering::Relaxed);
        self.wanted.store(Some(Arc::new(Wanted::of(candidate))));
        self.ejected.store(true, Ordering::Release);
        drop(record);
        let tls = self.tls.is_some();
        warn!(upstream = %self.upstream, tls, %error, ?length, "upstream ejected");
        probe::start(self, change, until);
    }

    /// As if it had never failed. Its probe is given up.
    pub(super) fn reset(&self) {
        let mut record = self.record();
        let change = record.change + 1;
        *record = Record { back: Some(Instant::now()), change, ..Record::default() };
        self.set_healthy();
    }

    /// An ejection is over.
    pub(super) fn due(&self, change: u64) -> Due {
        let mut record = self.record();
        let Phase::Ejected { since, .. } = record.phase else { return Due::Nothing };
        if record.change != change {
            return Due::Nothing;
        }
        let unwanted = self.shared.now().saturating_sub(self.wanted_at.load(Ordering::Relaxed));
        match self.wanted.load_full() {
            Some(wanted) if Duration::from_millis(unwanted) <= Self::WANTED => {
                record.phase = Phase::Probing { since };
                Due::Probe(wanted)
            }
            _ => {
                self.resting.store(true, Ordering::Release);
                Due::Rest
            }
        }
    }

    /// A probe has failed. Until when the upstream is ejected now; `None` if the probe was not asked any more.
    pub(super) fn probed(&self, change: u64, error: DialError) -> Option<Instant> {
        let mut record = self.record();
        let Phase::Probing { since } = record.phase else { return None };
        if record.change != change {
            return None;
        }
        let length = match error.ejects() {
            true => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                record.lengths.next(Duration::ZERO)
            }
            false => record.lengths.again(),
        };
        record.last_error = Some(LastError { error, at: SystemTime::now() });
        let until = Instant::now() + self.shared.dice.jittered(length);
        record.phase = Phase::Ejected { since, until };
        Some(until)
    }

    /// It is healthy again.
    fn let_back(&self, address: SocketAddr) {
        let mut record = self.record();
        let (Phase::Ejected { since, .. } | Phase::Probing { since }) = record.phase else { return };
        let now = Instant::now();
        record.phase = Phase::Healthy;
        record.back = Some(now);
        record.change += 1;
        self.set_healthy();
        drop(record);
        let (tls, after) = (self.tls.is_some(), now - since);
        info!(upstream = %self.upstream, tls, %address, ?after, "upstream is back");
    }

    /// What goes with the phase; its caller has the lock.
    fn set_healthy(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.wanted.store(None);
        self.resting.store(false, Ordering::Release);
        self.ejected.store(false, Ordering::Release);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Nothing that can panic is done under it.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("id", &self.id).field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
