//! A chart of bars, small and readable on a light and on a dark page.

use std::fmt::Write as _;

/// The bars of one measure.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One peer.
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Of direct's speed: 1 is as fast.
    pub(crate) share: f64,
    /// Whether it is the one that this is about.
    pub(crate) ours: bool,
}

const COLUMNS: usize = 2;
const PANEL: usize = 430;
const LABEL: usize = 120;
const FULL: usize = 240;
pub(crate) const LINE: usize = 17;
pub(crate) const HEAD: usize = 30;
pub(crate) const GAP: usize = 14;

const STYLE: &str = "text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.n{text-anchor:end}\
    rect{fill:#9aa5b1}.o{fill:#0b7285}line{stroke:#999;stroke-dasharray:3}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#66707a}.o{fill:#3bc9db}}";

/// The panels two in a row; a dashed line is the speed of a direct connection.
pub(crate) fn chart(panels: &[Panel]) -> String {
    let mut body = String::new();
    let mut top = 0;
    for row in panels.chunks(COLUMNS) {
        for (column, panel) in row.iter().enumerate() {
            draw(&mut body, panel, column * PANEL, top);
        }
        top += row.iter().map(|panel| HEAD + panel.bars.len() * LINE).max().unwrap_or_default() + GAP;
    }
    let width = COLUMNS * PANEL;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" width=\"{width}\" height=\"{top}\">\n\
         <style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, panel: &Panel, left: usize, top: usize) {
    let (from, full) = (left + LABEL, left + LABEL + FULL);
    let bottom = top + HEAD + panel.bars.len() * LINE;
    let title = escaped(&panel.title);
    writeln!(body, "<text class=\"t\" x=\"{left}\" y=\"{}\">{title}</text>", top + 18).unwrap();
    for (number, bar) in panel.bars.iter().enumerate() {
        let y = top + HEAD + number * LINE;
        let class = if bar.ours { " class=\"o\"" } else { "" };
        // Faster than direct is noise; the number says it, the bar ends a little behind the line.
        let length = bar.share.clamp(0.0, 1.1) * FULL as f64;
        let (label, text, share) = (escaped(&bar.label), y + 11, bar.share);
        writeln!(
            body,
            "<text class=\"n\" x=\"{}\" y=\"{text}\">{label}</text>\
             <rect{class} x=\"{from}\" y=\"{y}\" width=\"{length:.0}\" height=\"13\"/>\
             <text x=\"{}\" y=\"{text}\">{share:.2}</text>",
            from - 6,
            full + 32,
        )
        .unwrap();
    }
    writeln!(body, "<line x1=\"{full}\" x2=\"{full}\" y1=\"{}\" y2=\"{bottom}\"/>", top + HEAD - 4).unwrap();
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
