//! The query of a request, read strictly: an unknown key, one that stands twice and a bad value are told.

use std::ops::RangeInclusive;

use super::problem::Error;
use crate::request::{percent_decoded, shown};

/// The most that a page of a list holds.
const MAX_PAGE: u64 = 1000;

/// What a page holds when nothing is said.
const PAGE: usize = 100;

/// The keys of a query and their values.
#[derive(Debug)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads `application/x-www-form-urlencoded`, where a `+` is a space; there are these keys and no others.
    pub(super) fn parse(query: &str, known: &[&'static str]) -> Result<Self, Error> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let part = |text: &str| {
                self::text(&text.replace('+', " ")).map_err(|why| Error::BadRequest(format!("the query: {why}")))
            };
            let (key, value) = (part(key)?, part(value)?);
            let Some(key) = known.iter().find(|known| **known == key) else {
                return Err(Error::BadRequest(unknown(&key, known)));
            };
            if found.iter().any(|(other, _)| other == key) {
                return Err(Error::BadRequest(format!("the key {} stands twice in the query", shown(key))));
            }
            found.push((key, value));
        }
        Ok(Self(found))
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == key).map(|(_, value)| value.as_str())
    }

    /// `true` or `false`; false if it is not there.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.get(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(bad(key, other, "true or false")),
        }
    }

    /// How many entries a page may have.
    pub(super) fn limit(&self) -> Result<usize, Error> {
        let limit = self.number("limit", 1..=MAX_PAGE)?;
        Ok(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE))
    }

    /// A whole number in digits, if it is there.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse().ok()).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(bad(key, text, &format!("a whole number from {} to {}", range.start(), range.end()))),
        }
    }
}

/// A percent-encoded text.
pub(super) fn text(encoded: &str) -> Result<String, String> {
    let bytes = percent_decoded(encoded).map_err(|bad| bad.to_string())?;
    String::from_utf8(bytes).map_err(|_not_utf8| format!("{} is not UTF-8", shown(encoded)))
}

fn unknown(key: &str, known: &[&str]) -> String {
    let there = match known {
        [] => "there is none here".to_owned(),
        [only] => format!("there is {only}"),
        several => format!("there are {}", several.join(", ")),
    };
    format!("the key {} in the query is unknown; {there}", shown(key))
}

fn bad(key: &str, value: &str, wanted: &str) -> Error {
    Error::BadRequest(format!("`{key}` in the query is {}, not {wanted}", shown(value)))
}
