//! Bytes, round trips and connections, and what they cost the proxy.

use super::{Better, Extent, Measure, Metric};
use crate::Failure;
use crate::peers::Setting;
use crate::running::Running;
use crate::task::{Load, Outcome};

const BULK: &[Metric] = &[
    Metric { title: "GB/s", digits: 2, ratio: Some(Better::More) },
    Metric { title: "CPU s for a GB", digits: 3, ratio: None },
];
const ROUND_TRIPS: &[Metric] = &[
    Metric { title: "p50, us", digits: 1, ratio: Some(Better::Less) },
    Metric { title: "p99, us", digits: 1, ratio: Some(Better::Less) },
    Metric { title: "p99.9, us", digits: 1, ratio: None },
];
const CONNECTIONS: &[Metric] = &[
    Metric { title: "a second", digits: 0, ratio: Some(Better::More) },
    Metric { title: "p50, us", digits: 0, ratio: None },
    Metric { title: "p99, us", digits: 0, ratio: None },
    Metric { title: "CPU us for one", digits: 1, ratio: None },
];

const BASE: Measure = Measure {
    key: "",
    title: "",
    setting: Setting::Plain,
    resume: false,
    usual: true,
    doors: true,
    both_ways: true,
    many: false,
    metrics: BULK,
    run: |running, extent| bulk(running, extent, 1, false),
};

pub(super) const DOWNLOAD_1: Measure = Measure { key: "bulk1", title: "Bulk, 1 stream", ..BASE };

pub(super) const DOWNLOAD_8: Measure =
    Measure { key: "bulk8", title: "Bulk, 8 streams", run: |running, extent| bulk(running, extent, 8, false), ..BASE };

pub(super) const UPLOAD_1: Measure = Measure {
    key: "upload1",
    title: "Bulk to the node, 1 stream",
    usual: false,
    run: |running, extent| bulk(running, extent, 1, true),
    ..BASE
};

pub(super) const UPLOAD_8: Measure = Measure {
    key: "upload8",
    title: "Bulk to the node, 8 streams",
    usual: false,
    run: |running, extent| bulk(running, extent, 8, true),
    ..BASE
};

pub(super) const ROUND_TRIP: Measure =
    Measure { key: "rtt", title: "Round trip of 64 bytes", metrics: ROUND_TRIPS, run: round_trips, ..BASE };

pub(super) const CONNECTIONS_1: Measure = Measure {
    key: "conn1",
    title: "Connections, 1 worker",
    metrics: CONNECTIONS,
    run: |running, extent| connections(running, extent, 1),
    ..BASE
};

pub(super) const CONNECTIONS_64: Measure = Measure {
    key: "conn64",
    title: "Connections, 64 workers",
    run: |running, extent| connections(running, extent, 64),
    ..CONNECTIONS_1
};

pub(super) const TLS_BULK: Measure =
    Measure { key: "tlsbulk", title: "TLS upstream, bulk, 1 stream", setting: Setting::Tls, ..BASE };

pub(super) const TLS_FULL: Measure = Measure {
    key: "tlsfull",
    title: "TLS upstream, connections with a full handshake, 16 workers",
    setting: Setting::Tls,
    run: |running, extent| connections(running, extent, 16),
    ..CONNECTIONS_1
};

pub(super) const TLS_RESUMED: Measure = Measure {
    key: "tlsresumed",
    title: "TLS upstream, connections with a resumed session, 16 workers",
    resume: true,
    ..TLS_FULL
};

fn bulk(running: &mut Running, extent: &Extent, streams: usize, upload: bool) -> Result<Vec<f64>, Failure> {
    let (outcome, cpu) = loaded(running, &Load::Bulk { streams, upload, seconds: extent.seconds })?;
    let gigabytes = outcome["bytes"] / 1e9;
    Ok(vec![gigabytes / outcome["seconds"], cpu / gigabytes])
}

fn round_trips(running: &mut Running, extent: &Extent) -> Result<Vec<f64>, Failure> {
    let (outcome, _) = loaded(running, &Load::RoundTrips { seconds: extent.seconds })?;
    Ok(vec![outcome["p50"], outcome["p99"], outcome["p999"]])
}

fn connections(running: &mut Running, extent: &Extent, workers: usize) -> Result<Vec<f64>, Failure> {
    let (outcome, cpu) = loaded(running, &Load::Connections { workers, seconds: extent.seconds })?;
    if outcome["failed"] > 0.0 {
        return Err(format!("{} of {} connections failed", outcome["failed"], outcome["count"]).into());
    }
    let count = outcome["count"];
    Ok(vec![count / outcome["seconds"], outcome["p50"], outcome["p99"], cpu * 1e6 / count])
}

/// The outcome, and the seconds of CPU that the proxy used.
fn loaded(running: &mut Running, load: &Load) -> Result<(Outcome, f64), Failure> {
    // What the first connection of a process costs is not what is measured.
    let first = running.load(&Load::Connections { workers: 1, seconds: 0.01 })?;
    if first["failed"] > 0.0 {
        return Err("its first connections failed".into());
    }
    let before = running.used()?.cpu;
    let outcome = running.load(load)?;
    Ok((outcome, running.used()?.cpu - before))
}
