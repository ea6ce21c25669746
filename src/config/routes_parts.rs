//! A routes file is read in parts, side by side and one after the other: the tree of a whole one would be twenty-five
//! times its text.
//!
//! A part begins at a line `[[route]]`. That such a line is a header, and not a piece of a text that goes over several
//! lines, is known from the part before it, which then ends as a document ends; after a syntax error the parser is asked
//! what it makes of that line. When a part is no document of its own, or has something that other parts may contradict,
//! the file is read as one: there is one parser, and it says what is wrong.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, available_parallelism};

use toml::de::DeTable;

use super::document::{Document, walk_part};
use super::problem::{Place, Problem, Problems};
use super::routes_file::{KEYS, ROUTE_KEYS, route};
use super::source::{Part, Source};
use super::tls::{Policies, Written};
use crate::route::Route;

/// What each part begins with, but for the first of the file.
pub(super) const HEADER: &str = "[[route]]";

/// A part has so many bytes, and those to the next header. The lists that the parser makes for a larger one come from
/// the kernel each time: 1 MiB takes three times as long for each route.
pub(super) const PART: usize = 64 << 10;

/// More threads would wait for the one that puts the parts together.
const MAX_THREADS: usize = 8;

/// So many parts each thread may be ahead.
const AHEAD: usize = 4;

/// What a part holds.
struct Read<T> {
    document: Document,
    routes: Vec<T>,
    disabled: usize,
    /// The TLS policies, whose files are not opened yet.
    written: Vec<Written>,
    /// It has the key of a table of routes, or says that none is needed.
    has_routes: bool,
    /// With its neighbours it says what it says alone.
    stands_alone: bool,
}

/// Reads a routes file; a route with a problem is left out. What `keep` makes of each other one that is not disabled,
/// and of the place of its pattern, is added to `routes`, part by part. Returns how many are disabled.
pub(super) fn read_routes<T: Send>(
    source: &Arc<Source>,
    policies: &mut Policies<'_>,
    problems: &mut Problems,
    routes: &mut Vec<Vec<T>>,
    keep: impl Fn(Route, Range<usize>) -> T + Sync,
) -> usize {
    read_parts(&Part::split(source, PART, HEADER), source, policies, problems, routes, keep)
}

fn read_parts<T: Send>(
    parts: &[Part],
    source: &Arc<Source>,
    policies: &mut Policies<'_>,
    problems: &mut Problems,
    routes: &mut Vec<Vec<T>>,
    keep: impl Fn(Route, Range<usize>) -> T + Sync,
) -> usize {
    let before = routes.len();
    let mut parts_read = Vec::with_capacity(parts.len());
    let mut take = |mut part: Read<T>| {
        // In this thread's memory they make room for the table when they have gone into it, in another's they do not.
        let mut own = Vec::with_capacity(part.routes.len());
        own.append(&mut std::mem::take(&mut part.routes));
        routes.push(own);
        parts_read.push(part);
    };
    let read = |part: &Part| read_part(part, policies, &keep);
    let is_one = parts.len() < 2 || in_order(parts, read, |part| part.stands_alone.then(|| take(part))).is_none();
    if is_one {
        routes.truncate(before);
        parts_read.clear();
        let mut whole = read_part(&Part::whole(source), policies, &keep);
        routes.push(std::mem::take(&mut whole.routes));
        parts_read.push(whole);
    }
    let is_sound = parts_read.iter().all(|part| part.document.is_sound());
    let has_routes = parts_read.iter().any(|part| part.has_routes);
    let disabled = parts_read.iter().map(|part| part.disabled).sum();
    for part in parts_read {
        policies.open(&part.document, part.written);
        part.document.finish(is_sound, problems);
    }
    if is_sound && !has_routes {
        let problem = Problem::error("the file has no [[route]]").at(Place::of_file(source.path()));
        problems.push(problem.help("write one, or `allow_empty = true` if that is meant"));
    }
    disabled
}

fn read_part<T>(part: &Part, policies: &Policies<'_>, keep: impl Fn(Route, Range<usize>) -> T) -> Read<T> {
    let mut written = Vec::new();
    let (document, (routes, disabled, has_routes, stands_alone)) = walk_part(part, &KEYS, |root| {
        let sections = root.sections("route", &ROUTE_KEYS);
        let allow_empty = root.boolean("allow_empty").unwrap_or(false);
        let mut routes = Vec::with_capacity(sections.len());
        let mut disabled = 0;
        for section in &sections {
            let route = route(section, policies, &mut written);
            if section.boolean("disabled").unwrap_or(false) {
                disabled += 1;
            } else if let Some((route, place)) = route {
                routes.push(keep(route, place));
            }
        }
        let has_routes = root.has("route") || root.has("proxy_route") || allow_empty;
        let stands_alone = root.has_headers("route") && (part.is_first() || root.has_only("route"));
        (routes, disabled, has_routes, stands_alone)
    });
    let stands_alone = stands_alone && (document.is_sound() || ends_soundly(part));
    Read { document, routes, disabled, written, has_routes, stands_alone }
}

/// Whether the syntax errors of a part touch nothing behind it: the parser takes the next header for one, and has no more
/// to say.
fn ends_soundly(part: &Part) -> bool {
    let Some(more) = part.and_next(HEADER.len()) else { return true };
    let said = |errors: Vec<toml::de::Error>| -> Vec<_> {
        errors.iter().map(|error| (error.message().to_owned(), error.span())).collect()
    };
    let (_, alone) = DeTable::parse_recoverable(part.text());
    let (root, together) = DeTable::parse_recoverable(more.text());
    let last = root.get_ref().get("route").and_then(|routes| routes.get_ref().as_array()?.last());
    last.is_some_and(|last| last.span() == (part.text().len()..more.text().len())) && said(alone) == said(together)
}

/// Reads parts on as many threads as there are cores, and takes what they hold in the order of the file, until `take`
/// wants no more.
fn in_order<R: Send>(
    parts: &[Part],
    read: impl Fn(&Part) -> R + Sync,
    mut take: impl FnMut(R) -> Option<()>,
) -> Option<()> {
    let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let read = &read;
    thread::scope(|scope| {
        let lane = |first| {
            let (sender, receiver) = sync_channel(AHEAD);
            let parts = parts.iter().skip(first).step_by(threads);
            // It ends early when nobody takes what it has read.
            let work = move || parts.map(read).try_for_each(|part| sender.send(part));
            thread::Builder::new().name("routes".to_owned()).spawn_scoped(scope, work).map(|_| receiver)
        };
        match (0..threads).map(lane).collect::<io::Result<Vec<Receiver<R>>>>() {
            Ok(lanes) => lanes.iter().cycle().take(parts.len()).try_for_each(|lane| take(lane.recv().ok()?)),
            Err(_no_thread) => parts.iter().map(read).try_for_each(take),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::dial::Trusts;

    /// Everything that comes of a text that is cut into parts of this size.
    fn read(text: &str, size: usize) -> (Vec<(Route, Range<usize>)>, usize, String) {
        read_with(Policies::new(None.into()), text, size)
    }

    fn read_with(mut policies: Policies<'_>, text: &str, size: usize) -> (Vec<(Route, Range<usize>)>, usize, String) {
        let source = Source::new(Path::new("r"), text.to_owned());
        let mut problems = Problems::default();
        let mut routes = Vec::new();
        let parts = Part::split(&source, size, HEADER);
        let disabled = read_parts(&parts, &source, &mut policies, &mut problems, &mut routes, |route, at| (route, at));
        (routes.concat(), disabled, problems.render(false))
    }

    /// Pieces of a file, among them those that make a line `[[route]]` no header, and those that two parts of a file
    /// must not both have.
    fn file() -> impl Strategy<Value = String> {
        let good = "[a-c]{1,3}".prop_map(|name| format!("[[route]]\nmatch = '{name}'\nhost = 'h:1'"));
        let piece = prop::sample::select(vec![
            "disabled = true",
            "tls = true",
            "tls.insecure_skip_verify = true",
            "[route.tls]\ninsecure_skip_verify = true",
            "[[route.tls]]",
            "[route]",
            "# é\r",
            "\u{feff}",
            "wieght = 1",
            "weight = '1'",
            "host = 'g:1'",
            "description = '''\n[[route]]\n'''",
            "description = \"\"\"\n[[route]]\nmatch = 'x'\"\"\"",
            "description = '''\n[[route]]",
            "'''",
            "host = [\n[[route]]\n]",
            "name = [\n[[route]]",
            "]",
            "[[route]]\nmatch = '('\nhost = 'h'",
            "[[ route ]]\nmatch = 'd'\nhost = 'h:1'",
            "  [[route]] # again",
            "[[\"route\"]]",
            "[[route]]",
            "[[route]",
            "route = []",
            "route = [{ match = 'e', host = 'h:1' }]",
            "route = [[\n[[route]]\n]]",
            "route.x = 1",
            "allow_empty = true",
            "allow_empty = 1",
            "[[allow_empty]]",
            "[[proxy_route]]\nmatch = 'a'",
            "[proxy_route]",
            "[x.y]",
            "[[x]]",
            "x",
            "x =",
            "x = y z",
            "name = 'a",
            "name = \"\\d",
            "name = {",
            "name = { a =",
            "name = \"\"\"",
            "= 3",
            "[[route]] x",
            "[[route]] = 3",
            "[",
            "match = 1979-13-45",
            "\"\\d\" = '\\d'",
        ]);
        let piece = prop_oneof![3 => good, 2 => piece.prop_map(str::to_owned)];
        (prop::collection::vec(piece, 0..10), prop::sample::select(vec!["\n", "\n\n", "\r\n"]))
            .prop_map(|(pieces, end)| pieces.join(end) + end)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn parts_say_what_the_whole_file_says(text in file(), size in 1..100usize) {
            prop_assert_eq!(read(&text, size), read(&text, usize::MAX >> 1));
        }
    }

    #[test]
    fn a_good_file_is_read_in_parts() {
        let text = "# head\nallow_empty = true\n[[route]]\nmatch = 'a'\nhost = 'h:1'\n[route.tls]\n".to_owned()
            + &"[[route]]\nmatch = 'b'\nhost = 'h'\n".repeat(3);
        let source = Source::new(Path::new("r"), text);
        let parts = Part::split(&source, 1, HEADER);
        let policies = Policies::new(None.into());
        let alone: Vec<_> = parts.iter().map(|part| read_part(part, &policies, |_, _| ()).stands_alone).collect();
        assert_eq!(alone, [true; 5]);
    }

    #[test]
    fn a_syntax_error_stays_in_its_part_unless_it_goes_over_lines() {
        let alone = |lines: &str| {
            let source = Source::new(Path::new("r"), format!("[[route]]\n{lines}\n[[route]]\n"));
            let parts = Part::split(&source, 1, HEADER);
            read_part(&parts[0], &Policies::new(None.into()), |_, _| ()).stands_alone
        };
        for inside in ["x =", "match = 'a", "match = \"\\d\"", "host = a", "host = 'a'\nhost = 'b'", "]"] {
            assert!(alone(inside), "{inside}");
        }
        for over in ["x", "x = [", "x = {", "x = '''", "x = \"\"\"", "[route]", "[[route"] {
            assert!(!alone(over), "{over}");
        }
    }

    #[test]
    fn files_of_tls_are_blamed_where_they_are_named_first() {
        let text = "[[route]]\nmatch = 'a'\nhost = 'h:1'\ntls = { cert = 'no.crt', key = 'no.key' }\n".repeat(9);
        let said = |size| read_with(Policies::new(Some(&mut Trusts::new(None)).into()), &text, size).2;
        assert!(said(1).starts_with("error: `no.crt` does not exist\n --> r:4:16\n"), "{}", said(1));
        assert!(said(1).ends_with("\n\n1 error\n"), "{}", said(1));
        assert_eq!(said(1), said(1000));
    }

    #[test]
    fn parts_are_taken_in_order_until_one_is_enough() {
        let source = Source::new(Path::new("r"), "[[route]]\n".repeat(1000));
        let parts = Part::split(&source, 1, HEADER);
        let mut lines = Vec::new();
        let mut until = |last| {
            in_order(
                &parts,
                |part| part.line_number(0),
                |line| {
                    lines.push(line);
                    (line < last).then_some(())
                },
            )
        };
        assert_eq!((until(5000), until(7)), (Some(()), None));
        assert!(lines.into_iter().eq((1..=1000).chain(1..=7)));
    }
}
