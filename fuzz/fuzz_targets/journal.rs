//! Any bytes as the journal of edits, and any lines as its records: no panic, and what is good stays so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::edits::Record;
use portolan::journal::{line, scan};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // A fuzzer does not find a checksum: with it, the lines are read as far as the record itself.
    let records = bytes.split(|byte| *byte == b'\n').map(line);
    check(&[line(b"{\"journal\":1}")].into_iter().chain(records).collect::<Vec<_>>().concat());
});

/// The good part of a journal holds the same records, and its last line is whole.
fn check(bytes: &[u8]) {
    let Ok(scanned) = scan::<Record>(bytes) else { return };
    let good = &bytes[..usize::try_from(scanned.end).unwrap()];
    let again = scan::<Record>(good).unwrap();
    assert_eq!((again.records, again.end, again.torn), (scanned.records, scanned.end, None));
}
