//! Any text as a pattern, and any name: no panic, a refusal has a place, and what the index asks of a name is true of every
//! name that matches.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::node::NodeName;
use portolan::route::Pattern;

fuzz_target!(|input: (&str, &str)| {
    let (text, name) = input;
    let pattern = match Pattern::parse(text) {
        Ok(pattern) => pattern,
        Err(error) => return assert!(text.get(error.place()).is_some()),
    };
    // Only a program knows what to do with a line feed; that it compiles is asserted where it does.
    pattern.matches_text("\n");
    let Ok(node) = NodeName::parse(name) else { return };
    let has_needles = pattern.requirements().iter().all(|set| set.iter().any(|needle| needle.is_in(name)));
    let matches = pattern.matches(&node);
    assert!(!matches || has_needles && pattern.may_match(name));
    assert!(!pattern.is_decided_by_needles() || has_needles == matches);
});
