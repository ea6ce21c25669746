//! Text of others in a header: the strings of Structured Fields (RFC 9651).

/// The longest text that goes into a header, in bytes; what is longer is cut and ends with `...`.
const MAX_TEXT: usize = 1024;

/// A String (section 3.3.3) if the text is printable ASCII, otherwise a Display String (section 3.3.8): neither can end
/// the header line that it stands in.
pub(super) fn string(text: &str) -> String {
    let text = clipped(text, MAX_TEXT);
    if text.bytes().all(is_printable) { quoted(&text) } else { display(&text) }
}

/// At most `max` bytes of the text and `...`; the whole text if it is not longer.
pub(super) fn clipped(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}...", text.get(..text.floor_char_boundary(max)).unwrap_or_default())
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

fn display(text: &str) -> String {
    let mut out = String::from("%\"");
    for byte in text.bytes() {
        if is_printable(byte) && byte != b'%' && byte != b'"' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn printable_ascii_is_a_string_and_the_rest_a_display_string() {
        assert_eq!(string(r#"^prod-db@.*\.x"y"#), r#""^prod-db@.*\\.x\"y""#);
        assert_eq!(string(""), r#""""#);
        assert_eq!(string("100% м\r\n\"\\"), r#"%"100%25 %d0%bc%0d%0a%22\""#);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(string(&"x".repeat(1025)), format!("\"{}...\"", "x".repeat(1024)));
        assert_eq!(clipped("яя", 3), "я...");
    }

    proptest! {
        #[test]
        fn nothing_ends_the_line_or_the_string(text in any::<String>()) {
            let field = string(&text);
            prop_assert!(field.bytes().all(is_printable));
            let inner = field.trim_start_matches('%').strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            if field.starts_with('%') {
                prop_assert!(!inner.contains('"'));
            } else {
                let bare = inner.replace(r"\\", "").replace("\\\"", "");
                prop_assert!(!bare.contains(['"', '\\']), "{}", field);
            }
        }
    }
}
