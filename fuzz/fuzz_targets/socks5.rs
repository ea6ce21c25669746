//! SOCKS5 openings: no panic, and the same outcome whole and byte by byte.
#![no_main]

mod heads;

// Every input begins as SOCKS5 does, so that none is spent on the first byte.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heads::check(&[&[5], bytes].concat()));
