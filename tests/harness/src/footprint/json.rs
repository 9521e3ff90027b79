//! Runs tools that answer in JSON and takes out of the answer what changes by itself.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Section;

/// The answer of a tool.
pub fn ask(program: &str, arguments: &[&str]) -> Result<Value> {
    let answer = printed(program, arguments)?;
    if answer.trim_ascii().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&answer).with_context(|| format!("read what {program} answered"))
}

/// What a tool prints.
pub fn printed(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {program} printed"))
}

/// Takes these members away, however deep.
pub fn strip(value: &mut Value, members: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !members.contains(&name.as_str()));
            object.values_mut().for_each(|value| strip(value, members));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| strip(value, members)),
        _ => {}
    }
}

/// Each element of a list under a name made from some of its members; equal ones are numbered.
pub fn section(list: &Value, names: &[&str]) -> Section {
    let mut section = Section::new();
    for element in list.as_array().into_iter().flatten() {
        let words = names
            .iter()
            .filter_map(|name| element.get(name))
            .map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        insert(&mut section, words.collect::<Vec<_>>().join(" "), element.to_string());
    }
    section
}

pub fn insert(section: &mut Section, name: String, value: String) {
    let mut unique = name.clone();
    let mut number = 1;
    while section.contains_key(&unique) {
        number += 1;
        unique = format!("{name} #{number}");
    }
    section.insert(unique, value);
}
