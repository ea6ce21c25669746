//! That no text whatever brings the loader down.

use std::path::Path;

use proptest::prelude::*;

use super::{Kind, check_text};

/// Lines that look like a file of ours, with what people and editors do to them.
fn toml_like() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "route",
        "match",
        "host",
        "port",
        "tls",
        "weight",
        "final",
        "disabled",
        "routes",
        "socket",
        "path",
        "mode",
        "forward",
        "listen",
        "node",
        "open",
        "limits",
        "relays",
        "idle_timeout",
        "resolver",
        "tls.ca",
        "x",
        "\"\\u001b\"",
    ]);
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        "'[^'\n]{0,12}'",
        "\"[ -~é]{0,12}\"",
        prop::sample::select(vec!["true", "[]", "['h:1', 'g']", "[1,", "{", "{ ca = 'x' }", "'unix:a'", "\"3s\"", ""])
            .prop_map(str::to_owned),
    ];
    let line = prop_oneof![
        4 => (key.clone(), value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => key.clone().prop_map(|key| format!("[[{key}]]")),
        1 => key.clone().prop_map(|key| format!("[{key}]")),
        1 => "\\PC{0,10}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

fn check_places(text: &str) -> Result<(), TestCaseError> {
    for kind in [Kind::Routes, Kind::Daemon] {
        let problems = check_text(kind, Path::new("x"), text);
        for problem in problems.iter() {
            let Some(place) = &problem.place else { continue };
            let (Some(span), Some(position)) = (place.span(), place.position()) else { continue };
            prop_assert!(text.get(span.clone()).is_some(), "{span:?} in {text:?}");
            let line = text.split('\n').nth(position.line as usize - 1);
            prop_assert!(
                line.is_some_and(|l| position.column as usize <= l.chars().count() + 1),
                "{position:?} {text:?}"
            );
        }
        let plain = problems.render(false);
        prop_assert!(!plain.contains(|c: char| c.is_control() && c != '\n'), "{plain:?}");
        problems.render(true);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_answered_and_every_place_is_in_it(text in "(?s).{0,80}") {
        check_places(&text)?;
    }

    #[test]
    fn anything_like_toml_is_answered_and_every_place_is_in_it(text in toml_like()) {
        check_places(&text)?;
    }
}
