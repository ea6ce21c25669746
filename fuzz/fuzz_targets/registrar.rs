//! Any bytes as a packet of Ergo's registrar: no panic, and what is understood is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::dialect::ergo::Packet;

fuzz_target!(|bytes: &[u8]| {
    let told = Packet::length(bytes);
    let Ok(Some((packet, length))) = Packet::read(bytes) else { return };
    assert_eq!(told, Ok(Some(length)));
    let written = packet.written();
    assert_eq!(Packet::read(&written), Ok(Some((packet, written.len()))));
    assert!(written.len() <= length, "a nil list may have been an empty one, and nothing else differs");
});
