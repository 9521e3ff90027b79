//! `fracas faults explain`: one fault in its own words: parameters, examples, how it is measured and undone.

use clap::Args;
use proto_model::catalogue::{DurationRule, nearest};
use proto_model::exit;
use proto_model::injection::Reversal;
use proto_telling::pairs;
use serde_json::Value;

use super::fault::{Fault, catalogue};
use crate::client::Client;
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::output::table;

const EXAMPLES: &str = "\
Examples:
  fracas faults explain cpu.burn
  fracas faults explain blackhole
  fracas faults explain network.partition -o json";

/// Explain one fault
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Explain {
    /// The fault, or another name for it
    fault: String,
}

impl Explain {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let mut known = Vec::new();
        for value in catalogue(client).await? {
            let fault: Fault = documents::read("Fault", &value)?;
            known.push((value, fault));
        }
        let wanted =
            |fault: &Fault| fault.fault.as_str() == self.fault || fault.aliases.iter().any(|a| a.eq_ignore_ascii_case(&self.fault));
        let Some((value, fault)) = known.iter().find(|(_, fault)| wanted(fault)) else {
            return Err(unknown(&self.fault, known.iter().map(|(_, fault)| fault)));
        };
        console.document(value, fault.fault.as_str(), |console| {
            console.lines(page(fault));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

fn unknown<'a>(typed: &str, known: impl Iterator<Item = &'a Fault>) -> Failure {
    let failure = Failure::new(exit::USAGE, "unknown_fault", format!("no host offers a fault {typed:?}"));
    let words: Vec<&str> = known
        .flat_map(|fault| fault.aliases.iter().map(String::as_str).chain([fault.fault.as_str()]))
        .collect();
    match nearest(typed, words) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure.hint("see `fracas faults`"),
    }
}

fn page(fault: &Fault) -> Vec<String> {
    let undo = match &fault.reversal {
        Reversal::Full => fault.undone_by.clone(),
        Reversal::Irreversible { why } => format!("IRREVERSIBLE: {why}"),
    };
    let duration = match fault.duration {
        DurationRule::Required => "required (--for)",
        DurationRule::Optional => "optional (--for)",
        DurationRule::None => "none",
    };
    let told = [
        ("fault", fault.fault.to_string()),
        ("does", fault.summary.clone()),
        ("also", fault.aliases.join(", ")),
        ("duration", duration.to_owned()),
        ("measured", fault.measured_by.clone()),
        ("undone", undo),
        ("hosts", fault.hosts.to_string()),
    ];
    let told = told.into_iter().filter(|(_, text)| !text.is_empty());
    let mut lines: Vec<String> = told.map(|(name, text)| format!("{name:<10}{text}")).collect();
    let rows = parameters(&fault.params);
    if !rows.is_empty() {
        lines.push(String::new());
        lines.extend(table::lines(&["PARAMETER", "TYPE", "ALLOWED", "DEFAULT", "SAYS"], &rows));
    }
    if !fault.examples.is_empty() {
        lines.push(String::new());
        lines.push("Examples".to_owned());
        lines.extend(
            fault
                .examples
                .iter()
                .flat_map(|example| [format!("  {}", example.says), format!("    {}", command(fault, &example.params))]),
        );
    }
    lines
}

/// The example as it is typed.
fn command(fault: &Fault, params: &Value) -> String {
    let quoted = pairs(params).into_iter().map(|pair| {
        if pair.contains([' ', '*', '(', '{', '[']) {
            format!("'{pair}'")
        } else {
            pair
        }
    });
    let length = if fault.duration == DurationRule::None { "" } else { " --for 30s" };
    let words: Vec<String> = ["fracas attack".to_owned(), fault.fault.to_string()]
        .into_iter()
        .chain(quoted)
        .collect();
    format!("{} --on NAME{length}", words.join(" "))
}

fn parameters(schema: &Value) -> Vec<Vec<String>> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| parameter(name, property, required.contains(&name.as_str()), schema))
        .collect()
}

fn parameter(name: &str, property: &Value, required: bool, root: &Value) -> Vec<String> {
    let meant = resolve(property, root);
    let default = match &property["default"] {
        Value::Null if required => "required".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let says = property["description"]
        .as_str()
        .or(meant["description"].as_str())
        .unwrap_or_default();
    let says = says.split_whitespace().collect::<Vec<_>>().join(" ");
    vec![name.to_owned(), type_word(meant, root), allowed(meant, root), default, says]
}

/// Follows `$ref`, and the one alternative of an optional value that is not null.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..4 {
        let next = match (&schema["$ref"], schema["anyOf"].as_array().or(schema["allOf"].as_array())) {
            (Value::String(pointer), _) => root.pointer(pointer.trim_start_matches('#')),
            (_, Some(options)) => options.iter().find(|option| option["type"] != "null"),
            _ => None,
        };
        match next {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

fn type_word(schema: &Value, root: &Value) -> String {
    if let Some(format) = schema["format"].as_str().and_then(|format| format.strip_prefix("fracas-")) {
        return if schema["type"] == "array" {
            format!("list of {format}")
        } else {
            format.to_owned()
        };
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    };
    match names.as_slice() {
        ["array"] => format!("list of {}", type_word(resolve(&schema["items"], root), root)),
        ["string"] | [] if !words(schema).is_empty() => "word".to_owned(),
        [] => "value".to_owned(),
        names => names.join(" or "),
    }
}

fn allowed(schema: &Value, root: &Value) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return words.join(", ");
    }
    let bound = |key: &str| schema[key].as_f64().map(|bound| bound.to_string());
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!("{least}..{most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) if schema["type"] == "array" => allowed(resolve(&schema["items"], root), root),
        (None, None) => String::new(),
    }
}

/// The words of an enumeration, however the schema spells it.
fn words(schema: &Value) -> Vec<String> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let each = schema["oneOf"].as_array().into_iter().flatten();
    let constants = each.flat_map(|option| option["enum"].as_array().into_iter().flatten().chain(option.get("const")));
    plain.chain(constants).filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_come_from_the_schema() {
        let schema = json!({"type": "object", "required": ["action"], "$defs": {"Action": {"oneOf": [{"const": "drop"}, {"const": "reject"}]}},
            "properties": {
                "action": {"$ref": "#/$defs/Action", "description": "What happens\nto packets"},
                "cores": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
                "percent": {"type": "number", "format": "fracas-percent", "minimum": 1, "maximum": 100, "default": 100},
                "ports": {"type": "array", "items": {"type": "string", "format": "fracas-ports"}, "default": []}}});
        assert_eq!(
            parameters(&schema),
            [
                ["action", "word", "drop, reject", "required", "What happens to packets"],
                ["cores", "integer", "at least 1", "", ""],
                ["percent", "percent", "1..100", "100", ""],
                ["ports", "list of ports", "", "[]", ""],
            ]
        );
    }
}
