//! HTTP heads: no panic, and the same outcome whole and byte by byte.
#![no_main]

mod heads;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heads::check(bytes));
