//! What patterns say of names; that Go says the same is tested in `tests/pattern.rs`.

use proptest::prelude::*;
use regex_automata::nfa::thompson::{self, State, WhichCaptures};

use super::*;

fn matches(pattern: &str, node: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(&NodeName::parse(node).unwrap())
}

fn refused(pattern: &str) -> (String, &str) {
    let error = Pattern::parse(pattern).unwrap_err();
    (error.to_string(), pattern.get(error.place()).unwrap())
}

/// The needles of each set, with `^` and `$` where they are at an end of the name.
fn sets(pattern: &str) -> Vec<Vec<String>> {
    let written = |needle: &Needle| match needle.anchor {
        Anchor::Whole => format!("^{}$", needle.text),
        Anchor::Start => format!("^{}", needle.text),
        Anchor::End => format!("{}$", needle.text),
        Anchor::Anywhere => needle.text.to_string(),
    };
    let sets = Pattern::parse(pattern).unwrap().requirements();
    sets.iter().map(|set| set.iter().map(written).collect()).collect()
}

#[test]
fn a_pattern_is_searched_anywhere() {
    assert!(matches("db", "prod-db@host"));
    assert!(matches("^prod-", "prod-db@host"));
    assert!(!matches("^db", "prod-db@host"));
    assert!(matches(r"@partner\.example$", "x@partner.example"));
    assert!(!matches(r"@partner\.example$", "x@partnerXexample"));
    assert!(matches("^prod-[a-z]+@", "prod-db@host"));
    assert!(!matches("^prod-[a-z]+@", "prod-7@host"));
}

#[test]
fn a_refused_pattern_says_what_go_says_and_where() {
    let table = [
        ("a(b", "missing closing ): `a(b`", "("),
        ("(a)(b(c)", "missing closing ): `(a)(b(c)`", "("),
        ("ab)c", "unexpected ): `ab)c`", ")"),
        ("a[b-", "missing closing ]: `[b-`", "[b-"),
        ("x[b-a]", "invalid character class range: `b-a`", "b-a"),
        (r"x\p{Greeks}y", r"invalid character class range: `\p{Greeks}`", r"\p{Greeks}"),
        ("[[:nope:]]", "invalid character class range: `[:nope:]`", "[:nope:]"),
        ("a**", "invalid nested repetition operator: `**`", "**"),
        ("*a", "missing argument to repetition operator: `*`", "*"),
        ("a{1001}b", "invalid repeat count: `{1001}`", "{1001}"),
        ("(?:a{100}){11}", "invalid repeat count: `{11}`", "{11}"),
        (r"a\qb", r"invalid escape sequence: `\q`", r"\q"),
        (r"a\", "trailing backslash at end of expression: ``", r"\"),
        ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`", "(?="),
        ("(?P<n-1>a)", "invalid named capture: `(?P<n-1>`", "(?P<n-1>"),
        (
            r"\pL{1000}",
            r"too_large: the compiled pattern would have more than 100,000 states and transitions: `\pL{1000}`",
            r"\pL{1000}",
        ),
    ];
    for (pattern, message, place) in table {
        assert_eq!(refused(pattern), (message.to_owned(), place), "{pattern}");
    }
    assert_eq!(Pattern::parse(r"\pL{1000}").unwrap_err().code(), "too_large");
    assert_eq!(Pattern::parse("(").unwrap_err().code(), "bad_pattern");
    for (pattern, help) in
        [("a(b", "written with a backslash"), ("a(?=b)", "no look-around"), (r"\pL{1000}", "shorter")]
    {
        assert!(Pattern::parse(pattern).unwrap_err().help().contains(help), "{pattern}");
    }
}

#[test]
fn needles_of_patterns() {
    let table: &[(&str, &[&[&str]], bool)] = &[
        ("^prod-db@10\\.0\\.1\\.50$", &[&["^prod-db@10.0.1.50$"]], true),
        ("^prod-", &[&["^prod-"]], true),
        ("^prod-.*$", &[&["^prod-"]], true),
        (r"@partner\.example$", &[&["@partner.example$"]], true),
        ("backend", &[&["backend"]], true),
        ("^(?:a1|b2)@x$", &[&["^a1@x$", "^b2@x$"]], true),
        ("^(prod|test)-db", &[&["^prod-db", "^test-db"]], true),
        ("^db[12]@", &[&["^db1@", "^db2@"]], true),
        ("(?i)^ab", &[&["^AB", "^Ab", "^aB", "^ab"]], true),
        ("^a$|b", &[&["^a$", "b"]], true),
        ("abc|xabcx", &[&["abc"]], true),
        ("^prod-.*@host$", &[&["^prod-"], &["@host$"]], false),
        (r"backend-.*@internal\.local", &[&["backend-"], &["@internal.local"]], false),
        ("^prod-db@10.0", &[&["^prod-db@10"], &["0"]], false),
        (r"^db\d{2}@x", &[&["^db"], &["@x"]], false),
        ("(?:ab)+c", &[&["ab"], &["abc"]], false),
        ("^(foo.*|bar.*)@x$", &[&["^foo", "^bar"], &["@x$"]], false),
        (r"\bdb\b", &[&["db"]], false),
        ("(?:a|)b", &[&["b"]], true),
        ("", &[], false),
        ("^$", &[], false),
        ("[a-z]+", &[], false),
        ("a*", &[], false),
    ];
    for (pattern, expected, decided) in table {
        assert_eq!(sets(pattern), *expected, "{pattern}");
        assert_eq!(Pattern::parse(pattern).unwrap().is_decided_by_needles(), *decided, "{pattern}");
    }
}

/// What `docs/patterns.md` says of the bound.
#[test]
fn sizes_of_pieces() {
    let size = |text| lower::size(&lower::lower(&parse::parse(text).unwrap()));
    assert_eq!(size("a"), 2);
    assert!((50..65).contains(&size(".")), "{}", size("."));
    assert!((2_000..3_000).contains(&size(r"\pL")), "{}", size(r"\pL"));
    assert!(Pattern::parse(".{1,1000}").is_ok() && Pattern::parse(r"\pL{1,60}").is_err());
}

#[test]
fn a_pattern_is_small() {
    assert!(size_of::<Pattern>() <= 48, "{}", size_of::<Pattern>());
}

#[test]
fn a_pattern_that_is_compiled_now_says_the_same() {
    let pattern = Pattern::parse("^[a-z]+@").unwrap();
    let matches = |name: &str| pattern.matches(&NodeName::parse(name).unwrap());
    assert!(matches("db@x") && !matches("7@x"));
    pattern.compile_now();
    assert!(matches("db@x") && !matches("7@x"));
}

/// Texts of Go's syntax, most of them patterns.
fn patterns() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-d]{1,3}|é|@|k",
        1 => r"\.|\.\*|\.\+|\^|\$|\\b|\\B|\(\?i\)|\\pL|\\w|\\PN",
        1 => r"\[\^?[a-c](-[c-f])?é?\]",
    ];
    piece.prop_recursive(4, 40, 5, |inner| {
        let inner = prop::collection::vec(inner, 1..5);
        prop_oneof![
            inner.clone().prop_map(|pieces| pieces.concat()),
            inner.clone().prop_map(|pieces| format!("(?:{})", pieces.join("|"))),
            (inner, r"\*|\+|\?|\{[0-3]\}|\{[0-2],[2-9]?\}|\{1?[0-9]{2}\}")
                .prop_map(|(pieces, times)| format!("(?:{}){times}", pieces.concat())),
        ]
    })
}

/// The states and transitions of a program.
fn counted(hir: &Hir) -> u64 {
    let config = thompson::Config::new().which_captures(WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(hir).unwrap();
    let transitions = |state: &State| match state {
        State::Sparse(sparse) => sparse.transitions.len(),
        State::Dense(_) => 256,
        State::Union { alternates } => alternates.len(),
        State::BinaryUnion { .. } => 2,
        _ => 1,
    };
    nfa.states().iter().map(|state| 1 + transitions(state) as u64).sum()
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_has_a_place(text in ".{0,40}") {
        if let Err(error) = Pattern::parse(&text) {
            prop_assert!(text.get(error.place()).is_some());
        }
    }

    #[test]
    fn what_is_within_the_bound_compiles(text in patterns()) {
        let Ok(tree) = parse::parse(&text) else { return Ok(()) };
        let hir = lower::lower(&tree);
        let bound = lower::size(&hir);
        if bound <= compiled::MOST {
            // The search from anywhere takes a few states more, and so does the end.
            prop_assert!(counted(&hir) <= bound + 12, "{} states, bound {bound}", counted(&hir));
            prop_assert!(Compiled::for_now(&hir).is_some() && Compiled::for_long(&hir).is_some());
        }
    }

    #[test]
    fn needles_and_quick_answers_are_sound(text in patterns(), names in prop::collection::vec("[a-dk@éK.]{1,12}", 1..20)) {
        let Ok(pattern) = Pattern::parse(&text) else { return Ok(()) };
        let Some(compiled) = Compiled::for_long(&pattern.hir()) else { return Err(TestCaseError::fail("does not compile")) };
        let requirements = pattern.requirements();
        prop_assert!(requirements.iter().all(|set| !set.is_empty() && set.iter().all(|needle| !needle.text.is_empty())));
        for name in names {
            let matches = compiled.is_match(&name);
            let has_needles = requirements.iter().all(|set| set.iter().any(|needle| needle.is_in(&name)));
            prop_assert!(!matches || has_needles && pattern.may_match(&name), "{requirements:?} on {name}");
            prop_assert!(!pattern.is_decided_by_needles() || has_needles == matches, "{requirements:?} on {name}");
            prop_assert_eq!(pattern.matches(&NodeName::parse(&name).unwrap()), matches);
        }
    }
}
