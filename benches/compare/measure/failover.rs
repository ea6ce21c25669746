//! The first byte where the primary does not answer and the backup is well.

use super::{Extent, Measure, Metric};
use crate::Failure;
use crate::peers::Setting;
use crate::running::Running;
use crate::task::Load;

pub(super) const BLACKHOLE: Measure = Measure {
    key: "blackhole",
    title: "First byte, the primary's SYNs are lost",
    setting: Setting::Failover,
    resume: false,
    usual: true,
    doors: false,
    both_ways: false,
    many: false,
    metrics: &[
        Metric { title: "first, ms", digits: 1, ratio: None },
        Metric { title: "later (median), ms", digits: 2, ratio: None },
        Metric { title: "later (worst), ms", digits: 2, ratio: None },
    ],
    run: first_bytes,
};

pub(super) const SILENT: Measure = Measure {
    key: "silent",
    title: "First byte, the primary accepts and is silent under TLS",
    setting: Setting::Silent,
    ..BLACKHOLE
};

fn first_bytes(running: &mut Running, extent: &Extent) -> Result<Vec<f64>, Failure> {
    let outcome = running.load(&Load::FirstBytes { count: extent.requests })?;
    if outcome["failed"] > 0.0 {
        return Err(format!("{} of {} requests failed", outcome["failed"], extent.requests).into());
    }
    Ok(vec![outcome["first"], outcome["later"], outcome["worst"]])
}
