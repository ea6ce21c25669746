//! Patterns: Go's own `regexp` and ours say the same of every pattern and text.

use std::env;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use portolan::node::NodeName;
use portolan::route::Pattern;
use serde_json::{Value, json};

use crate::support::corpus::{Corpus, Dice};

/// How many patterns are drawn, with six texts each; `PORTOLAN_PATTERNS` says otherwise.
const PATTERNS: usize = 12_000;

struct Question {
    pattern: String,
    texts: Vec<String>,
}

/// The program that answers for Go, or nothing where Go is missing or older than the reference.
fn go(argument: &str) -> Option<Command> {
    let version =
        Command::new("go").arg("version").output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let minor = version.ok().and_then(|version| {
        let (_, after) = version.split_once("go1.")?;
        after.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    });
    if minor.is_none_or(|minor| minor < 26) {
        eprintln!("skipped: needs Go 1.26");
        return None;
    }
    let mut go = Command::new("go");
    go.arg("run").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/go/main.go")).arg(argument);
    go.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    Some(go)
}

/// What `\p{...}` may hold in Go, and much that it may not.
fn names() -> Option<Vec<String>> {
    let output = go("names")?.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<String> = output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(names.len() > 200, "only {} names", names.len());
    Some(names)
}

/// Asks Go, in order, and hands each answer on.
fn ask(questions: &[Question], mut answered: impl FnMut(&Question, Value)) {
    let Some(mut go) = go("answer") else { return };
    let mut child = go.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = BufWriter::new(child.stdin.take().unwrap());
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut count = 0;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for Question { pattern, texts } in questions {
                writeln!(stdin, "{}", json!({ "pattern": pattern, "texts": texts })).unwrap();
            }
        });
        for (question, line) in questions.iter().zip(stdout.lines()) {
            answered(question, serde_json::from_str(&line.unwrap()).unwrap());
            count += 1;
        }
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(count, questions.len());
}

/// What we say that Go does not; `too_large` is ours to say.
fn difference(Question { pattern, texts }: &Question, go: &Value) -> Option<String> {
    let refused = go["error"].as_str();
    let ours = match Pattern::parse(pattern) {
        Err(error) if error.code() == "too_large" => return None,
        Err(error) => {
            let place = error.place();
            assert!(pattern.get(place.clone()).is_some(), "{pattern:?}: {place:?} is no place");
            let error = error.to_string();
            return (refused != Some(&error))
                .then(|| format!("{pattern:?}: refused with {error}, by Go with {refused:?}"));
        }
        Ok(pattern) => pattern,
    };
    if let Some(error) = refused {
        return Some(format!("{pattern:?}: Go refuses it with {error}"));
    }
    let requirements = ours.requirements();
    let pinned = Pattern::parse(pattern).unwrap();
    pinned.compile_now();
    for (text, matches) in texts.iter().zip(go["matches"].as_array().unwrap()) {
        let matches = matches.as_bool().unwrap();
        if ours.matches_text(text) != matches {
            return Some(format!("{pattern:?} on {text:?}: {matches} for Go"));
        }
        let Ok(name) = NodeName::parse(text) else { continue };
        let has_needles = requirements.iter().all(|set| set.iter().any(|needle| needle.is_in(text)));
        if pinned.matches(&name) != matches {
            return Some(format!("{pattern:?} on {text:?}, compiled for long: {matches} for Go"));
        }
        if ours.matches(&name) != matches || matches && !(has_needles && ours.may_match(text)) {
            return Some(format!(
                "{pattern:?} on the name {text:?}: {matches} for Go; its needles are {requirements:?}"
            ));
        }
        if ours.is_decided_by_needles() && has_needles != matches {
            return Some(format!("{pattern:?} on {text:?}: {matches}, and not by {requirements:?}"));
        }
    }
    None
}

/// Fails with the first differences, if there are any.
fn compare(questions: &[Question]) {
    let mut differences = Vec::new();
    ask(questions, |question, go| differences.extend(difference(question, &go)));
    let shown = differences.len().min(20);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences[..shown].join("\n"));
}

#[test]
fn go_says_the_same() {
    let Some(names) = names() else { return };
    let seed = env::var("PORTOLAN_SEED").ok().map_or_else(
        || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % (1 << 40)).unwrap(),
        |seed| seed.parse().unwrap(),
    );
    eprintln!("PORTOLAN_SEED={seed}");
    let count = env::var("PORTOLAN_PATTERNS").map_or(PATTERNS, |count| count.parse().unwrap());
    let mut corpus = Corpus { dice: Dice::new(seed), names: &names };
    let questions: Vec<_> = (0..count)
        .map(|_| {
            let drawn = corpus.pattern();
            Question { texts: corpus.texts(&drawn.sample), pattern: drawn.pattern }
        })
        .collect();
    compare(&questions);
}

#[test]
fn go_has_the_same_limits() {
    let question = |pattern| Question { pattern, texts: vec![String::new(), "a".repeat(100), "x".repeat(5000)] };
    compare(&limits().into_iter().map(question).collect::<Vec<_>>());
}

#[test]
fn go_has_the_same_classes() {
    let Some(names) = names() else { return };
    // Every 61st character; those that Go's Unicode has not assigned yet are left out, for ours may have.
    let chars: Vec<String> = ('\0'..=char::MAX).step_by(61).map(String::from).collect();
    let mut assigned = Vec::new();
    ask(&[Question { pattern: r"\p{Assigned}".to_owned(), texts: chars.clone() }], |_, go| {
        let is_assigned = go["matches"].as_array().unwrap().iter().map(|is| is.as_bool().unwrap());
        assigned = chars.iter().zip(is_assigned).filter(|(_, is)| *is).map(|(c, _)| c.clone()).collect();
    });
    assert!(assigned.len() > 1000);
    let patterns = names.iter().flat_map(|name| [format!(r"\p{{{name}}}"), format!(r"(?i)\P{{{name}}}")]);
    let perl = [r"\d", r"\s", r"\w", r"(?i)\W", r"(?i)[[:alpha:]]", r"(?i)[^[:punct:]]"].map(String::from);
    let patterns: Vec<_> = patterns.chain(perl).map(|pattern| Question { pattern, texts: assigned.clone() }).collect();
    compare(&patterns);
}

/// What stands at the limits: depth, counts and size.
fn limits() -> Vec<String> {
    let nested = |opening: &str, count: usize, closing: &str| opening.repeat(count) + "a" + &closing.repeat(count);
    let mut patterns = Vec::new();
    for count in [249, 333, 499, 500, 501, 997, 998, 999, 1000, 1001, 1100] {
        patterns.extend(
            [("(", ")"), ("(?:", ")*"), ("(?:a", ")?"), ("(?i:", ")"), ("(?:b|", ")"), ("(?:ab|ac", ")+")]
                .map(|(o, c)| nested(o, count, c)),
        );
    }
    for (outer, inner) in
        [(10, 100), (10, 101), (2, 500), (2, 501), (1, 1000), (0, 1000), (1000, 0), (1000, 1), (31, 32), (32, 32)]
    {
        patterns.push(format!("(?:a{{{inner}}}){{{outer}}}"));
        patterns.push(format!("(?:a{{{inner},}}){{{outer},}}"));
        patterns.push(format!("(?:(?:a{{0,{inner}}})*){{0,{outer}}}"));
    }
    for count in [1, 2, 9, 10] {
        patterns.push("(?:".repeat(count) + "a" + &"{2})".repeat(count));
        patterns.push(format!("((?:ab|c){{{count}}}){{100}}"));
    }
    patterns.push("x".repeat(5000));
    patterns.push(r"\pL{1000}".to_owned());
    patterns.push(r"(?:\pL{10}){100}".to_owned());
    patterns.push(format!("({}){{1000}}", "(xx?)".repeat(1000)));
    patterns.push("(xx?){1000}".repeat(1000));
    patterns.push("(".repeat(1000) + ")");
    patterns
}
