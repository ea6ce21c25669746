//! Any text as a shared route, under any key: no panic, and nothing that a shared route may not do.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portolan::config::{Context, Problems, SharedRules, read_shared};
use portolan::route::Origin;

fuzz_target!(|input: (&str, &str)| {
    let (key, text) = input;
    let (rules, mut problems) = (SharedRules::default(), Problems::default());
    let origin = Origin::Edit { at: std::time::SystemTime::UNIX_EPOCH };
    let Some(route) = read_shared(Path::new(key), text, origin, &rules, Context::default(), &mut problems) else {
        assert!(problems.has_errors(), "it is refused, and nobody is told why");
        return drop(problems.render(false));
    };
    if let Some(tls) = &route.tls {
        assert!(tls.ca.is_none() && tls.identity.is_none() && !tls.insecure_skip_verify, "{tls:?}");
    }
});
