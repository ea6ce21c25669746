//! What a relay costs that does nothing: it has carried a message each way.

use super::{Extent, Measure, Metric};
use crate::Failure;
use crate::peers::Setting;
use crate::running::{Running, outcome};
use crate::task::Load;

/// What the first relays of a process need once is no later relay's.
const FIRST: usize = 32;

pub(super) const PLAIN: Measure = Measure {
    key: "idle",
    title: "An idle relay",
    setting: Setting::Plain,
    resume: false,
    usual: true,
    doors: false,
    both_ways: false,
    many: true,
    metrics: &[
        Metric { title: "KiB (RSS)", digits: 2, ratio: None },
        Metric { title: "KiB (PSS)", digits: 2, ratio: None },
        Metric { title: "descriptors", digits: 2, ratio: None },
    ],
    run: idle,
};

pub(super) const TLS: Measure =
    Measure { key: "tlsidle", title: "An idle relay, TLS upstream", setting: Setting::Tls, ..PLAIN };

fn idle(running: &mut Running, extent: &Extent) -> Result<Vec<f64>, Failure> {
    let relays = extent.relays.min(running.most_relays());
    let mut load = running.start_load(&Load::Hold { first: FIRST, more: relays })?;
    outcome(&mut load)?;
    let before = running.used()?;
    load.nudge()?;
    outcome(&mut load)?;
    let after = running.used()?;
    let each = |grown: f64| grown / relays as f64;
    Ok(vec![each(after.rss - before.rss), each(after.pss - before.pss), each(after.descriptors - before.descriptors)])
}
