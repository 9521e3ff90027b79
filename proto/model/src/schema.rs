//! Parameters against a kind's own schema: typed from text, checked, and written one way. It knows no kind by name.
//!
//! Only what our kinds' schemas use is understood; what is not understood is let through, because the agent checks again.

use crate::catalogue::nearest;
use crate::peer::{PEERS_FORMAT, Peer};
use crate::problem::{Problem, Problems};
use crate::quantity::{Amount, Bytes, CpuList, Millis, Percent, PortRange};
use serde_json::{Map, Value};

/// Checks parameters and answers them in their canonical form. Paths begin with `params.`.
pub fn check(schema: &Value, params: &Map<String, Value>) -> Result<Map<String, Value>, Problems> {
    let mut problems = Problems::default();
    let mut checked = Map::new();
    for (key, value) in params {
        let path = format!("params.{key}");
        match property(schema, key) {
            None => problems.push(unknown(schema, key)),
            Some(property) => {
                checked.insert(key.clone(), conform(property, value, &path, &mut problems));
            }
        }
    }
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let key = key.as_str().unwrap_or_default();
        if !params.contains_key(key) {
            let mut problem = Problem::new(format!("params.{key}"), "is required");
            problem.allowed = property(schema, key).and_then(allowed);
            problems.push(problem);
        }
    }
    problems.into_result().map(|()| checked)
}

/// Types `key=value` pairs: a list's key may be repeated, a scalar's may not.
pub fn from_text(schema: &Value, pairs: &[(String, String)]) -> Result<Map<String, Value>, Problems> {
    let (mut typed, mut problems) = (Map::new(), Problems::default());
    for (key, text) in pairs {
        let path = format!("params.{key}");
        let Some(property) = property(schema, key) else {
            problems.push(unknown(schema, key));
            continue;
        };
        let value = match read(property, text) {
            Ok(value) => value,
            Err(why) => {
                problems.push(Problem::new(path, why));
                continue;
            }
        };
        match (typed.get_mut(key), value) {
            (None, value) => {
                typed.insert(key.clone(), value);
            }
            (Some(Value::Array(items)), Value::Array(more)) => items.extend(more),
            (Some(_), _) => problems.push(Problem::new(path, "is given twice, and takes one value")),
        }
    }
    problems.into_result()?;
    check(schema, &typed)
}

/// Whether the schema, or the schema of its items, is that of peers.
pub fn is_peers(schema: &Value) -> bool {
    format_of(schema) == Some(PEERS_FORMAT)
        || schema.get("items").is_some_and(is_peers)
        || variants(schema).into_iter().flatten().any(is_peers)
}

pub fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(key)
}

fn unknown(schema: &Value, key: &str) -> Problem {
    let properties = schema.get("properties").and_then(Value::as_object);
    let names: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let hint = nearest(key, names.iter().copied())
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Problem::new(format!("params.{key}"), format!("unknown parameter{hint}")).allowed(known)
}

fn format_of(schema: &Value) -> Option<&str> {
    schema.get("format").and_then(Value::as_str)
}

/// `anyOf` or `oneOf`, without the one that only says that nothing is allowed too.
fn variants(schema: &Value) -> Option<Vec<&Value>> {
    let list = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
    Some(
        list.iter()
            .filter(|v| v.get("type").and_then(Value::as_str) != Some("null"))
            .collect(),
    )
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|n| n == name),
        _ => false,
    }
}

/// A text as the value that the schema means; what does not fit stays a text, for `check` to complain of.
fn read(schema: &Value, text: &str) -> Result<Value, String> {
    if text.starts_with(['[', '{']) {
        // A pattern may begin so too, and is a text when it is not JSON.
        let as_text = has_type(schema, "string").then(|| Value::String(text.to_owned()));
        let parsed = serde_json::from_str(text).map_err(|e| format!("begins like JSON and is not: {e}"));
        return parsed.or_else(|why| as_text.ok_or(why));
    }
    if let Some(variants) = variants(schema) {
        for variant in variants {
            let value = read(variant, text)?;
            let mut problems = Problems::default();
            let checked = conform(variant, &value, "", &mut problems);
            if problems.is_empty() {
                return Ok(checked);
            }
        }
        return Ok(Value::String(text.to_owned()));
    }
    if has_type(schema, "array") {
        return read_items(schema.get("items").unwrap_or(&Value::Null), text);
    }
    let number = || {
        text.parse::<u64>()
            .map(Value::from)
            .or_else(|_| text.parse::<i64>().map(Value::from))
            .ok()
    };
    let float = || text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
    let typed = match text {
        _ if format_of(schema).is_some_and(|f| f.starts_with("fracas-")) => None,
        "true" | "false" if has_type(schema, "boolean") => Some(Value::Bool(text == "true")),
        _ if has_type(schema, "integer") => number(),
        _ if has_type(schema, "number") => number().or_else(float),
        _ => None,
    };
    Ok(typed.unwrap_or_else(|| Value::String(text.to_owned())))
}

fn read_items(items: &Value, text: &str) -> Result<Value, String> {
    if format_of(items) == Some("fracas-ports") {
        let parts = text.split(',').map(|part| Value::String(part.trim().to_owned()));
        return Ok(Value::Array(parts.collect()));
    }
    Ok(Value::Array(vec![read(items, text)?]))
}

/// The value as the schema wants it, or a problem and the value as it was.
fn conform(schema: &Value, value: &Value, path: &str, problems: &mut Problems) -> Value {
    if let Some(variants) = variants(schema) {
        return conform_to_one(schema, &variants, value, path, problems);
    }
    let mut complain = |message: String| {
        let mut problem = Problem::new(path, message);
        problem.allowed = allowed(schema);
        problems.push(problem);
        value.clone()
    };
    if value.is_null() && has_type(schema, "null") {
        return Value::Null;
    }
    if let Some(format) = format_of(schema)
        && let Some(written) = by_format(format, value)
    {
        let written = match written {
            Ok(written) => written,
            Err(why) => return complain(why),
        };
        return match out_of_range(schema, &written) {
            Some(why) => complain(why),
            None => written,
        };
    }
    if let Some(choices) = choices(schema)
        && !choices.contains(&value)
    {
        return complain(format!("{value} is not one of the values"));
    }
    if let Some(why) = wrong_type(schema, value).or_else(|| out_of_range(schema, value)) {
        return complain(why);
    }
    match value {
        Value::Array(items) => conform_items(schema, items, path, problems),
        Value::Object(fields) if schema.get("properties").is_some() => conform_fields(schema, fields, path, problems),
        _ => value.clone(),
    }
}

fn conform_items(schema: &Value, items: &[Value], path: &str, problems: &mut Problems) -> Value {
    let Some(item) = schema.get("items") else {
        return Value::Array(items.to_vec());
    };
    let checked = items.iter().enumerate();
    Value::Array(checked.map(|(i, v)| conform(item, v, &format!("{path}[{i}]"), problems)).collect())
}

fn conform_fields(schema: &Value, fields: &Map<String, Value>, path: &str, problems: &mut Problems) -> Value {
    match check(schema, fields) {
        Ok(fields) => Value::Object(fields),
        Err(found) => {
            for mut problem in found.0 {
                problem.path = problem.path.replacen("params", path, 1);
                problems.push(problem);
            }
            Value::Object(fields.clone())
        }
    }
}

fn conform_to_one(schema: &Value, variants: &[&Value], value: &Value, path: &str, problems: &mut Problems) -> Value {
    let mut first = None;
    for variant in variants {
        let mut found = Problems::default();
        let written = conform(variant, value, path, &mut found);
        if found.is_empty() {
            return written;
        }
        first.get_or_insert(found);
    }
    match (variants.len(), first) {
        (1, Some(found)) => problems.0.extend(found.0),
        _ => {
            let mut problem = Problem::new(path, format!("{value} does not fit"));
            problem.allowed = allowed(schema);
            problems.push(problem);
        }
    }
    value.clone()
}

/// Our own formats: `None` when the format says nothing about the value.
fn by_format(format: &str, value: &Value) -> Option<Result<Value, String>> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return format.starts_with("fracas-").then(|| Err(format!("{other} does not fit"))),
    };
    let written = |parsed: Result<String, String>| Some(parsed.map(Value::String));
    match format {
        "fracas-duration" => written(Millis::parse(&text).map(|_| text).map_err(|e| e.to_string())),
        "fracas-size" => written(Bytes::parse(&text).map(|_| text).map_err(|e| e.to_string())),
        "fracas-amount" => written(Amount::parse(&text).map(|_| text).map_err(|e| e.to_string())),
        "fracas-ports" => written(PortRange::parse(&text).map(|p| p.to_string()).map_err(|e| e.to_string())),
        "fracas-cpus" => written(CpuList::parse(&text).map(|p| p.to_string()).map_err(|e| e.to_string())),
        PEERS_FORMAT => written(Peer::parse(&text).map(|p| p.to_string())),
        "fracas-percent" => Some(Percent::parse(&text).map(|p| p.0.into()).map_err(|e| e.to_string())),
        _ => None,
    }
}

fn choices(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(only) = schema.get("const") {
        return Some(vec![only]);
    }
    Some(schema.get("enum")?.as_array()?.iter().collect())
}

fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    schema.get("type")?;
    let fits = match value {
        Value::Null => has_type(schema, "null"),
        Value::Bool(_) => has_type(schema, "boolean"),
        Value::Number(n) => has_type(schema, "number") || (has_type(schema, "integer") && !n.is_f64()),
        Value::String(_) => has_type(schema, "string"),
        Value::Array(_) => has_type(schema, "array"),
        Value::Object(_) => has_type(schema, "object"),
    };
    (!fits).then(|| format!("{value} does not fit"))
}

fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    (bound("minimum"), bound("maximum"))
}

fn out_of_range(schema: &Value, value: &Value) -> Option<String> {
    let number = value.as_f64()?;
    let (low, high) = bounds(schema);
    let outside = low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high);
    outside.then(|| format!("{number} is out of range"))
}

/// What would be right, in words.
fn allowed(schema: &Value) -> Option<String> {
    if let Some(variants) = variants(schema) {
        let words: Vec<String> = variants.into_iter().filter_map(allowed).collect();
        return (!words.is_empty()).then(|| words.join(" or "));
    }
    let plain = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(choices) = choices(schema) {
        let words: Vec<String> = choices.iter().filter(|v| !v.is_null()).map(plain).collect();
        return Some(words.join(", "));
    }
    let text = |bound: Option<f64>| bound.map(|b| b.to_string()).unwrap_or_default();
    match bounds(schema) {
        (None, None) => {}
        (low, high) => return Some(format!("{}..{}", text(low), text(high))),
    }
    let word = match format_of(schema) {
        Some("fracas-duration") => "a duration such as 200ms, 2s, 5m",
        Some("fracas-size") => "a size such as 512MiB, 2GB",
        Some("fracas-amount") => "a percent such as 60%, or a size such as 512MiB, 2GB",
        Some("fracas-ports") => "a port 1..65535 or a range such as 8000-8100",
        Some("fracas-cpus") => "processors such as 0,2-3",
        Some(PEERS_FORMAT) => "role=cache, host:NAME, 10.0.0.0/8, a DNS name, any",
        _ if has_type(schema, "array") => return schema.get("items").and_then(allowed).map(|item| format!("a list of: {item}")),
        _ if has_type(schema, "boolean") => "true, false",
        _ if has_type(schema, "integer") => "a whole number",
        _ if has_type(schema, "number") => "a number",
        _ if has_type(schema, "string") => "a text",
        _ => return None,
    };
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({
            "type": "object",
            "properties": {
                "percent": { "type": "number", "format": "fracas-percent", "minimum": 1, "maximum": 100 },
                "cores": { "anyOf": [{ "type": "integer", "format": "uint32", "minimum": 1 }, { "const": "all" }, { "type": "null" }] },
                "mode": { "oneOf": [{ "type": "string", "const": "add" }, { "type": "string", "const": "total" }] },
                "action": { "type": ["string", "null"], "enum": ["drop", "reject", null] },
                "delay": { "type": "string", "format": "fracas-duration" },
                "ports": { "type": "array", "items": { "type": "string", "format": "fracas-ports" } },
                "to": { "type": "array", "items": { "type": "string", "format": "fracas-peers" } },
                "maybe": { "type": ["array", "null"], "items": { "type": "string", "format": "fracas-peers" } },
                "children": { "type": "boolean" },
                "name": { "type": ["string", "null"] },
                "count": { "type": "integer", "minimum": 0 }
            },
            "required": ["percent"]
        })
    }

    fn typed(words: &[&str]) -> Result<Value, String> {
        let pairs: Vec<(String, String)> = words
            .iter()
            .filter_map(|w| w.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        from_text(&sample(), &pairs).map(Value::Object).map_err(|e| e.to_string())
    }

    #[test]
    fn texts_become_what_the_schema_says() {
        let words = [
            "percent=60%",
            "cores=2",
            "mode=total",
            "action=drop",
            "delay=200ms",
            "children=true",
            "name=true",
            "count=7",
        ];
        let wanted = json!({ "percent": 60.0, "cores": 2, "mode": "total", "action": "drop", "delay": "200ms",
            "children": true, "name": "true", "count": 7 });
        assert_eq!(typed(&words), Ok(wanted));
        let pattern = typed(&["percent=60", "name=[a-z]+"]);
        assert_eq!(pattern, Ok(json!({ "percent": 60.0, "name": "[a-z]+" })));
        assert_eq!(typed(&["percent=60", "cores=all"]), Ok(json!({ "percent": 60.0, "cores": "all" })));
    }

    #[test]
    fn lists_repeat_their_key_and_ports_take_commas() {
        let words = [
            "percent=1",
            "ports=80,8000-8100",
            "ports=443",
            "to=role=a,zone in (x,y)",
            "to=10.0.0.0/8",
            "maybe=any",
        ];
        let wanted =
            json!({ "percent": 1.0, "ports": ["80", "8000-8100", "443"], "to": ["role=a,zone in (x,y)", "10.0.0.0/8"], "maybe": ["any"] });
        assert_eq!(typed(&words), Ok(wanted));
        assert_eq!(
            typed(&["percent=1", "ports=[80, \"90-91\"]"]),
            Ok(json!({ "percent": 1.0, "ports": ["80", "90-91"] }))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path_and_range() {
        for (words, expected) in [
            (vec!["percent=0"], "params.percent: 0 is out of range (allowed: 1..100)"),
            (vec!["percent=140"], "1..100"),
            (vec!["percent=1", "percent=2"], "params.percent: is given twice"),
            (vec!["percent=1", "delay=200"], "params.delay: \"200\" is not a duration"),
            (vec!["percent=1", "perzent=1"], "did you mean percent?"),
            (vec!["cores=2"], "params.percent: is required (allowed: 1..100)"),
            (
                vec!["percent=1", "cores=0"],
                "params.cores: \"0\" does not fit (allowed: 1.. or all)",
            ),
            (vec!["percent=1", "mode=sum"], "add or total"),
            (vec!["percent=1", "action=sum"], "drop, reject"),
            (vec!["percent=1", "children=1"], "true, false"),
            (vec!["percent=1", "count=1.5"], "params.count"),
            (vec!["percent=1", "count=-1"], "0.."),
            (vec!["percent=1", "ports=80,0"], "params.ports[1]"),
            (vec!["percent=1", "to=300.1.1.1"], "params.to[0]"),
            (vec!["percent=1", "ports=[80"], "begins like JSON"),
        ] {
            let message = typed(&words).expect_err(&format!("{words:?} was taken"));
            assert!(message.contains(expected), "{words:?}: {message}");
        }
    }

    #[test]
    fn values_of_a_file_are_held_to_the_same() {
        let good = json!({ "percent": "60%", "ports": [8443, "80"], "cores": "all", "name": null });
        let good = check(&sample(), good.as_object().unwrap()).unwrap();
        assert_eq!(
            Value::Object(good),
            json!({ "percent": 60.0, "ports": ["8443", "80"], "cores": "all", "name": null })
        );
        for (bad, expected) in [
            (json!({ "percent": true }), "params.percent"),
            (json!({ "percent": 1, "delay": 200 }), "unit"),
            (json!({ "percent": 1, "to": "role=a" }), "a list of"),
            (json!({ "percent": 1, "count": "7" }), "params.count"),
        ] {
            let message = check(&sample(), bad.as_object().unwrap()).unwrap_err().to_string();
            assert!(message.contains(expected), "{bad}: {message}");
        }
    }

    #[test]
    fn peers_are_found_by_their_format_alone() {
        let schema = sample();
        let found: Vec<&str> = ["percent", "to", "maybe", "ports", "name"]
            .into_iter()
            .filter(|key| is_peers(property(&schema, key).unwrap()))
            .collect();
        assert_eq!(found, ["to", "maybe"]);
    }
}
