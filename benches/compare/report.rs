//! What was measured, as tables for people and for `docs/performance.md`, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{Better, Measure, Metric};
use crate::peers::{Entry, Peer};
use crate::stats::Spread;
use crate::svg::{Bar, Panel};

/// Of one measure.
pub(crate) struct Results {
    pub(crate) measure: &'static Measure,
    pub(crate) rows: Vec<Row>,
}

/// One peer at one door: its values of each round, `None` where it failed.
pub(crate) struct Row {
    pub(crate) peer: &'static Peer,
    pub(crate) entry: Entry,
    pub(crate) rounds: Vec<Option<Vec<f64>>>,
}

impl Row {
    fn door(&self) -> &'static str {
        match (self.peer.is_direct(), self.entry) {
            (true, _) => "-",
            (false, Entry::Head) => "Unix, head",
            (false, Entry::HandOff) => "hand-off",
            (false, Entry::Unix) => "Unix",
            (false, Entry::Tcp) => "TCP",
        }
    }

    fn values(&self, metric: usize) -> Vec<f64> {
        self.rounds.iter().flatten().map(|values| values[metric]).collect()
    }
}

impl Results {
    /// How this metric of a row lies to direct's of the same round.
    fn ratio(&self, row: &Row, metric: usize) -> Option<Spread> {
        let direct = self.rows.iter().find(|row| row.peer.is_direct())?;
        let rounds = row.rounds.iter().zip(&direct.rounds);
        let ratios: Vec<_> =
            rounds.filter_map(|(mine, direct)| Some(mine.as_ref()?[metric] / direct.as_ref()?[metric])).collect();
        Spread::of(&ratios)
    }

    /// A table in Markdown that can be read as it is.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![self.columns()];
        lines.extend(self.rows.iter().map(|row| self.cells(row)));
        format!("**{}**\n\n{}", self.measure.title, aligned(&lines))
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = vec!["".to_owned(), "door".to_owned()];
        for metric in self.measure.metrics {
            columns.push(metric.title.to_owned());
            if metric.ratio.is_some() {
                columns.push("to direct".to_owned());
            }
        }
        columns
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![row.peer.name.to_owned(), row.door().to_owned()];
        for (place, metric) in self.measure.metrics.iter().enumerate() {
            // Direct has no proxy that could cost or hold anything.
            let absent = row.peer.is_direct() && (metric.title.starts_with("CPU") || self.measure.many);
            let spread = Spread::of(&row.values(place)).filter(|_| !absent);
            cells.push(spread.map_or("-".to_owned(), |spread| shown(spread, metric.digits)));
            if metric.ratio.is_some() {
                let ratio = self.ratio(row, place).filter(|_| !row.peer.is_direct());
                cells.push(ratio.map_or("-".to_owned(), |ratio| shown(ratio, 2)));
            }
        }
        cells
    }

    /// The chart of the first metric, if it has a ratio: the Unix doors, and TCP where there is no other.
    pub(crate) fn panel(&self) -> Option<Panel> {
        let better = self.measure.metrics.first().and_then(|metric: &Metric| metric.ratio)?;
        let shown = |row: &&Row| !row.peer.is_direct() && (row.entry != Entry::Tcp || row.peer.entries == [Entry::Tcp]);
        let bars: Vec<Bar> = self
            .rows
            .iter()
            .filter(shown)
            .filter_map(|row| {
                let ratio = self.ratio(row, 0)?.median;
                let share = if better == Better::More { ratio } else { 1.0 / ratio };
                let label = match row.entry {
                    Entry::Head => format!("{} (head)", row.peer.name),
                    Entry::HandOff => format!("{} (hand-off)", row.peer.name),
                    Entry::Unix => row.peer.name.to_owned(),
                    Entry::Tcp => format!("{} (TCP)", row.peer.name),
                };
                Some(Bar { label, share, ours: row.peer.name == "portolan" })
            })
            .collect();
        (!bars.is_empty()).then(|| Panel { title: self.measure.title.to_owned(), bars })
    }

    /// Every value of every round.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| json!({ "peer": row.peer.name, "door": row.door(), "rounds": row.rounds }))
            .collect();
        let metrics: Vec<_> = self.measure.metrics.iter().map(|metric| metric.title).collect();
        json!({ "measure": self.measure.key, "title": self.measure.title, "metrics": metrics, "rows": rows })
    }
}

fn shown(Spread { median, least, most }: Spread, digits: usize) -> String {
    if least == most {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

/// The first line is the head.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default().max(3);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            write!(text, "| {cell:width$} ").unwrap();
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| write!(text, "|{}", "-".repeat(width + 2)).unwrap());
            text.push_str("|\n");
        }
    }
    text
}

/// Puts this between the marks of a page.
pub(crate) fn between_marks(page: &str, text: &str) -> Option<String> {
    const BEGIN: &str = "<!-- compare: begin -->\n";
    const END: &str = "<!-- compare: end -->\n";
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{text}\n{END}{after}"))
}
