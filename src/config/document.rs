//! A TOML file that is being walked: its syntax, and what the walk finds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::problem::{Place, Problem, Problems};
use super::read::read;
use super::section::{Keys, Section};
use super::source::{Part, Source};

/// A file, or a part of one, that was read; problems collect here until the walk is over.
pub(super) struct Document {
    part: Part,
    found: RefCell<Vec<Problem>>,
    /// What is missing, if it is not what could not be read.
    missing: RefCell<Vec<Problem>>,
    /// Lines with a syntax error: what was made of them is a guess.
    guessed: BTreeSet<u32>,
}

/// Reads a file.
pub(super) fn open(path: &Path, problems: &mut Problems) -> Option<Arc<Source>> {
    open_in_place_of(path, path, problems)
}

/// Reads a file as if it were another.
pub(super) fn open_in_place_of(other: &Path, path: &Path, problems: &mut Problems) -> Option<Arc<Source>> {
    text(path, problems).map(|text| Source::in_place_of(other, path, text))
}

/// Walks a file. What the walk makes of a file with problems is partial.
pub(super) fn walk<T>(
    source: &Arc<Source>,
    keys: &'static Keys,
    problems: &mut Problems,
    build: impl FnOnce(&Section<'_>) -> T,
) -> T {
    let (document, built) = walk_part(&Part::whole(source), keys, build);
    let is_sound = document.is_sound();
    document.finish(is_sound, problems);
    built
}

/// Walks a part of a file as if it were a file, and keeps the problems.
pub(super) fn walk_part<T>(part: &Part, keys: &'static Keys, build: impl FnOnce(&Section<'_>) -> T) -> (Document, T) {
    let (root, syntax) = DeTable::parse_recoverable(part.text());
    let (found, missing) = Default::default();
    let mut document = Document { part: part.clone(), found, missing, guessed: BTreeSet::new() };
    for error in &syntax {
        document.guessed.insert(document.syntax(error));
    }
    let built = build(&Section::open(&document, root.get_ref(), 0..0, keys));
    (document, built)
}

impl Document {
    /// A path that the file names: relative to the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.part.folder().join(path)
    }

    /// The text in which every span counts.
    pub(super) fn source(&self) -> &Part {
        &self.part
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        self.part.place(span)
    }

    /// Whether there is no syntax error.
    pub(super) fn is_sound(&self) -> bool {
        self.guessed.is_empty()
    }

    /// Hands over the problems in the order of the file, whatever the order of the walk. Nothing is missing in a file
    /// that is not sound.
    pub(super) fn finish(self, is_sound: bool, problems: &mut Problems) {
        let mut found = self.found.into_inner();
        found.extend(self.missing.into_inner().into_iter().filter(|_| is_sound));
        found.sort_by_key(|problem| problem.place.as_ref().and_then(Place::span).map(|span| span.start));
        problems.extend(found);
    }

    /// Something is wrong with what is written there.
    pub(super) fn report(&self, span: Range<usize>, problem: Problem) {
        if !self.guessed.contains(&self.part.line_number(span.start)) {
            self.keep(span, problem);
        }
    }

    /// Something is missing there; after a syntax error it may be what could not be read.
    pub(super) fn report_missing(&self, span: Range<usize>, problem: Problem) {
        self.missing.borrow_mut().push(problem.at(self.place(&span)));
    }

    fn keep(&self, span: Range<usize>, problem: Problem) {
        self.found.borrow_mut().push(problem.at(self.place(&span)));
    }

    /// Keeps a syntax error and tells its line.
    fn syntax(&self, error: &toml::de::Error) -> u32 {
        let span = error.span().unwrap_or_default();
        let in_escape = error.message().contains("escape") || error.message().contains("unicode value");
        let problem = if in_escape {
            Problem::error("a backslash in a \"...\" string begins an escape, and this is none")
                .help("write the text as a literal string, '...', in which a backslash is a backslash")
        } else {
            let help = match error.message() {
                m if m.contains("must be quoted") => "write text in quotes, '...'; numbers, true and false without",
                m if m.starts_with("duplicate key") => "a key stands once in its table: remove one of the two",
                m if m.contains("with no value") => "write `key = value`",
                m if m.starts_with("unclosed") || m.starts_with("invalid") => "close it, or quote it properly",
                _ => "see https://toml.io for how a TOML file is written",
            };
            Problem::error(error.message()).help(help)
        };
        let line = self.part.line_number(span.start);
        self.keep(span, problem);
        line
    }
}

fn text(path: &Path, problems: &mut Problems) -> Option<String> {
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem = Problem::error(error.to_string()).help("check the path and who may read it");
            problems.push(problem.at(Place::of_file(path)));
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let shown = Source::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let end = shown.text().ceil_char_boundary(at + 1);
            let problem = Problem::error("the file is not UTF-8").label("not UTF-8 from here on");
            problems.push(problem.help("save the file in the encoding UTF-8").at(Place::new(&shown, at..end)));
            None
        }
    }
}
