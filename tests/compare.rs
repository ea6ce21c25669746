//! The parts of the benchmark `benches/compare` that have no process: it has no test harness of its own.

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is small and not negative")]
#[path = "../benches/compare/stats.rs"]
mod stats;
#[path = "../benches/compare/svg.rs"]
mod svg;

use stats::{Spread, quantile};
use svg::{Bar, Panel, chart};

#[test]
fn a_spread_has_the_middle_of_both_middles() {
    assert_eq!(Spread::of(&[]), None);
    assert_eq!(Spread::of(&[3.0]), Some(Spread { median: 3.0, least: 3.0, most: 3.0 }));
    assert_eq!(Spread::of(&[9.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 9.0 }));
    assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
}

#[test]
fn a_quantile_is_one_of_the_values() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(quantile(&hundred, 0.5), 50.0);
    assert_eq!(quantile(&hundred, 0.99), 99.0);
    assert_eq!(quantile(&hundred, 0.999), 100.0);
    assert_eq!(quantile(&hundred, 0.0), 1.0);
    assert_eq!(quantile(&[], 0.5), 0.0);
}

fn panel(bars: usize) -> Panel {
    let bars = (0..bars).map(|n| Bar { label: format!("a<{n}"), share: n as f64, ours: n == 0 }).collect();
    Panel { title: "bulk & more".to_owned(), bars }
}

#[test]
fn a_chart_has_a_bar_for_each_and_is_as_high_as_its_rows() {
    let svg = chart(&[panel(2), panel(3), panel(1)]);
    assert_eq!(svg.matches("<rect").count(), 6);
    assert_eq!(svg.matches("<line").count(), 3);
    let height = (svg::HEAD + 3 * svg::LINE + svg::GAP) + (svg::HEAD + svg::LINE + svg::GAP);
    assert!(svg.contains(&format!("height=\"{height}\">")), "{svg}");
}

#[test]
fn what_is_text_is_no_markup() {
    let svg = chart(&[panel(1)]);
    assert!(svg.contains("bulk &amp; more") && svg.contains("a&lt;0"), "{svg}");
}

#[test]
fn a_bar_ends_near_the_line() {
    assert!(chart(&[panel(3)]).contains("width=\"264\" height=\"13\""), "1.1 of the full length");
}
