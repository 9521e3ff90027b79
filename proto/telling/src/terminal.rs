//! Text from elsewhere made safe to show on a terminal: no control, no escape sequence and no change of writing direction gets through.

use std::fmt::Write;

/// Whether a terminal or an editor acts on the character instead of showing it: C0 and C1 controls, direction controls, line and paragraph
/// separators, annotations and tags.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line: what is unsafe becomes visible, line ends too.
pub fn visible(text: &str) -> String {
    escaped(text, |c, out| out.extend(c.escape_default()), |_| false)
}

/// A document of several lines: line ends and tabs stay, the rest is written as JSON writes it, so that JSON means the same as before. A line
/// end of two characters, as PEM and files from elsewhere have it, becomes one.
pub fn document(text: &str) -> String {
    let as_json = |c: char, out: &mut String| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing into a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escaped(&text.replace("\r\n", "\n"), as_json, |c| c == '\n' || c == '\t')
}

fn escaped(text: &str, escape: impl Fn(char, &mut String), stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !stays(c) {
            escape(c, &mut out);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nasty() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            '\x1b',
            '\u{9b}',
            '\u{85}',
            '\u{202e}',
            '\u{2066}',
            '\u{e0041}',
            '\x07',
            '\x7f',
            '\n',
            'm',
            '[',
        ]);
        prop::collection::vec(prop_oneof![any::<char>(), odd], 0..40).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn nothing_unsafe_gets_through(text in nasty()) {
            prop_assert!(!visible(&text).chars().any(is_unsafe));
            prop_assert!(!document(&text).chars().any(|c| is_unsafe(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn json_means_the_same(text in nasty()) {
            let value = serde_json::json!({ text.clone(): [text] });
            let shown = document(&format!("{value:#}"));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["grün: 20 % – ok", "日本語 עברית ‍👩‍💻", "a\tb"] {
            assert_eq!(document(text), text);
        }
        assert_eq!(visible("a\x1b]0;owned\x07\u{9b}31m"), "a\\u{1b}]0;owned\\u{7}\\u{9b}31m");
        assert_eq!(document("\u{85}\u{e0041}"), "\\u0085\\udb40\\udc41");
        assert_eq!(document("a\r\nb\r"), "a\nb\\u000d");
    }

    #[test]
    fn direction_controls_and_escapes_are_shown_by_their_numbers() {
        for c in [
            '\x1b',
            '\u{9b}',
            '\u{200f}',
            '\u{202e}',
            '\u{2028}',
            '\u{2066}',
            '\u{feff}',
            '\u{e007f}',
        ] {
            assert_eq!(visible(&format!("a{c}b")), format!("a\\u{{{:x}}}b", c as u32));
        }
    }
}
