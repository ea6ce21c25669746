//! Any bytes as a value of Ergo's etcd registrar: no panic, and what is understood is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::dialect::ergo::{routes_from_base64, routes_to_base64};

fuzz_target!(|bytes: &[u8]| {
    let Ok(routes) = routes_from_base64(bytes) else { return };
    assert_eq!(routes_from_base64(routes_to_base64(&routes).as_bytes()), Ok(routes));
});
