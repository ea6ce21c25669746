//! Candidates are tried until one is up.

mod attempt;

pub use attempt::{Attempt, DialError, Stage};
