//! Problems as a person reads them. What a file holds reaches the terminal only through [`visible`].

use std::borrow::Cow;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::problem::{Place, Problem, Severity};

/// A caret is at most so many characters wide; `annotate-snippets` cuts the line around it to its 140 columns.
const MAX_CARET: usize = 80;

pub(super) fn problem(problem: &Problem, color: bool) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(visible(&problem.message)));
    if let Some(place) = &problem.place {
        group = show(group, place, AnnotationKind::Primary, problem.label.as_deref());
    }
    if let Some((place, label)) = &problem.related {
        group = show(group, place, AnnotationKind::Context, Some(label));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(visible(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// A text whose control characters, and those that turn the direction of writing, are replaced by U+FFFD.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_hidden) {
        text.chars().map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
    } else {
        Cow::Borrowed(text)
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn show<'a>(group: Group<'a>, place: &'a Place, kind: AnnotationKind, label: Option<&'a str>) -> Group<'a> {
    let path = place.file().to_string_lossy();
    let path = visible(&path).into_owned();
    let Some((position, span)) = place.position().zip(place.span()) else {
        return group.element(Origin::path(path));
    };
    let (line, start) = place.source().line(span.start);
    let before = usize::try_from(position.column).unwrap_or(1).saturating_sub(1);
    let after = span.end.saturating_sub(start);
    let width = line.char_indices().skip(before).take_while(|(at, _)| *at < after).take(MAX_CARET).count();

    // Tabs keep their place; every character that is replaced stays one character, so the caret stays too.
    let line: String = line.split('\t').map(visible).collect::<Vec<_>>().join("\t");
    let offset = |characters: usize| line.char_indices().nth(characters).map_or(line.len(), |(at, _)| at);
    let annotation: Annotation<'a> = kind.span(offset(before)..offset(before + width)).label(label.map(visible));
    let number = usize::try_from(position.line).unwrap_or(1);
    group.element(Snippet::source(line).path(path).line_start(number).annotation(annotation))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::source::Source;

    fn rendered(text: &str, span: std::ops::Range<usize>) -> String {
        let source = Source::new(Path::new("r.toml"), text.to_owned());
        problem(&Problem::error("bad").at(Place::new(&source, span)), false)
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        let text = rendered("a = '\u{1b}[2J\u{9b}31m\u{202e}x'\r\nb = 1", 4..9);
        assert_eq!(text, "error: bad\n --> r.toml:1:5\n  |\n1 | a = '�[2J�31m�x'\n  |     ^^^^^");
        let message = problem(&Problem::error("a\u{1b}b\nc").help("x\u{7}"), false);
        assert_eq!(message, "error: a�b�c\n |\n = help: x�");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}x = '{}'{}", "# ".repeat(50_000), "y".repeat(50_000), " ".repeat(10));
        let rendered = rendered(&text, 100_004..150_006);
        assert!(rendered.contains("r.toml:1:100005\n"), "{rendered}");
        assert!(rendered.len() < 800, "{rendered}");
        assert!(rendered.contains(&"^".repeat(MAX_CARET)), "{rendered}");
    }

    #[test]
    fn a_span_over_several_lines_is_marked_on_its_first() {
        let text = rendered("a = [\n 1,\n]", 4..11);
        assert_eq!(text, "error: bad\n --> r.toml:1:5\n  |\n1 | a = [\n  |     ^");
    }
}
