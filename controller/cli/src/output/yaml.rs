//! Writes a JSON value as block YAML; strings that YAML would read as something else are quoted, always.

use proto_telling::terminal::is_unsafe;
use serde_json::Value;

/// One YAML document without markers, without a last newline.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out.trim_end().to_owned()
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("{indent}{}:", scalar_text(key)));
                child(value, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut nested = String::new();
                block(item, depth + 1, &mut nested);
                out.push_str(&format!("{indent}- {}\n", nested.trim()));
            }
        }
        other => out.push_str(&format!("{indent}{}\n", flow(other))),
    }
}

fn child(value: &Value, depth: usize, out: &mut String) {
    let nested = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        block(value, depth, out);
    } else {
        out.push_str(&format!(" {}\n", flow(value)));
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        other => other.to_string(),
    }
}

/// Plain when it cannot be mistaken; otherwise quoted as JSON, which YAML reads alike.
fn scalar_text(text: &str) -> String {
    let first_letter = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./@ ".contains(c));
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let word = words.contains(&text.to_ascii_lowercase().as_str());
    if first_letter && plain && !word && !text.ends_with(' ') {
        text.to_owned()
    } else {
        // What JSON leaves as it is and a terminal acts on is escaped as YAML does.
        let mut out = String::new();
        for c in Value::from(text).to_string().chars() {
            match is_unsafe(c) {
                true => out.push_str(&format!("\\U{:08x}", u32::from(c))),
                false => out.push(c),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back_by_a_parser() {
        let value = json!({
            "apiVersion": "fracas/v1", "kind": "RunList",
            "items": [
                {"id": "0123456789abcdef", "yes": "no", "n": null, "list": [1, [2, 3], []], "empty": {}, "text": "a: b # c\nd"},
                "plain", " led", "12:30", "c1 \u{9b}31m \u{85} and \u{202e}\u{e0041}\x7f", {"deep": {"er": [{"a": 1, "b": "~"}]}}
            ]
        });
        let text = document(&value);
        let read: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(read, value, "{text}");
        assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text:?}");
    }

    #[test]
    fn looks_as_people_write_it() {
        assert_eq!(
            document(&json!({"a": [{"b": 1, "c": "web"}], "d": "5"})),
            "a:\n  - b: 1\n    c: web\nd: \"5\""
        );
    }
}
