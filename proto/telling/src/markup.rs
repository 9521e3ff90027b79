//! Text from elsewhere inside Markdown: it is shown as it was written, and none of it becomes markup, a link or a cell.

use crate::terminal::visible;

/// One line of text for a table's cell, a heading or the beginning of a paragraph.
pub fn markdown_text(text: &str) -> String {
    let line = visible(&text.replace(['\n', '\r', '\t'], " "));
    let line = line.trim();
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let begins = out.is_empty();
        let after_digits = !out.is_empty() && out.bytes().all(|b| b.is_ascii_digit());
        let link = rest.starts_with("://")
            || (c == '.' && ends_with_www(&out))
            || (c == ':' && rest[1..].starts_with(|c: char| !c.is_whitespace()));
        let markup = match c {
            '-' | '+' | '=' => begins,
            '.' | ')' if after_digits => true,
            // Inside a word it is only a letter.
            '_' => !(out.ends_with(|c: char| c.is_ascii_alphanumeric()) && rest[1..].starts_with(|c: char| c.is_ascii_alphanumeric())),
            _ => "\\`*[]{}>#!|~&@$".contains(c),
        };
        if markup || link {
            out.push('\\');
        }
        match c {
            // Readers that take HTML for more than it is must not see a tag either.
            '<' => out.push_str("&lt;"),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn ends_with_www(text: &str) -> bool {
    text.len() >= 3 && text.is_char_boundary(text.len() - 3) && text[text.len() - 3..].eq_ignore_ascii_case("www")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser};

    use super::*;

    /// What a reader sees of it in this frame, or what became markup.
    fn read(frame: &str, text: &str) -> Result<String, String> {
        let document = frame.replace("TEXT", &markdown_text(text));
        let mut seen = String::new();
        let mut depth = Vec::new();
        for event in Parser::new_ext(&document, extensions()) {
            match event {
                Event::Text(text) => seen.push_str(&text),
                Event::Start(tag) => depth.push(format!("{tag:?}")),
                Event::End(_) => {}
                Event::SoftBreak | Event::HardBreak => seen.push(' '),
                other => return Err(format!("{other:?} in {document:?}")),
            }
        }
        let allowed = ["Table", "TableHead", "TableRow", "TableCell", "Paragraph", "BlockQuote", "Heading"];
        match depth.iter().find(|tag| !allowed.iter().any(|allowed| tag.starts_with(allowed))) {
            Some(tag) => Err(format!("{tag} in {document:?}")),
            None => Ok(seen),
        }
    }

    /// What reports are read with: the extensions that give characters a meaning.
    fn extensions() -> Options {
        Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_MATH
            | Options::ENABLE_GFM
            | Options::ENABLE_HEADING_ATTRIBUTES
    }

    fn nasty() -> impl Strategy<Value = String> {
        let odd = prop::sample::select("\\`*_{}[]()<>#!|~&@:;/+-=.$^'\"1 wax\u{202e}\u{9b}".chars().collect::<Vec<_>>());
        prop::collection::vec(prop_oneof![any::<char>(), odd.clone(), odd], 1..24).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn text_stays_text_wherever_it_stands(text in nasty()) {
            let wanted: String = visible(&text.replace(['\n', '\r', '\t'], " ")).split_whitespace().collect();
            for frame in ["| TEXT |\n|---|\n| x |\n", "> TEXT\n", "# a: TEXT\n", "TEXT\n"] {
                let seen = read(frame, &text).map_err(TestCaseError::fail)?;
                let seen: String = seen.split_whitespace().collect();
                let seen = seen.strip_prefix("a:").unwrap_or(&seen).strip_suffix('x').unwrap_or(&seen).to_owned();
                prop_assert!(seen.contains(&wanted) || wanted.contains(&seen), "{seen:?} {wanted:?}");
            }
        }
    }

    #[test]
    fn what_hosts_would_like_to_be_markup_is_none() {
        for text in [
            "[a](https://evil)",
            "<b>x</b>",
            "`code`",
            "a|b",
            "**bold**",
            "- item",
            "1. item",
            "&lt;",
            "![i](x)",
            "~~~",
            "www.evil.example",
            "a@b.c",
        ] {
            assert_eq!(read("> TEXT\n", text).as_deref(), Ok(text));
        }
        assert_eq!(markdown_text("cpu.burn on web-1 at 12:30"), "cpu.burn on web-1 at 12\\:30");
    }
}
