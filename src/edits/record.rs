//! What the journal of edits holds.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::admin::view::RouteSpec;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Record {
    /// A route was added.
    Add(Edit),
    /// A file's route was removed; this is what it said.
    Remove(Edit),
    /// A route that was added is no more.
    UndoAdd {
        /// Its key.
        #[serde(rename = "match")]
        pattern: String,
    },
    /// A file's route that was removed is so no more.
    UndoRemove {
        /// Its key.
        #[serde(rename = "match")]
        pattern: String,
    },
}

/// A route, and when somebody added or removed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// What it says.
    pub route: RouteSpec,
}

impl Edit {
    /// An edit. A clock that stands before 1970 counts as 1970, which is the first year that can be written.
    pub fn new(route: RouteSpec, at: SystemTime) -> Self {
        Self { at: at.max(UNIX_EPOCH), route }
    }
}

/// Times as RFC 3339 has them, in UTC and to the nanosecond.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_records_are_what_they_were() {
        let route = RouteSpec::of(&crate::route::testing::route("a", 100));
        let at = UNIX_EPOCH + Duration::new(1_000_000_000, 5);
        let pattern = || "a".to_owned();
        let records = [
            Record::Add(Edit::new(route.clone(), at)),
            Record::Remove(Edit::new(route, at - Duration::from_secs(1 << 40))),
            Record::UndoAdd { pattern: pattern() },
            Record::UndoRemove { pattern: pattern() },
        ];
        let written = records.each_ref().map(|record| serde_json::to_string(record).unwrap());
        let route = r#""route":{"match":"a","weight":100,"host":["127.0.0.1:1"]}"#;
        assert_eq!(
            written,
            [
                format!(r#"{{"op":"add","at":"2001-09-09T01:46:40.000000005Z",{route}}}"#),
                format!(r#"{{"op":"remove","at":"1970-01-01T00:00:00.000000000Z",{route}}}"#),
                r#"{"op":"undo_add","match":"a"}"#.to_owned(),
                r#"{"op":"undo_remove","match":"a"}"#.to_owned(),
            ]
        );
        let [add, _, undo_add, undo_remove] = records;
        for (text, record) in [(&written[0], add), (&written[2], undo_add), (&written[3], undo_remove)] {
            assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        }
    }
}
