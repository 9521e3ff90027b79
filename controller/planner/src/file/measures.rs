//! Probes whose answer is measured: a Prometheus query and its bounds, a host's own program and what it must say. Nothing is run.

use controller_reader::{Fields, Located, Node, Reader};
use proto_model::probe::{CommandCheck, PrometheusCheck, ValueBounds};

use super::probes::{optional_duration, url_ok};

pub(super) const BOUNDS: [&str; 5] = ["above", "at_least", "equals", "at_most", "below"];
pub(super) const PROMETHEUS_KEYS: [&str; 3] = ["url", "query", "within"];
pub(super) const COMMAND_KEYS: [&str; 5] = ["program", "args", "exit", "contains", "within"];
/// Longest query, in bytes.
const QUERY_BYTES: usize = 4_096;
const MOST_ARGS: usize = 32;
/// Longest argument, in bytes.
const ARG_BYTES: usize = 1_024;

fn with_bounds(keys: &[&'static str]) -> Vec<&'static str> {
    keys.iter().copied().chain(BOUNDS).collect()
}

/// `prometheus: { url, query, below, ... }`
pub(super) fn prometheus(reader: &mut Reader, fields: &Fields<'_>) -> Option<PrometheusCheck> {
    let (path, at) = fields.get("prometheus")?;
    let fields = reader.fields(&path, at, &with_bounds(&PROMETHEUS_KEYS))?;
    let url = reader.required(&fields, "url").and_then(|(path, at)| {
        let url = reader.text(&path, at)?;
        url_ok(reader, &path, at, &url).then_some(url)
    });
    let query = reader.required(&fields, "query").and_then(|(path, at)| query(reader, &path, at));
    let bounds = bounds(reader, &fields);
    let within = optional_duration(reader, &fields, "within");
    let bounds = bounds?;
    if bounds.is_empty() {
        reader.complain(
            &path,
            at,
            "says of no value that it is good",
            format!("one or more of {}", BOUNDS.join(", ")),
        );
        return None;
    }
    Some(PrometheusCheck {
        url: url?,
        query: query?,
        bounds,
        within_ms: within?.map(|within| within.0),
    })
}

fn query(reader: &mut Reader, path: &str, at: &Located) -> Option<String> {
    let query = reader.text(path, at)?;
    if query.trim().is_empty() || query.len() > QUERY_BYTES {
        reader.complain(
            path,
            at,
            format!("has {} bytes", query.len()),
            format!("a query of 1..{QUERY_BYTES} bytes"),
        );
        return None;
    }
    Some(query)
}

/// `command: { program, args, exit, contains, below, ... }`
pub(super) fn command(reader: &mut Reader, fields: &Fields<'_>) -> Option<CommandCheck> {
    let (path, at) = fields.get("command")?;
    let fields = reader.fields(&path, at, &with_bounds(&COMMAND_KEYS))?;
    let program = reader
        .required(&fields, "program")
        .and_then(|(path, at)| program(reader, &path, at));
    let args = match fields.get("args") {
        Some((path, at)) => args(reader, &path, at),
        None => Some(Vec::new()),
    };
    let exit = match fields.get("exit") {
        Some((path, at)) => exit(reader, &path, at),
        None => Some(0),
    };
    let contains = match fields.get("contains") {
        Some((path, at)) => Some(reader.text(&path, at)?),
        None => None,
    };
    let bounds = bounds(reader, &fields);
    let within = optional_duration(reader, &fields, "within");
    Some(CommandCheck {
        program: program?,
        args: args?,
        exit: exit?,
        contains,
        bounds: bounds?,
        within_ms: within?.map(|within| within.0),
    })
}

fn program(reader: &mut Reader, path: &str, at: &Located) -> Option<String> {
    let name = reader.text(path, at)?;
    if CommandCheck::is_program_name(&name) {
        return Some(name);
    }
    let allowed = "a name in the host's directory of probes: letters, digits, '-', '_', '.', never a path";
    reader.complain(path, at, format!("{name:?} is no program's name"), allowed);
    None
}

fn args(reader: &mut Reader, path: &str, at: &Located) -> Option<Vec<String>> {
    let items = reader.items(path, at, "arguments");
    if !matches!(at.value, Node::List(_)) {
        return None;
    }
    if items.len() > MOST_ARGS {
        reader.complain(path, at, format!("has {} arguments", items.len()), format!("..{MOST_ARGS}"));
        return None;
    }
    let mut args = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let text = reader.text(&path, item)?;
        if text.len() > ARG_BYTES || text.contains('\0') {
            reader.complain(&path, item, "is too long or has a zero byte", format!("..{ARG_BYTES} bytes"));
            return None;
        }
        args.push(text);
    }
    Some(args)
}

fn exit(reader: &mut Reader, path: &str, at: &Located) -> Option<u8> {
    let code = match &at.value {
        Node::Number(number) => number.as_u64().and_then(|code| u8::try_from(code).ok()),
        _ => None,
    };
    if code.is_none() {
        reader.complain(path, at, format!("{} is no exit code", at.value.name()), "0..255");
    }
    code
}

fn bounds(reader: &mut Reader, fields: &Fields<'_>) -> Option<ValueBounds> {
    let mut fine = true;
    let [above, at_least, equals, at_most, below] = BOUNDS.map(|key| {
        let (path, at) = fields.get(key)?;
        let number = match &at.value {
            Node::Number(number) => number.as_f64(),
            _ => None,
        };
        if number.is_none() {
            reader.complain(&path, at, format!("is {}", at.value.name()), "a number, such as 0.01");
            fine = false;
        }
        number
    });
    fine.then_some(ValueBounds {
        above,
        at_least,
        equals,
        at_most,
        below,
    })
}
