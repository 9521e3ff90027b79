//! Writes what the kinds of probe say of themselves into the schema and the manual of experiments; it adds nothing that no kind said.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use proto_probes::{AskedBy, Description};
use serde_json::{Map, Value, json};

/// The JSON Schema of experiment files, below the repository.
pub const SCHEMA: &str = "docs/experiment.schema.json";
/// The manual of experiments, below the repository.
pub const PAGE: &str = "docs/experiments.md";

const BEGIN: &str = "<!-- kinds of probe, written by `cargo xtask generate` -->\n";
const END: &str = "<!-- end of the kinds of probe -->\n";

/// Of the schema, what holds probes: the ways of asking in them are the kinds.
const HOLDERS: [&str; 2] = ["probe", "guard"];

/// Writes both anew, with the kinds that there are.
pub fn write(root: &Path) -> Result<()> {
    let kinds = proto_probes::descriptions();
    for (path, written) in [(SCHEMA, schema as fn(&str, &[Description]) -> Result<String>), (PAGE, page)] {
        let path = root.join(path);
        let committed = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        fs::write(&path, written(&committed, &kinds)?).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The schema with the kinds as they are now; everything else in it stays as it is.
pub fn schema(committed: &str, kinds: &[Description]) -> Result<String> {
    let mut schema: Value = serde_json::from_str(committed).context("read the schema of experiments")?;
    let parts = schema["$defs"].as_object_mut().context("the schema has $defs")?;
    let before = published_kinds(&parts[HOLDERS[0]]);
    parts.retain(|name, _| !before.contains(name));
    for holder in HOLDERS {
        let object = parts[holder].as_object_mut().with_context(|| format!("{holder} is an object"))?;
        let properties = object["properties"]
            .as_object_mut()
            .with_context(|| format!("{holder} has properties"))?;
        properties.retain(|name, _| !before.contains(name));
        properties.extend(kinds.iter().map(|kind| (kind.kind.to_owned(), use_of(kind))));
        let ways = kinds.iter().map(|kind| json!({ "required": [kind.kind] }));
        object.insert("oneOf".to_owned(), ways.collect());
    }
    for kind in kinds {
        ensure!(
            !parts.contains_key(kind.kind),
            "{} is the name of another part of the schema",
            kind.kind
        );
        parts.insert(kind.kind.to_owned(), published(&kind.params)?);
    }
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema)?))
}

fn published_kinds(holder: &Value) -> Vec<String> {
    let ways = holder["oneOf"].as_array().into_iter().flatten();
    ways.filter_map(|way| way["required"][0].as_str().map(str::to_owned)).collect()
}

fn use_of(kind: &Description) -> Value {
    let whole = format!("#/$defs/{}", kind.kind);
    let says = capital(&format!("good when {}.", kind.summary));
    if kind.takes_text() {
        return json!({ "anyOf": [{ "type": "string" }, { "$ref": whole }], "description": says });
    }
    json!({ "$ref": whole, "description": says })
}

/// A kind's own schema as a file may be written: with units as texts, and a variable in place of a number.
fn published(params: &Value) -> Result<Value> {
    let properties = params["properties"].as_object().context("a kind has parameters")?;
    let properties: Map<String, Value> = properties.iter().map(|(name, of)| (name.clone(), property(of))).collect();
    let required = params.get("required").cloned().unwrap_or_else(|| json!([]));
    Ok(json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required }))
}

fn property(of: &Value) -> Value {
    let mut plain = of.as_object().cloned().unwrap_or_default();
    let description = plain.remove("description");
    let format = plain.remove("format");
    plain.remove("default");
    if let Some(Value::Array(types)) = plain.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            plain.insert("type".to_owned(), only);
        }
    }
    let number = matches!(plain.get("type").and_then(Value::as_str), Some("integer" | "number"));
    let mut written = if format.as_ref().and_then(Value::as_str) == Some("fracas-duration") {
        Map::from_iter([("$ref".to_owned(), json!("#/$defs/duration"))])
    } else if number {
        Map::from_iter([("anyOf".to_owned(), json!([plain, { "$ref": "#/$defs/variable_use" }]))])
    } else {
        if let Some(pattern) = plain.get("pattern").and_then(Value::as_str) {
            let or_variable = format!("{pattern}|\\$\\{{");
            plain.insert("pattern".to_owned(), or_variable.into());
        }
        plain
    };
    written.extend(description.map(|says| ("description".to_owned(), says)));
    Value::Object(written)
}

/// The manual with the kinds as they are now, between its two marks.
pub fn page(committed: &str, kinds: &[Description]) -> Result<String> {
    let (before, rest) = committed.split_once(BEGIN).with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no {END}"))?;
    let mut page = format!("{before}{BEGIN}");
    for kind in kinds {
        section(&mut page, kind)?;
    }
    Ok(format!("{page}{END}{after}"))
}

fn section(page: &mut String, kind: &Description) -> Result<()> {
    writeln!(page, "\n### {}\n", kind.kind)?;
    writeln!(page, "{}.", capital(&format!("good when {}", kind.summary)))?;
    if kind.asked_by == AskedBy::Hosts {
        writeln!(page, "Hosts ask it, never the controller: `from` is needed.")?;
    }
    if kind.takes_text() {
        writeln!(page, "A text alone, `{}: TEXT`, is its `{}`.", kind.kind, kind.shorthand)?;
    }
    writeln!(page, "\n| parameter | what it means | range |\n|---|---|---|")?;
    let properties = kind.params["properties"].as_object().into_iter().flatten();
    for (name, schema) in properties {
        let says = schema["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{name}` | {} | {} |", cell(says), range(schema))?;
    }
    writeln!(page, "\n```yaml")?;
    for (says, params) in &kind.examples {
        writeln!(page, "# {says}\n{}: {}", kind.kind, flow(params))?;
    }
    Ok(writeln!(page, "```\n")?)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().chain(letters).collect());
    first.unwrap_or_default()
}

/// One line, with nothing that would end the cell.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn range(schema: &Value) -> String {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => String::new(),
    }
}

/// A mapping on one line of YAML. Texts are quoted as in JSON, which YAML is.
fn flow(params: &Map<String, Value>) -> String {
    let fields: Vec<String> = params.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &'static str) -> Description {
        Description {
            kind: name,
            summary: "it answers",
            shorthand: "name",
            asked_by: AskedBy::Hosts,
            params: json!({ "required": ["name"], "properties": {
                "name": { "type": "string", "description": "a|b" },
                "count": { "type": ["integer", "null"], "minimum": 1, "maximum": 9, "description": "How many." },
                "within": { "type": "string", "format": "fracas-duration", "description": "The slowest." } } }),
            examples: vec![("it is there", Map::from_iter([("name".to_owned(), json!("x"))]))],
        }
    }

    #[test]
    fn a_kind_replaces_those_that_are_gone() -> Result<()> {
        let holder = json!({ "properties": { "every": {}, "old": {} }, "oneOf": [{ "required": ["old"] }] });
        let committed = json!({ "$defs": { "probe": holder, "guard": holder, "old": {}, "duration": {} } }).to_string();
        let schema: Value = serde_json::from_str(&schema(&committed, &[kind("new")])?)?;
        let parts = &schema["$defs"];
        assert_eq!((parts.get("old"), parts["probe"]["properties"].get("old")), (None, None));
        assert!(parts["guard"]["properties"].get("every").is_some() && parts.get("duration").is_some());
        assert_eq!(parts["guard"]["oneOf"], json!([{ "required": ["new"] }]));
        assert_eq!(parts["new"]["properties"]["within"]["$ref"], "#/$defs/duration");
        assert_eq!(parts["new"]["properties"]["count"]["anyOf"][0]["type"], "integer");
        assert_eq!(parts["probe"]["properties"]["new"]["anyOf"][0]["type"], "string");
        Ok(())
    }

    #[test]
    fn a_kind_becomes_a_section_between_the_marks() -> Result<()> {
        let page = page(&format!("# A\n{BEGIN}old\n{END}after\n"), &[kind("new")])?;
        for line in [
            "# A",
            "### new",
            "Good when it answers.",
            "| `name` | a\\|b |  |",
            "| `count` | How many. | 1 to 9 |",
            "new: { name: \"x\" }",
            "after",
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in {page}");
        }
        assert!(!page.contains("old"), "{page}");
        Ok(())
    }
}
