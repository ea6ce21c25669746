//! The lines of a journal: bytes in, records out, without a file.
//!
//! A line is the CRC-32C of its record in eight digits, a space, the record in JSON, and a newline. The first record
//! is a header that names the format.

use crc::{CRC_32_ISCSI, Crc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The format that is written, and the only one that is read.
const VERSION: u64 = 1;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The first record.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The format of what follows.
    journal: u64,
}

/// What the bytes of a journal hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan<R> {
    /// The records of all lines that are as they were written, without the header.
    pub records: Vec<R>,
    /// Where the last of those lines ends, in bytes.
    pub end: u64,
    /// The numbers, from 1, of the lines that are not as they were written; the torn one is not among them.
    pub damaged: Vec<usize>,
    /// The number of the last line, if that is not whole: it has no end, so its write was cut short.
    pub torn: Option<usize>,
}

/// Why a journal is left alone: it is whole, and says what this version does not understand.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It does not begin with a header of ours.
    NoHeader,
    /// It is of another format.
    Version(u64),
    /// A record is none of ours.
    Record {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads whatever there is; never more than what was written, whatever has become of it since.
pub fn scan<R: DeserializeOwned>(bytes: &[u8]) -> Result<Scan<R>, Unreadable> {
    let mut scan = Scan { records: Vec::new(), end: 0, damaged: Vec::new(), torn: None };
    let mut at = 0;
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        at += line.len() as u64;
        let Some(json) = record(line) else {
            // The first line is there whole or not at all. A last one with its end may have been acknowledged.
            if number > 1 && !line.ends_with(b"\n") {
                scan.torn = Some(number);
            } else {
                scan.damaged.push(number);
            }
            continue;
        };
        scan.end = at;
        if number == 1 {
            check_header(json)?;
        } else {
            let read = serde_json::from_slice(json);
            let record = read.map_err(|error| Unreadable::Record { line: number, why: error.to_string() })?;
            scan.records.push(record);
        }
    }
    Ok(scan)
}

/// The line of the header.
pub(super) fn header() -> serde_json::Result<Vec<u8>> {
    encode(&[Header { journal: VERSION }])
}

/// The lines of these records.
pub(super) fn encode<R: Serialize>(records: &[R]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend_from_slice(&line(&serde_json::to_vec(record)?));
    }
    Ok(bytes)
}

/// The line of a record in JSON, which has no newline.
pub fn line(json: &[u8]) -> Vec<u8> {
    [checksum(json).as_bytes(), b" ", json, b"\n"].concat()
}

/// The record of a line that is as it was written.
fn record(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    (sum == checksum(json).as_bytes()).then_some(json)
}

fn check_header(json: &[u8]) -> Result<(), Unreadable> {
    match serde_json::from_slice(json) {
        Ok(Header { journal: VERSION }) => Ok(()),
        Ok(Header { journal }) => Err(Unreadable::Version(journal)),
        Err(_other) => Err(Unreadable::NoHeader),
    }
}

fn checksum(json: &[u8]) -> String {
    format!("{:08x}", CRC.checksum(json))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn journal(records: &[String]) -> Vec<u8> {
        [header().unwrap(), encode(records).unwrap()].concat()
    }

    #[test]
    fn the_format_is_what_it_was() {
        let bytes = journal(&["a".into(), "é\n".into()]);
        assert_eq!(String::from_utf8(bytes).unwrap(), "01c93e2b {\"journal\":1}\n9cf7493b \"a\"\n129fff01 \"é\\n\"\n");
        // The check value of CRC-32/ISCSI in the catalogue of parametrised CRC algorithms.
        assert_eq!(checksum(b"123456789"), "e3069283");
    }

    #[test]
    fn what_another_version_wrote_is_left_alone() {
        let with =
            |json: &str| [format!("{} {json}\n", checksum(json.as_bytes())).into_bytes(), b"x".to_vec()].concat();
        assert_eq!(scan::<String>(&with("{\"journal\":2}")), Err(Unreadable::Version(2)));
        assert_eq!(scan::<String>(&with("\"a\"")), Err(Unreadable::NoHeader));
        let newer = [header().unwrap(), encode(&[7]).unwrap()].concat();
        assert!(matches!(scan::<String>(&newer), Err(Unreadable::Record { line: 2, .. })));
    }

    #[test]
    fn a_journal_that_ends_anywhere_holds_every_line_that_is_whole() {
        let records = ["one", "two", "", "four"].map(str::to_owned);
        let bytes = journal(&records);
        for end in 0..=bytes.len() {
            let lines = bytes[..end].iter().filter(|byte| **byte == b'\n').count();
            let scanned = scan::<String>(&bytes[..end]).unwrap();
            assert_eq!(scanned.records, records[..lines.saturating_sub(1)], "cut at {end}");
            let is_whole = end == 0 || bytes[end - 1] == b'\n';
            let (torn, damaged) = match (is_whole, lines) {
                (true, _) => (None, vec![]),
                // No crash leaves a piece of a header.
                (false, 0) => (None, vec![1]),
                (false, lines) => (Some(lines + 1), vec![]),
            };
            assert_eq!((scanned.torn, scanned.damaged), (torn, damaged), "cut at {end}");
            let whole = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert_eq!(scanned.end, whole as u64);
        }
    }

    proptest! {
        #[test]
        fn a_byte_that_changed_is_said_and_costs_its_lines_only(
            records in prop::collection::vec("\\PC{0,8}", 1..5), at: prop::sample::Index, other in 1..=u8::MAX,
        ) {
            let mut bytes = journal(&records);
            let at = at.index(bytes.len());
            bytes[at] ^= other;
            let scanned = scan::<String>(&bytes).unwrap();
            prop_assert!(scanned.torn.is_some() || !scanned.damaged.is_empty());
            prop_assert!(scanned.records.len() + 2 >= records.len());
            let mut left = records.iter();
            prop_assert!(scanned.records.iter().all(|record| left.any(|written| written == record)));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            drop(scan::<String>(&bytes));
            drop(scan::<String>(&[header().unwrap(), bytes].concat()));
        }
    }
}
