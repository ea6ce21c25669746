//! How the commands show routes, and what else has columns, to people.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use nix::unistd::{Uid, User};

use crate::admin::view::{OriginView, RouteSpec, RouteView, TlsSpec};
use crate::config::visible;

/// Writes routes in columns: weight, pattern, hosts, what is special, origin and name.
pub(super) fn write_routes(routes: &[RouteView], out: &mut dyn Write) -> io::Result<()> {
    // The weight is a number.
    write_columns(routes.iter().map(cells), &[0], out)
}

/// Writes rows in columns, of which the `numbers` stand to the right; a column that is empty everywhere is left out.
pub(super) fn write_columns<const N: usize>(
    rows: impl Iterator<Item = [String; N]>,
    numbers: &[usize],
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<_> = rows.map(|row| row.map(|cell| visible(&cell).into_owned())).collect();
    let mut widths = [0; N];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate().filter(|(_, (_, width))| *width > 0) {
            line += &if numbers.contains(&column) { format!("  {cell:>width$}") } else { format!("  {cell:width$}") };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A number of bytes, as a person reads it.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    let mut tenths = u128::from(count) * 10;
    let mut unit = None;
    for larger in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, Some(larger));
    }
    unit.map_or_else(|| format!("{count} B"), |unit| format!("{}.{} {unit}", tenths / 10, tenths % 10))
}

/// How long ago something was, by its two largest units.
pub(super) fn age(time: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The names of users, each asked for once.
#[derive(Default)]
pub(super) struct Users(HashMap<u32, String>);

impl Users {
    pub(super) fn name(&mut self, uid: u32) -> &str {
        let asked = || {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            user.map_or_else(|| format!("uid {uid}"), |user| user.name)
        };
        self.0.entry(uid).or_insert_with(asked)
    }

    /// These, who are not asked for.
    #[cfg(test)]
    pub(super) fn of<const N: usize>(users: [(u32, &str); N]) -> Self {
        Self(users.into_iter().map(|(uid, name)| (uid, name.to_owned())).collect())
    }
}

fn cells(route: &RouteView) -> [String; 6] {
    let spec = &route.spec;
    let marks =
        [(spec.tls.as_ref().is_some_and(|tls| *tls != TlsSpec::Switch(false)), "tls"), (spec.is_final, "final")];
    let marks: Vec<&str> = marks.iter().filter(|mark| mark.0).map(|mark| mark.1).collect();
    [
        spec.weight.to_string(),
        spec.pattern.clone(),
        hosts(spec),
        marks.join(", "),
        origin(route),
        spec.name.clone().unwrap_or_default(),
    ]
}

/// Where a route leads; `host:1 by fleet` where a resolver is asked.
fn hosts(spec: &RouteSpec) -> String {
    let port = spec.port.map(|port| format!("port {port}"));
    let hosts: Vec<_> = spec.host.iter().cloned().chain(port).collect();
    match &spec.resolver {
        Some(resolver) if hosts.is_empty() => format!("by {resolver}"),
        Some(resolver) => format!("{} by {resolver}", hosts.join(", ")),
        None => hosts.join(", "),
    }
}

/// Where a route is written.
pub(super) fn origin(route: &RouteView) -> String {
    match &route.origin {
        OriginView::File { file, line } => format!("{file}:{line}"),
        OriginView::Shared { table, key: Some(key) } => format!("{table}, key {key}"),
        OriginView::Shared { table, key: None } => table.clone(),
        OriginView::Edit { edit } => format!("edit of {edit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_they_fill() {
        let shown = [0, 1023, 1024, 1535, 1 << 20, (1 << 30) - 1, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.4 KiB", "1.0 MiB", "1023.9 MiB", "15.9 EiB"]);
    }

    #[test]
    fn an_age_is_told_in_two_units() {
        let shown = [0.9, 59.9, 90.0, 3600.0, 90_061.0].map(|seconds| age(Duration::from_secs_f64(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m 30s", "1h", "1day 1h"]);
    }
}
