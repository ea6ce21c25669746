//! A table of a file, read key by key. A getter that finds something wrong reports it and goes on with `None`.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::problem::Problem;
use crate::route::Timeout;

/// The keys of a kind of table.
pub(super) struct Keys {
    /// As it is written: `[socket]`, `[[route]]`; empty for the top level.
    pub(super) heading: &'static str,
    /// The keys that are read.
    pub(super) known: &'static [&'static str],
    /// The keys of the design that this version refuses.
    pub(super) later: &'static [&'static str],
}

/// A table of a file.
pub(super) struct Section<'a> {
    document: &'a Document,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    keys: &'static Keys,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Section<'a> {
    /// A table whose unknown keys have been reported.
    pub(super) fn open(
        document: &'a Document,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        keys: &'static Keys,
    ) -> Self {
        let section = Self { document, table, span, keys };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if keys.later.contains(&name) {
                section.report_later(name, key.span(), value);
            } else if !keys.known.contains(&name) {
                section.report(key.span(), section.unknown(name, value));
            }
        }
        section
    }

    pub(super) fn document(&self) -> &'a Document {
        self.document
    }

    /// Where the table begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key is written, rightly or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether no other key is written.
    pub(super) fn has_only(&self, key: &str) -> bool {
        self.table.keys().all(|written| written.get_ref() == key)
    }

    /// Whether every table of a key, if it is written, has a header of its own: `[[key]]`.
    pub(super) fn has_headers(&self, key: &str) -> bool {
        let source = self.document.source();
        let is_headed = |item: &Value<'_>| item.get_ref().is_table() && source.get(&item.span()).starts_with('[');
        self.value(key).is_none_or(|value| {
            value.get_ref().as_array().is_some_and(|items| !items.is_empty() && items.iter().all(is_headed))
        })
    }

    /// Where a key stands; where the table does when it is not written.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or(self.span(), |(key, _)| key.span())
    }

    /// Where a piece of a text stands in the file; where the text does when it is not written there as it is.
    pub(super) fn span_inside(&self, text: &Spanned<&str>, at: Range<usize>) -> Range<usize> {
        let (span, source) = (text.span(), self.document.source());
        let written = source.get(&span);
        let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 };
        let start = span.start + quotes;
        let is_literal = source.get(&(start..span.end.saturating_sub(quotes))) == *text.get_ref();
        if is_literal { start + at.start..start + at.end } else { span }
    }

    pub(super) fn value(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table.get(key)
    }

    pub(super) fn report(&self, span: Range<usize>, problem: Problem) {
        self.document.report(span, problem);
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(key, value, "true or false", &format!("write `{key} = true` or `{key} = false`"));
        }
        boolean
    }

    pub(super) fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let (least, most) = (range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            let help = format!("write a whole number without quotes, from {least} to {most}");
            self.wrong_type(key, value, "an integer", &help);
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let written = brief(self.document.source().get(&value.span()));
            let message = format!("`{key}` is {written}, out of range");
            let help = format!("write a whole number from {least} to {most}");
            self.report(value.span(), Problem::error(message).help(help));
        }
        number
    }

    /// A string, which may be empty.
    pub(super) fn string(&self, key: &str) -> Option<Spanned<&'a str>> {
        self.as_string(key, self.value(key)?)
    }

    /// A string with something in it.
    pub(super) fn text(&self, key: &str) -> Option<Spanned<&'a str>> {
        self.as_text(key, self.value(key)?)
    }

    /// Text for one line of a log.
    pub(super) fn line(&self, key: &str) -> Option<Spanned<&'a str>> {
        let text = self.text(key)?;
        if text.get_ref().contains(char::is_control) {
            let problem = Problem::error(format!("`{key}` has control characters"));
            self.report(text.span(), problem.help("write it on one line, without tabs"));
            return None;
        }
        Some(text)
    }

    /// A string, or an array of at least one. Nothing when one of them is wrong.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<Spanned<&'a str>>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            return self.as_text(key, value).map(|text| vec![text]);
        };
        if array.is_empty() {
            let problem = Problem::error(format!("`{key}` is empty")).help("write at least one, or remove the key");
            self.report(value.span(), problem);
            return None;
        }
        let texts: Vec<_> = array.iter().filter_map(|item| self.as_text(key, item)).collect();
        (texts.len() == array.len()).then_some(texts)
    }

    /// A path, relative to the folder of the file.
    pub(super) fn path(&self, key: &str) -> Option<Spanned<PathBuf>> {
        self.as_path(key, &self.text(key)?)
    }

    /// A path that was written as a part of the text at this span.
    pub(super) fn as_path(&self, key: &str, text: &Spanned<&'a str>) -> Option<Spanned<PathBuf>> {
        if text.get_ref().contains('\0') {
            let problem = Problem::error(format!("`{key}` has a zero byte, which no path has"));
            self.report(text.span(), problem.help("remove it"));
            return None;
        }
        Some(Spanned::new(text.span(), self.document.resolve(text.get_ref())))
    }

    /// A length of time.
    pub(super) fn duration(&self, key: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
        self.as_duration(key, range, "")
    }

    /// A length of time, or `"never"`, which is `None`; `default` when it is not written.
    pub(super) fn timeout(
        &self,
        key: &str,
        range: &RangeInclusive<Duration>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        match self.value(key) {
            None => default,
            Some(value) if value.get_ref().as_str() == Some("never") => None,
            Some(_) => self.as_duration(key, range, ", or \"never\""),
        }
    }

    /// A length of time, or `"never"`; `None` when it is not written.
    pub(super) fn own_timeout(&self, key: &str, range: &RangeInclusive<Duration>) -> Option<Timeout> {
        match self.value(key)? {
            value if value.get_ref().as_str() == Some("never") => Some(Timeout::Never),
            _ => self.as_duration(key, range, ", or \"never\"").map(Timeout::After),
        }
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        let found = choices.iter().find(|(word, _)| word == text.get_ref()).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!("`{key}` is \"{}\", which is none of its values", brief(text.get_ref()));
            self.report(text.span(), Problem::error(message).help(one_of(text.get_ref(), &words)));
        }
        found
    }

    /// The table of a key.
    pub(super) fn section(&self, key: &str, keys: &'static Keys) -> Option<Self> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table", &format!("write {} on a line of its own", keys.heading));
            return None;
        };
        Some(Self::open(self.document, table, value.span(), keys))
    }

    /// The tables of a key by their names, `[key.NAME]`, each with the keys that `keys` says for it.
    pub(super) fn named(
        &self,
        key: &str,
        heading: &str,
        keys: impl Fn(&Self) -> &'static Keys,
    ) -> Vec<(Spanned<&'a str>, Self)> {
        const ANY: Keys = Keys { heading: "", known: &[], later: &[] };

        let Some(value) = self.value(key) else { return Vec::new() };
        let help = format!("write {heading} on a line of its own");
        let Some(tables) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table of tables", &help);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(tables.len());
        for (name, value) in tables {
            let Some(table) = value.get_ref().as_table() else {
                self.wrong_type(name.get_ref(), value, "a table", &help);
                continue;
            };
            let document = self.document;
            let keys = keys(&Self { document, table, span: value.span(), keys: &ANY });
            let name = Spanned::new(name.span(), name.get_ref().as_ref());
            sections.push((name, Self::open(document, table, value.span(), keys)));
        }
        sections
    }

    /// The tables of a key that may stand several times.
    pub(super) fn sections(&self, key: &str, keys: &'static Keys) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let help = format!("write {} on a line of its own, once for each", keys.heading);
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array of tables", &help);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => sections.push(Self::open(self.document, table, item.span(), keys)),
                None => self.wrong_type(key, item, "a table", &help),
            }
        }
        sections
    }

    pub(super) fn wrong_type(&self, key: &str, value: &Value<'_>, expected: &str, help: &str) {
        let problem = Problem::error(format!("`{key}` is {}, not {expected}", kind(value.get_ref())));
        self.report(value.span(), problem.help(help));
    }

    fn as_string(&self, key: &str, value: &'a Value<'a>) -> Option<Spanned<&'a str>> {
        let Some(text) = value.get_ref().as_str() else {
            let written = brief(self.document.source().get(&value.span()));
            let is_list = matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_));
            let text = if is_list { "..." } else { written.as_str() };
            self.wrong_type(key, value, "a string", &format!("write text in quotes: '{text}'"));
            return None;
        };
        Some(Spanned::new(value.span(), text))
    }

    fn as_text(&self, key: &str, value: &'a Value<'a>) -> Option<Spanned<&'a str>> {
        let text = self.as_string(key, value)?;
        if text.get_ref().is_empty() {
            self.report(text.span(), Problem::error(format!("`{key}` is empty")).help("write it, or remove the key"));
            return None;
        }
        Some(text)
    }

    fn as_duration(&self, key: &str, range: &RangeInclusive<Duration>, or: &str) -> Option<Duration> {
        let value = self.value(key)?;
        let text = |duration: &Duration| humantime::format_duration(*duration).to_string();
        let (least, most) = (text(range.start()), text(range.end()));
        let help =
            format!("write a number and a unit, such as \"1500ms\", \"3s\" or \"5m\", from {least} to {most}{or}");
        let Some(written) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "a duration", &help);
            return None;
        };
        let shown = brief(written);
        let problem = match humantime::parse_duration(written) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(_) => Problem::error(format!("`{key}` is \"{shown}\", out of range")),
            Err(_) => Problem::error(format!("`{key}` is \"{shown}\", which is no duration")),
        };
        self.report(value.span(), problem.help(help));
        None
    }

    fn unknown(&self, name: &str, value: &Value<'_>) -> Problem {
        let what = if is_table(value.get_ref()) { "table" } else { "key" };
        let place = match self.keys.heading {
            "" => "at the top level".to_owned(),
            heading => format!("in {heading}"),
        };
        Problem::error(format!("unknown {what} `{}` {place}", brief(name))).help(one_of(name, self.keys.known))
    }

    /// `[resolver.fleet]` and `[[proxy_route]]` are said at each of their headers, everything else at its key.
    fn report_later(&self, name: &str, key: Range<usize>, value: &Value<'_>) {
        let source = self.document.source();
        let header = |value: &Value<'_>| {
            Some(value.span()).filter(|span| value.get_ref().is_table() && source.get(span).starts_with('['))
        };
        let headers: Vec<_> = match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(header).collect(),
            // A table that only its children's headers name bears the span of its key.
            DeValue::Table(children) if value.span() == key => children.values().filter_map(header).collect(),
            _ => header(value).into_iter().collect(),
        };
        if headers.is_empty() {
            self.report(key, later(&format!("`{name}`")));
        }
        for span in headers {
            let written = brief(source.get(&span));
            self.report(span, later(&written));
        }
    }
}

/// A key or table that a later version takes.
pub(super) fn later(what: &str) -> Problem {
    Problem::error(format!("{what} is not supported yet")).help("remove it: this version would not do what it says")
}

/// Foreign text inside a message: at most 60 characters of it.
pub(super) fn brief(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn one_of(written: &str, words: &[&str]) -> String {
    let near = |word: &&&str| strsim::damerau_levenshtein(written, word);
    match words.iter().filter(|_| written.len() < 60).min_by_key(near) {
        Some(word) if near(&word) <= 1 + word.len() / 4 => format!("did you mean `{word}`?"),
        _ => format!("write one of: {}", words.join(", ")),
    }
}

fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()),
        _ => false,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
