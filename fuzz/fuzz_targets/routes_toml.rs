//! Any text as `routes.toml`: every problem has its place, and can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portolan::config::{Kind, check_text};

fuzz_target!(|text: &str| {
    let problems = check_text(Kind::Routes, Path::new("routes.toml"), text);
    assert!(!problems.render(false).contains(|c: char| c.is_control() && c != '\n'));
});
