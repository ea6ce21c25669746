//! The text of a file, and where in it a byte stands as a person counts.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    path: Arc<Path>,
    text: String,
    /// The byte at which each line begins.
    lines: Vec<usize>,
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
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { path: path.into(), text, lines })
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
        let (index, start) = self.line_at(offset);
        let column = self.text.get(start..self.shown(offset)).map_or(0, |before| before.chars().count());
        Position { line: count(index + 1), column: count(column + 1) }
    }

    /// The line of [`Self::position`], without counting the characters before it.
    pub(super) fn line_number(&self, offset: usize) -> u32 {
        count(self.line_at(offset).0 + 1)
    }

    /// The line around a byte, without its end, and the byte at which it begins.
    pub(super) fn line(&self, offset: usize) -> (&str, usize) {
        let (_, start) = self.line_at(offset);
        let rest = self.text.get(start..).unwrap_or_default();
        (rest.lines().next().unwrap_or_default(), start)
    }

    fn line_at(&self, offset: usize) -> (usize, usize) {
        let offset = self.shown(offset);
        let index = self.lines.partition_point(|&start| start <= offset).saturating_sub(1);
        (index, self.lines.get(index).copied().unwrap_or(0))
    }

    /// The parser reports what is missing at the end of the file; people look for it behind the last thing written.
    /// An offset inside a character is taken back to its beginning.
    fn shown(&self, offset: usize) -> usize {
        let offset = if offset < self.text.len() { offset } else { self.text.trim_end().len() };
        self.text.floor_char_boundary(offset)
    }
}

/// A file has at most `super::read::MAX_BYTES` bytes, so nothing is cut.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
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
    fn the_end_of_the_file_is_behind_the_last_thing_written() {
        assert_eq!(position("a = [\n\n", 7), (1, 6));
        assert_eq!(position("a\nb", 99), (2, 2));
        assert_eq!(position("", 0), (1, 1));
    }
}
