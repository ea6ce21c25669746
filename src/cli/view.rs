//! How the commands show routes to people.

use std::io::{self, Write};

use crate::admin::view::{OriginView, RouteView, TlsSpec};
use crate::config::visible;

/// Writes routes in columns: weight, pattern, hosts, what is special, origin and name.
pub(super) fn write_routes(routes: &[RouteView], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = routes.iter().map(|route| cells(route).map(|cell| visible(&cell).into_owned())).collect();
    let mut widths = [0; 6];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate().filter(|(_, (_, width))| *width > 0) {
            // Weights are numbers and stand to the right.
            line += &if column == 0 { format!("  {cell:>width$}") } else { format!("  {cell:width$}") };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn cells(route: &RouteView) -> [String; 6] {
    let spec = &route.spec;
    let marks = [(spec.tls != TlsSpec::Switch(false), "tls"), (spec.is_final, "final")];
    let marks: Vec<&str> = marks.iter().filter(|mark| mark.0).map(|mark| mark.1).collect();
    let origin = match &route.origin {
        OriginView::File { file, line } => format!("{file}:{line}"),
        OriginView::Edit { edit } => format!("edit of {edit}"),
    };
    [
        spec.weight.to_string(),
        spec.pattern.clone(),
        spec.host.join(", "),
        marks.join(", "),
        origin,
        spec.name.clone().unwrap_or_default(),
    ]
}
