//! Writes docs/faults.md from what the kinds of fault say of themselves; it adds nothing that no kind said.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// The page, below the repository.
pub const PAGE: &str = "docs/faults.md";

const OPENING: &str = "# Faults

Written by `cargo xtask generate` from what each kind says of itself; `fracas faults explain KIND` says the same about the kinds that your
hosts have. Every kind is undone when its duration is over, when it is stopped, and when whoever ordered it is gone.
";

/// The page of a catalogue, which is what `fracas-agent catalogue` prints.
pub fn page(catalogue: &Value) -> Result<String> {
    let mut page = String::from(OPENING);
    for kind in catalogue.as_array().context("a catalogue is a list of kinds")? {
        section(&mut page, kind).context("write down a kind")?;
    }
    Ok(page)
}

fn section(page: &mut String, kind: &Value) -> Result<()> {
    let name = text(kind, "kind")?;
    writeln!(page, "\n## {name}\n\n{}.\n", capital(text(kind, "summary")?))?;
    let aliases: Vec<&str> = list(kind, "aliases").iter().filter_map(Value::as_str).collect();
    if !aliases.is_empty() {
        writeln!(page, "Also known as: {}.\n", aliases.join(", "))?;
    }
    writeln!(page, "| parameter | what it means | range |\n|---|---|---|")?;
    let parameters = kind["params"]["properties"].as_object().into_iter().flatten();
    for (name, schema) in parameters {
        let says = schema["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{name}` | {} | {} |", cell(says), cell(&range(schema)))?;
    }
    writeln!(page, "\n- Duration: {}.", text(kind, "duration")?)?;
    writeln!(page, "- Undone by {}.", text(kind, "undone_by")?)?;
    if let Some(why) = kind["reversal"]["why"].as_str() {
        writeln!(page, "- Cannot be undone wholly: {why}.")?;
    }
    writeln!(page, "- Measured: {}.\n\n```", text(kind, "measured_by")?)?;
    for example in list(kind, "examples") {
        let parameters = example["params"].as_object().context("parameters are an object")?;
        let span = if kind["duration"] == "none" { "" } else { " --for 30s" };
        writeln!(page, "# {}", text(example, "says")?)?;
        writeln!(page, "fracas attack {name}{} --on role=web{span}", words(parameters, kind))?;
    }
    Ok(writeln!(page, "```")?)
}

fn text<'a>(of: &'a Value, name: &str) -> Result<&'a str> {
    of[name].as_str().with_context(|| format!("{name} is a text"))
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// One line, with nothing that would end the cell.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// What a schema says beyond its words: bounds, and the values there are.
fn range(schema: &Value) -> String {
    if let (Some(least), Some(most)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        return format!("{least} to {most}");
    }
    let alternatives = [schema].into_iter().chain(list(schema, "oneOf")).chain(list(schema, "anyOf"));
    let values: Vec<String> = alternatives.flat_map(values).collect();
    values.join(", ")
}

fn values(schema: &Value) -> Vec<String> {
    let named = list(schema, "enum").iter().chain(schema.get("const")).filter_map(Value::as_str);
    named.map(|value| format!("`{value}`")).collect()
}

/// Parameters as they are typed, without those that say what the default says.
fn words(parameters: &Map<String, Value>, kind: &Value) -> String {
    let default = |name: &str| kind["params"]["properties"][name].get("default");
    let told = parameters.iter().filter(|(name, value)| default(name) != Some(*value));
    let word = |name: &str, value: &Value| match value.as_str() {
        Some(text) => format!(" {name}={text}"),
        // Display of a whole f64 leaves the fraction out.
        None => value
            .as_f64()
            .map_or_else(|| format!(" {name}={value}"), |number| format!(" {name}={number}")),
    };
    told.flat_map(|(name, value)| match value {
        Value::Array(items) => items.iter().map(|item| word(name, item)).collect(),
        one => vec![word(name, one)],
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_becomes_a_section() -> Result<()> {
        let catalogue = serde_json::json!([{
            "kind": "disk.fill", "summary": "fills a disk", "aliases": ["no space"], "duration": "required",
            "undone_by": "removing the file", "measured_by": "free space",
            "params": { "properties": {
                "percent": { "description": "How full.\nDefault 90.", "minimum": 1, "maximum": 99, "default": 90 },
                "how": { "description": "a|b", "enum": ["fast", "slow"] } } },
            "examples": [{ "says": "slowly", "params": { "percent": 90, "how": "slow", "paths": ["/a", "/b"] } }],
        }]);
        let page = page(&catalogue)?;
        for line in [
            "## disk.fill",
            "Fills a disk.",
            "| `percent` | How full. Default 90. | 1 to 99 |",
            "| `how` | a\\|b | `fast`, `slow` |",
            "fracas attack disk.fill how=slow paths=/a paths=/b --on role=web --for 30s",
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in {page}");
        }
        Ok(())
    }
}
