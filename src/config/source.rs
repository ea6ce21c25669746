//! The text of a file, and where in it a byte stands as a person counts.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memchr::memchr_iter;

use super::problem::Place;

/// So many bytes lie between two entries of [`Source::lines`]: what has to be counted to find a line is short, and the
/// index of a file of a million routes is smaller than a hundredth of it.
const STEP: usize = 1024;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    path: Arc<Path>,
    /// What the paths in it are relative to.
    folder: Box<Path>,
    text: String,
    /// How many lines end before each [`STEP`]th byte, and in all.
    lines: Vec<u32>,
}

/// A part of a file that is read on its own: whole lines, counted in bytes from its beginning.
#[derive(Debug, Clone)]
pub(super) struct Part {
    source: Arc<Source>,
    range: Range<usize>,
}

/// A place in a file as a person counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Arc<Self> {
        Self::in_place_of(path, path, text)
    }

    /// A file that is read as if it were another.
    pub(super) fn in_place_of(other: &Path, path: &Path, text: String) -> Arc<Self> {
        let folder = other.parent().unwrap_or(Path::new("")).into();
        let mut lines = Vec::with_capacity(text.len() / STEP + 2);
        let mut before = 0;
        for step in text.as_bytes().chunks(STEP) {
            lines.push(before);
            before += ends_of_lines(step);
        }
        lines.push(before);
        Arc::new(Self { path: path.into(), folder, text, lines })
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is written there; nothing when the span is not one of this file's.
    pub(super) fn get(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let before = self.text.get(self.line_start(offset)..self.shown(offset)).unwrap_or_default();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX - 1);
        Position { line: self.line_number(offset), column: column + 1 }
    }

    /// The line of [`Self::position`], without counting the characters before it.
    pub(super) fn line_number(&self, offset: usize) -> u32 {
        let offset = self.shown(offset);
        let step = offset / STEP;
        let rest = self.text.as_bytes().get(step * STEP..offset).unwrap_or_default();
        self.lines.get(step).copied().unwrap_or(0) + ends_of_lines(rest) + 1
    }

    /// The line around a byte, without its end, and the byte at which it begins.
    pub(super) fn line(&self, offset: usize) -> (&str, usize) {
        let start = self.line_start(offset);
        let rest = self.text.get(start..).unwrap_or_default();
        (rest.lines().next().unwrap_or_default(), start)
    }

    /// The line with this number, without its end, and the byte at which it begins.
    pub(super) fn line_at(&self, number: u32) -> (&str, usize) {
        // It begins behind the end of the line before it.
        let ends = number.saturating_sub(1);
        let step = self.lines.partition_point(|&before| before < ends).saturating_sub(1);
        let more = ends.saturating_sub(self.lines.get(step).copied().unwrap_or(0));
        let rest = self.text.as_bytes().get(step * STEP..).unwrap_or_default();
        let start = match more.checked_sub(1) {
            None => Some(0),
            Some(more) => memchr_iter(b'\n', rest).nth(more as usize).map(|end| step * STEP + end + 1),
        };
        self.line(start.unwrap_or(self.text.len()))
    }

    fn line_start(&self, offset: usize) -> usize {
        let before = self.text.get(..self.shown(offset)).unwrap_or_default();
        before.rfind('\n').map_or(0, |end| end + 1)
    }

    /// The parser reports what is missing at the end of the file; people look for it behind the last thing written.
    /// An offset inside a character is taken back to its beginning.
    fn shown(&self, offset: usize) -> usize {
        let offset = if offset < self.text.len() { offset } else { self.text.trim_end().len() };
        self.text.floor_char_boundary(offset)
    }
}

impl Part {
    pub(super) fn whole(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), range: 0..source.text.len() }
    }

    /// The file in parts of at least this many bytes, but for the last, cut where a line begins with this text.
    pub(super) fn split(source: &Arc<Source>, size: usize, beginning: &str) -> Vec<Self> {
        let cut = format!("\n{beginning}");
        let mut parts = Vec::with_capacity(source.text.len() / size.max(1) + 1);
        let mut start = 0;
        loop {
            let from = source.text.ceil_char_boundary(start + size);
            let found = source.text.get(from..).and_then(|rest| rest.find(&cut));
            let end = found.map_or(source.text.len(), |at| from + at + 1);
            parts.push(Self { source: Arc::clone(source), range: start..end });
            if found.is_none() {
                return parts;
            }
            start = end;
        }
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.source.path
    }

    /// What the paths in it are relative to.
    pub(super) fn folder(&self) -> &Path {
        &self.source.folder
    }

    pub(super) fn text(&self) -> &str {
        self.source.get(&self.range)
    }

    /// What is written there; nothing when the span is not one of this part's.
    pub(super) fn get(&self, span: &Range<usize>) -> &str {
        self.text().get(span.clone()).unwrap_or_default()
    }

    /// The line in the file, from 1.
    pub(super) fn line_number(&self, offset: usize) -> u32 {
        self.source.line_number(self.range.start + offset)
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::new(&self.source, self.in_file(span))
    }

    /// The same bytes, counted from the beginning of the file.
    pub(super) fn in_file(&self, span: &Range<usize>) -> Range<usize> {
        self.range.start + span.start..self.range.start + span.end
    }

    /// The part with so many bytes of the next one; `None` for the last.
    pub(super) fn and_next(&self, more: usize) -> Option<Self> {
        let end = self.range.end + more;
        (end <= self.source.text.len()).then(|| Self { source: Arc::clone(&self.source), range: self.range.start..end })
    }

    pub(super) fn is_first(&self) -> bool {
        self.range.start == 0
    }
}

/// A file has at most `super::read::MAX_BYTES` bytes, so nothing is cut.
fn ends_of_lines(bytes: &[u8]) -> u32 {
    u32::try_from(memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(text: &str, offset: usize) -> (u32, u32) {
        let position = Source::new(Path::new("x"), text.to_owned()).position(offset);
        (position.line, position.column)
    }

    #[test]
    fn columns_are_characters() {
        assert_eq!(position("a\nмост x\n", 2), (2, 1));
        assert_eq!(position("a\nмост x\n", 2 + 9), (2, 6));
        assert_eq!(position("a\nмост x\n", 3), (2, 1), "inside a character");
    }

    #[test]
    fn the_end_of_a_file_that_is_whole_steps_long() {
        let text = "\n".repeat(STEP - 1) + "x";
        assert_eq!(position(&text, STEP), (1024, 2));
    }

    #[test]
    fn a_line_is_found_by_its_number() {
        let text: String = (1..1000).map(|number| format!("{}{number}\n", " ".repeat(number % 7))).collect();
        let source = Source::new(Path::new("x"), text);
        for number in 1..1000 {
            let (line, start) = source.line_at(number);
            assert_eq!((line.trim_start(), source.line_number(start)), (number.to_string().as_str(), number));
        }
    }

    #[test]
    fn the_end_of_the_file_is_behind_the_last_thing_written() {
        assert_eq!(position("a = [\n\n", 7), (1, 6));
        assert_eq!(position("a\nb", 99), (2, 2));
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn parts_are_whole_lines_and_together_the_file() {
        let source = Source::new(Path::new("x"), "#é\n[[r]]\na\n [[r]]\n[[r]]\nb[[r]]\n\n[[r]]".to_owned());
        let texts = |size| -> Vec<_> {
            Part::split(&source, size, "[[r]]")
                .iter()
                .map(|part| (part.text().to_owned(), part.line_number(0)))
                .collect()
        };
        let part = |text: &str, line| (text.to_owned(), line);
        assert_eq!(
            texts(1),
            [part("#é\n", 1), part("[[r]]\na\n [[r]]\n", 2), part("[[r]]\nb[[r]]\n\n", 5), part("[[r]]", 8)]
        );
        assert_eq!(texts(4), [part("#é\n[[r]]\na\n [[r]]\n", 1), part("[[r]]\nb[[r]]\n\n", 5), part("[[r]]", 8)]);
        assert_eq!(texts(1000).len(), 1);
    }

    proptest! {
        #[test]
        fn lines_are_counted_from_any_step(lines in prop::collection::vec(0..700usize, 0..20), at in 0..5000usize) {
            let text: String = lines.iter().map(|length| format!("{}é\n", "x".repeat(*length))).collect();
            let source = Source::new(Path::new("x"), text.clone());
            let shown = text.floor_char_boundary(if at < text.len() { at } else { text.trim_end().len() });
            let line = text.get(..shown).unwrap().matches('\n').count() + 1;
            prop_assert_eq!(source.line_number(at) as usize, line);
            prop_assert_eq!(source.line(at).0, text.lines().nth(line - 1).unwrap_or_default());
        }
    }
}
