//! What is wrong with a file: said in full, with its place and a remedy.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::render;
use super::source::{Position, Source};

/// One thing that a person should change.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where; `None` when it concerns no file.
    pub place: Option<Place>,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// A second place that explains the first, and a few words for it.
    pub related: Option<(Place, String)>,
    /// What to do.
    pub help: Option<String>,
}

/// Whether a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is.
    Error,
    /// It is not; somebody should look all the same.
    Warning,
}

/// A place in a file, or a whole file.
#[derive(Debug, Clone)]
pub struct Place {
    source: Arc<Source>,
    span: Option<Range<usize>>,
}

/// Every problem of a load, in the order of the files.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    left_out: usize,
}

impl Problem {
    /// Something that the file is refused for.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// Something that somebody should look at.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self { severity, message, place: None, label: None, related: None, help: None }
    }

    /// The same problem with a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same problem with a few words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same problem with its place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same problem with a second place that explains it.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related = Some((place, label.into()));
        self
    }

    /// The problem as a person reads it: message, `--> file:line:column`, the line, a caret, and the remedy. Control
    /// characters of the file are shown, not sent.
    pub fn render(&self, color: bool) -> String {
        render::problem(self, color)
    }
}

impl Severity {
    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Place {
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: Arc::clone(source), span: Some(span) }
    }

    /// A file of which there is no text to show.
    pub fn of_file(path: &Path) -> Self {
        Self { source: Source::new(path, String::new()), span: None }
    }

    /// The file, as it was named.
    pub fn file(&self) -> &Arc<Path> {
        self.source.path()
    }

    /// Line and column; `None` for a whole file.
    pub fn position(&self) -> Option<Position> {
        self.span.as_ref().map(|span| self.source.position(span.start))
    }

    /// The bytes of the file; `None` for a whole file.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.file() == other.file() && self.span == other.span
    }
}

impl Eq for Place {}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

impl Problems {
    /// So many are kept; a file of noise shall not fill the log.
    const MAX: usize = 1000;

    /// Adds one, unless it is there already: a file that two others name is told of once.
    pub fn push(&mut self, problem: Problem) {
        let is_error = problem.severity == Severity::Error;
        if self.list.len() < Self::MAX {
            if self.list.contains(&problem) {
                return;
            }
            self.list.push(problem);
        } else {
            self.left_out += 1;
            // Why a file is refused is said, however much there is to warn of.
            if is_error
                && self.errors < Self::MAX
                && let Some(warning) = self.list.iter().rposition(|other| other.severity == Severity::Warning)
            {
                self.list.remove(warning);
                self.list.push(problem);
            }
        }
        self.errors += usize::from(is_error);
    }

    /// Whether a file is refused.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        (self.list.len() + self.left_out).saturating_sub(self.errors)
    }

    /// How many there are beside those that are kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, at most 1000 of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Every problem as a person reads it, an empty line between two, and a last line that counts them.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        for problem in &self.list {
            text.push_str(&problem.render(color));
            text.push_str("\n\n");
        }
        if !self.is_empty() {
            text.push_str(&self.summary());
            text.push('\n');
        }
        text
    }

    /// Why a file is refused, in one line; without an error it is for the warnings, because they were to count as such.
    pub fn why(&self) -> String {
        if self.has_errors() { self.first_error() } else { format!("{}, and none was to be let pass", self.summary()) }
    }

    /// The first error in one line, with its place, and how many more there are.
    pub fn first_error(&self) -> String {
        let Some(first) = self.list.iter().find(|problem| problem.severity == Severity::Error) else {
            return String::new();
        };
        let place = first.place.as_ref().map(|place| match place.position() {
            Some(Position { line, column }) => format!("{}:{line}:{column}: ", place.file().display()),
            None => format!("{}: ", place.file().display()),
        });
        let more = match self.errors.saturating_sub(1) {
            0 => String::new(),
            more => format!(" (and {})", plural(more, "more error")),
        };
        render::visible(&format!("{}{}{more}", place.unwrap_or_default(), first.message)).into_owned()
    }

    /// `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let counts = [(self.errors, "error"), (self.warnings(), "warning")];
        let mut parts: Vec<String> =
            counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| plural(n, word)).collect();
        if self.left_out > 0 {
            parts.push(format!("{} of them not shown", self.left_out));
        }
        parts.join(", ")
    }
}

/// `1 route`, `2 routes`.
pub(crate) fn plural(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_counted_and_not_kept() {
        let mut problems = Problems::default();
        for n in 0..1003 {
            problems.push(Problem::error(format!("no {n}")));
            problems.push(Problem::error("no 0"));
        }
        assert_eq!((problems.iter().count(), problems.errors()), (1000, 1007));
        assert_eq!(problems.summary(), "1007 errors, 7 of them not shown");
    }

    #[test]
    fn an_error_is_shown_behind_any_number_of_warnings() {
        let mut problems = Problems::default();
        problems.extend((0..1003).map(|n| Problem::warning(format!("odd {n}"))));
        problems.push(Problem::error("wrong"));
        assert_eq!((problems.iter().count(), problems.first_error().as_str()), (1000, "wrong"));
        assert_eq!(problems.summary(), "1 error, 1003 warnings, 4 of them not shown");
    }

    #[test]
    fn the_first_error_has_its_place() {
        let mut problems = Problems::default();
        assert_eq!(problems.first_error(), "");
        let place = Place::new(&Source::new(Path::new("a.toml"), "x\nyz".into()), 3..4);
        problems.push(Problem::warning("odd"));
        problems.push(Problem::error("wrong").at(place));
        assert_eq!(problems.first_error(), "a.toml:2:2: wrong");
        problems.push(Problem::error("gone").at(Place::of_file(Path::new("b.toml"))));
        assert_eq!(problems.first_error(), "a.toml:2:2: wrong (and 1 more error)");
    }
}
