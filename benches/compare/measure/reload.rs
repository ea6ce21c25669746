//! A reload under load, after which the node is at another upstream.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Extent, Measure, Metric};
use crate::Failure;
use crate::peers::Setting;
use crate::running::{Running, outcome};
use crate::task::Load;

const RATE: usize = 1_000;
const RELAYS: usize = 100;
/// The new upstream's answers.
const MARK: u8 = b'n';

pub(super) const RELOAD: Measure = Measure {
    key: "reload",
    title: "Reload under 1,000 requests a second and 100 relays",
    setting: Setting::Reload,
    resume: false,
    usual: true,
    doors: false,
    both_ways: false,
    many: false,
    metrics: &[
        Metric { title: "failed", digits: 0, ratio: None },
        Metric { title: "cut", digits: 0, ratio: None },
        Metric { title: "in force after, ms", digits: 1, ratio: None },
        Metric { title: "worst answer, ms", digits: 1, ratio: None },
        Metric { title: "worst without a reload, ms", digits: 1, ratio: None },
    ],
    run: reload,
};

fn reload(running: &mut Running, extent: &Extent) -> Result<Vec<f64>, Failure> {
    // Not while the load runs: 256 threads start with it.
    let another = running.start_another(MARK)?;
    let steady = || -> Result<_, Failure> {
        let load = Load::Steady { rate: RATE, relays: RELAYS, seconds: extent.steady, mark: MARK };
        let mut load = running.start_load(&load)?;
        outcome(&mut load)?;
        Ok(load)
    };
    // What the load and the machine do to each other by themselves.
    let without = outcome(&mut steady()?)?["worst"];
    let mut load = steady()?;
    // A good part of the requests before, and a good part behind.
    thread::sleep(Duration::from_secs_f64(extent.steady / 3.0));
    running.point_to(another)?;
    let asked = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    running.reload()?;
    let outcome = outcome(&mut load)?;
    let in_force = outcome["new"] - asked;
    if in_force > extent.steady {
        return Err("the new table was never in force".into());
    }
    Ok(vec![outcome["failed"], outcome["cut"], in_force * 1e3, outcome["worst"], without])
}
