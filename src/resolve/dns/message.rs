//! What one answer of a server says of a name.

use std::time::Duration;

use hickory_resolver::proto::op::{DnsResponse, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::resolve::NoAnswer;

/// For how long anything may hold (RFC 8767, section 4).
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The name has such records.
    Records(Found),
    /// It is the alias of another name, of which nothing is said.
    Alias { of: Name, ttl: Duration },
    /// There is no such record; for how long, where the zone says it (RFC 2308, section 5).
    Nothing { ttl: Option<Duration> },
}

/// Records of one name and kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// At least one, in the order of the answer.
    pub(super) records: Vec<RData>,
    /// The lowest of theirs and of the aliases that led to them.
    pub(super) ttl: Duration,
}

impl Found {
    pub(super) fn for_at_most(self, ttl: Duration) -> Self {
        Self { ttl: self.ttl.min(ttl), ..self }
    }
}

impl Said {
    /// Reads an answer. What it says of names that were not asked for, and that no alias leads to, does not count.
    pub(super) fn by(response: &DnsResponse, name: &Name, kind: RecordType) -> Result<Self, NoAnswer> {
        if !matches!(response.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(NoAnswer::Garbled(format!("its code is {}", u16::from(response.response_code))));
        }
        let answers = &response.answers;
        let of = |owner: &Name| answers.iter().filter(|record| record.name == *owner).collect::<Vec<_>>();
        if !answers.is_empty() && of(name).is_empty() {
            return Err(NoAnswer::Garbled(format!("the answer is about other names than {name}")));
        }
        let mut owner = name;
        let mut ttl = LONGEST;
        // Each alias is one record at least, so more steps than records are a circle.
        for _ in 0..=answers.len() {
            let records = of(owner);
            let wanted: Vec<&Record> = records.iter().copied().filter(|record| record.record_type() == kind).collect();
            if !wanted.is_empty() {
                let ttl = wanted.iter().map(|record| seconds(record.ttl)).fold(ttl, Duration::min);
                let records = wanted.into_iter().map(|record| record.data.clone()).collect();
                return Ok(Self::Records(Found { records, ttl }));
            }
            let Some((alias, of)) = records.into_iter().find_map(alias) else { break };
            ttl = ttl.min(seconds(alias.ttl));
            owner = of;
        }
        let negative = response.negative_ttl().map(|negative| seconds(negative).min(ttl));
        // Who knows that there is no such record shows the zone that says so.
        if owner == name || negative.is_some() || response.response_code == ResponseCode::NXDomain {
            return Ok(Self::Nothing { ttl: negative });
        }
        Ok(Self::Alias { of: owner.clone(), ttl })
    }
}

fn alias(record: &Record) -> Option<(&Record, &Name)> {
    match &record.data {
        RData::CNAME(of) => Some((record, &of.0)),
        _ => None,
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into()).min(LONGEST)
}
