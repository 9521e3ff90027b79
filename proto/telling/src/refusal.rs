//! Reports of a run that never was, or whose end nobody saw, so that a pipeline finds the reason where it looks, and no older report in its place.

use proto_model::document::{ErrorBody, ErrorDocument};
use quick_xml::escape::escape;

use crate::markup::markdown_text;

/// The refusal as Markdown.
pub fn markdown(name: &str, error: &ErrorBody) -> String {
    let told: Vec<String> = words(error).iter().map(|words| format!("- {}", markdown_text(words))).collect();
    format!(
        "# {}: no result\n\n**{}**\n\n{}\n",
        markdown_text(name),
        markdown_text(&error.code),
        told.join("\n")
    )
}

/// The refusal as a page that asks for nothing from elsewhere.
pub fn html(name: &str, error: &ErrorBody) -> String {
    let told: String = words(error).iter().map(|words| format!("<li>{}</li>\n", escape(words))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">\n\
         <title>{name}: no result</title></head>\n<body><h1>{name}: no result</h1>\n<p><strong>{}</strong></p>\n<ul>\n{told}</ul>\n</body></html>\n",
        escape(&error.code),
        name = escape(name),
    )
}

/// The refusal as the published error document.
pub fn json(error: &ErrorBody) -> String {
    let document = ErrorDocument { error: error.clone() };
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn words(error: &ErrorBody) -> Vec<String> {
    let mut told = vec![error.message.clone()];
    told.extend(error.problems.iter().map(ToString::to_string));
    told.extend(
        error
            .hosts
            .iter()
            .map(|host| format!("{}: {}: {}", host.name, host.code, host.message)),
    );
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_sent_becomes_markup() {
        let error = ErrorBody::new("refused", "<script>alert(1)</script>");
        for text in [html("<b>", &error), markdown("<b>", &error)] {
            assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
            assert!(text.contains("refused") && text.contains("no result"), "{text}");
        }
        assert!(json(&error).contains("\"code\": \"refused\""));
    }
}
