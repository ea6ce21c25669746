//! What may be asked for: `cargo bench --bench compare -- --help`.

use std::path::PathBuf;

use clap::Parser;

use crate::measure::{Extent, MEASURES, Measure};
use crate::peers::{Entry, PEERS, Peer};

/// Measures portolan side by side with what one would otherwise pick.
#[derive(Parser)]
#[command(name = "compare", about)]
pub(crate) struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measures, by name
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Peers whose names begin so; direct is always there
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Doors
    #[arg(long, value_delimiter = ',')]
    doors: Vec<Entry>,
    /// Bulk to the node, too
    #[arg(long)]
    both: bool,
    /// Short loads and two rounds: for tuning, not for the record
    #[arg(long)]
    quick: bool,
    /// Tiny loads, one round, what needs no other program: fails where a measure has no result
    #[arg(long)]
    pub(crate) smoke: bool,
    /// The user whose the proxies are, such as `nobody` (as root)
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Writes every value to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Writes the tables and the chart to docs/
    #[arg(long)]
    pub(crate) write: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn rounds(&self) -> usize {
        match (self.smoke, self.quick) {
            (true, _) => 1,
            (_, true) => self.rounds.min(2),
            _ => self.rounds,
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        match (self.smoke, self.quick) {
            (true, _) => Extent { seconds: 0.03, relays: 100, steady: 0.6, requests: 3 },
            (_, true) => Extent { seconds: 0.3, relays: 2_000, steady: 1.5, requests: 6 },
            _ => Extent { seconds: 0.4, relays: 9_000, steady: 2.0, requests: 21 },
        }
    }

    pub(crate) fn measures(&self) -> Vec<&'static Measure> {
        let bulk = |measure: &Measure| (self.both || self.smoke) && measure.key.starts_with("upload");
        let wanted = |measure: &&Measure| match &self.only[..] {
            [] => measure.usual || bulk(measure),
            only => only.iter().any(|key| key == measure.key),
        };
        MEASURES.iter().filter(wanted).collect()
    }

    pub(crate) fn peers(&self) -> Vec<&'static Peer> {
        let smoke = ["portolan".to_owned(), "tokio copy".to_owned()];
        let begins = if self.smoke { &smoke[..] } else { &self.peers };
        let wanted = |peer: &&Peer| {
            let name = peer.name.to_lowercase();
            peer.is_direct() || begins.is_empty() || begins.iter().any(|begin| name.starts_with(&begin.to_lowercase()))
        };
        PEERS.iter().filter(wanted).collect()
    }

    /// The doors of this peer at which this is measured.
    pub(crate) fn entries(&self, measure: &Measure, peer: &Peer) -> Vec<Entry> {
        let wanted = |entry: &&Entry| match &self.doors[..] {
            _ if peer.is_direct() => true,
            [] => entry.usual(),
            doors => doors.contains(entry),
        };
        measure.entries(peer).iter().filter(wanted).copied().collect()
    }
}
