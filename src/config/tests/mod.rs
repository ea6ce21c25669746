//! The loader as a whole, through its public functions.

use std::path::Path;

use super::{Kind, Problem, check_text};

/// That no text whatever brings it down.
mod any;
/// What the files mean.
mod read;
/// The exact text that a person sees.
mod seen;

/// What is said of a text.
fn said(kind: Kind, text: &str) -> String {
    let name = if kind == Kind::Routes { "routes.toml" } else { "portolan.toml" };
    check_text(kind, Path::new(name), text).render(false)
}

/// The message and remedy of each problem.
fn messages(kind: Kind, text: &str) -> Vec<String> {
    let both = |p: &Problem| format!("{}; {}", p.message, p.help.as_deref().unwrap_or_default());
    check_text(kind, Path::new("x"), text).iter().map(both).collect()
}

/// A route with these lines, a good one without any.
fn route(lines: &str) -> String {
    format!("[[route]]\nmatch = 'db'\nhost = 'h:1'\n{lines}\n")
}
