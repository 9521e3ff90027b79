//! Probes and guards of a file: what is asked, by whom, how often. Nothing is asked here.

use controller_reader::{Fields, Located, Node, Reader};
use proto_model::probe::{
    DEFAULT_BREAKS, DEFAULT_EVERY_MS, DEFAULT_TIMEOUT_MS, HttpCheck, ProbeCheck, ProbeRole, ProbeSpec, Prober, TcpCheck, Tolerance,
};
use proto_model::quantity::{Millis, Percent};

use super::measures;
use crate::experiment::{WishedProbe, WishedProber};

/// Probes of one kind in a file.
const MOST_PROBES: usize = 50;
/// The URL itself is not repeated: what is said here is kept and shown.
pub(crate) const USERINFO: &str = "the URL holds a user name or a password, which would be stored and shown with the plan";
pub(crate) const URL_FORM: &str = "http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, without USER:PASSWORD@";
/// How often a probe may ask.
const EVERY: std::ops::RangeInclusive<Millis> = Millis(100)..=Millis(3_600_000);
const MOST_BREAKS: u32 = 1_000;
/// The ways of asking, of which a probe has exactly one.
pub(super) const CHECKS: [&str; 4] = ["http", "tcp", "prometheus", "command"];
pub(super) const HTTP_KEYS: [&str; 4] = ["url", "status", "within", "contains"];
pub(super) const TCP_KEYS: [&str; 2] = ["address", "within"];
pub(super) const PROBE_KEYS: [&str; 4] = ["name", "from", "every", "timeout"];

pub(super) fn list(reader: &mut Reader, path: &str, at: &Located, role: ProbeRole) -> Vec<WishedProbe> {
    let items = reader.items(path, at, "probes");
    if items.len() > MOST_PROBES {
        reader.complain(path, at, format!("has {} probes", items.len()), format!("..{MOST_PROBES}"));
        return Vec::new();
    }
    let read = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| probe(reader, &format!("{path}[{i}]"), item, role));
    read.collect()
}

fn probe(reader: &mut Reader, path: &str, at: &Located, role: ProbeRole) -> Option<WishedProbe> {
    let own = match role {
        ProbeRole::Hypothesis => "tolerate",
        ProbeRole::Guard => "breaks",
    };
    let allowed: Vec<&str> = PROBE_KEYS.into_iter().chain(CHECKS).chain([own]).collect();
    let fields = reader.fields(path, at, &allowed)?;
    let name = reader
        .required(&fields, "name")
        .and_then(|(path, at)| reader.label_value(&path, at));
    let check = check(reader, path, at, &fields);
    let from = match fields.get("from") {
        Some((path, at)) => prober(reader, &path, at),
        None => Some(WishedProber::Controller),
    };
    let pace = pace(reader, &fields);
    let tolerate = match fields.get("tolerate") {
        Some((path, at)) => tolerance(reader, &path, at),
        None => Some(Tolerance::Count(0)),
    };
    let breaks = match fields.get("breaks") {
        Some((path, at)) => reader.count(&path, at, 1).map(|n| n.min(MOST_BREAKS)),
        None => Some(DEFAULT_BREAKS),
    };
    let (every, timeout) = pace?;
    let check = check?;
    fits(reader, path, at, &check, timeout)?;
    let from = from?;
    if matches!(check, ProbeCheck::Command(_)) && from == WishedProber::Controller {
        reader.complain(
            path,
            at,
            "runs a command, which the controller never does",
            "from: a selector of hosts",
        );
        return None;
    }
    let spec = ProbeSpec {
        name: name?,
        role,
        check,
        from: Prober::Controller,
        every_ms: every.0,
        timeout_ms: timeout.0,
        tolerate: tolerate?,
        breaks: breaks?,
    };
    Some(WishedProbe {
        path: path.to_owned(),
        spec,
        from,
    })
}

fn check(reader: &mut Reader, path: &str, at: &Located, fields: &Fields<'_>) -> Option<ProbeCheck> {
    match fields.among(&CHECKS).as_slice() {
        ["http"] => http(reader, fields).map(ProbeCheck::Http),
        ["tcp"] => tcp(reader, fields).map(ProbeCheck::Tcp),
        ["prometheus"] => measures::prometheus(reader, fields).map(ProbeCheck::Prometheus),
        ["command"] => measures::command(reader, fields).map(ProbeCheck::Command),
        [] => {
            reader.complain(path, at, "asks nothing", format!("one of {}", CHECKS.join(", ")));
            None
        }
        _ => {
            reader.complain(path, at, "asks two things", format!("one of {}", CHECKS.join(", ")));
            None
        }
    }
}

fn http(reader: &mut Reader, fields: &Fields<'_>) -> Option<HttpCheck> {
    let (path, at) = fields.get("http")?;
    if let Node::Text(url) = &at.value {
        return url_ok(reader, &path, at, url).then(|| HttpCheck {
            url: url.clone(),
            status: 200,
            within_ms: None,
            contains: None,
        });
    }
    let fields = reader.fields(&path, at, &HTTP_KEYS)?;
    let url = reader.required(&fields, "url").and_then(|(path, at)| {
        let url = reader.text(&path, at)?;
        url_ok(reader, &path, at, &url).then_some(url)
    });
    let status = match fields.get("status") {
        Some((path, at)) => status(reader, &path, at),
        None => Some(200),
    };
    let within = optional_duration(reader, &fields, "within");
    let contains = match fields.get("contains") {
        Some((path, at)) => Some(reader.text(&path, at)?),
        None => None,
    };
    Some(HttpCheck {
        url: url?,
        status: status?,
        within_ms: within?.map(|w| w.0),
        contains,
    })
}

pub(super) fn url_ok(reader: &mut Reader, path: &str, at: &Located, url: &str) -> bool {
    if has_userinfo(url) {
        reader.complain(path, at, USERINFO, URL_FORM);
        return false;
    }
    let ok = is_url(url);
    if !ok {
        reader.complain(path, at, format!("{url:?} is not a URL"), "such as http://10.0.0.5:8080/health");
    }
    ok
}

/// Whether a name or a password is before the host.
pub(crate) fn has_userinfo(text: &str) -> bool {
    authority(text).is_some_and(|authority| authority.contains('@'))
}

pub(crate) fn is_url(text: &str) -> bool {
    let host = authority(text);
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(':') && !host.contains('@'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What is between the scheme and the path.
fn authority(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.and_then(|rest| rest.split(['/', '?', '#']).next())
}

/// `host:port`, `[fd00::1]:port`.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => Some(host).filter(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))),
    };
    bare.is_some() && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn status(reader: &mut Reader, path: &str, at: &Located) -> Option<u16> {
    let number = match &at.value {
        Node::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        _ => None,
    };
    let fits = number.filter(|n| (100..=599).contains(n));
    if fits.is_none() {
        reader.complain(path, at, format!("{} is not a status", at.value.name()), "100..599");
    }
    fits
}

fn tcp(reader: &mut Reader, fields: &Fields<'_>) -> Option<TcpCheck> {
    let (path, at) = fields.get("tcp")?;
    let (address, within) = if let Node::Text(_) = &at.value {
        (address(reader, &path, at), Some(None))
    } else {
        let fields = reader.fields(&path, at, &TCP_KEYS)?;
        let found = reader.required(&fields, "address");
        let address = found.and_then(|(path, at)| address(reader, &path, at));
        (address, optional_duration(reader, &fields, "within"))
    };
    Some(TcpCheck {
        address: address?,
        within_ms: within?.map(|w| w.0),
    })
}

fn address(reader: &mut Reader, path: &str, at: &Located) -> Option<String> {
    let text = reader.text(path, at)?;
    if is_address(&text) {
        return Some(text);
    }
    reader.complain(path, at, format!("{text:?} is not an address"), "HOST:PORT, such as 10.0.0.5:6379");
    None
}

fn prober(reader: &mut Reader, path: &str, at: &Located) -> Option<WishedProber> {
    match &at.value {
        Node::Text(text) if text == "controller" => Some(WishedProber::Controller),
        _ => reader.selector(path, at).map(WishedProber::Hosts),
    }
}

/// `every` and `timeout`, of which the second is at most the first.
fn pace(reader: &mut Reader, fields: &Fields<'_>) -> Option<(Millis, Millis)> {
    let every = optional_duration(reader, fields, "every")?.unwrap_or(Millis(DEFAULT_EVERY_MS));
    if let Some((path, at)) = fields.get("every")
        && !EVERY.contains(&every)
    {
        reader.complain(
            &path,
            at,
            format!("{every} is out of range"),
            format!("{}..{}", EVERY.start(), EVERY.end()),
        );
        return None;
    }
    let timeout = optional_duration(reader, fields, "timeout")?.unwrap_or(Millis(DEFAULT_TIMEOUT_MS).min(every));
    if let Some((path, at)) = fields.get("timeout")
        && timeout > every
    {
        reader.complain(&path, at, format!("{timeout} is longer than every, {every}"), format!("..{every}"));
        return None;
    }
    Some((every, timeout))
}

/// A bound beyond the timeout could never be met or broken by itself.
fn fits(reader: &mut Reader, path: &str, at: &Located, check: &ProbeCheck, timeout: Millis) -> Option<()> {
    let within = Millis(check.within_ms().unwrap_or(0));
    if within > timeout {
        reader.complain(
            path,
            at,
            format!("within {within} is longer than timeout, {timeout}"),
            format!("..{timeout}"),
        );
        return None;
    }
    Some(())
}

fn tolerance(reader: &mut Reader, path: &str, at: &Located) -> Option<Tolerance> {
    match &at.value {
        Node::Number(_) => reader.count(path, at, 0).map(Tolerance::Count),
        Node::Text(text) => match Percent::parse(text) {
            Ok(share) if text.trim().ends_with('%') => Some(Tolerance::Share(share)),
            _ => {
                reader.complain(path, at, format!("{text:?} is no tolerance"), "a count such as 2, or 0% to 100%");
                None
            }
        },
        other => {
            reader.complain(path, at, format!("is {}", other.name()), "a count such as 2, or 0% to 100%");
            None
        }
    }
}

/// `Some(None)`: not given, which is right; `None`: a problem.
pub(super) fn optional_duration(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<Millis>> {
    match fields.get(key) {
        Some((path, at)) => reader.duration(&path, at).map(Some),
        None => Some(None),
    }
}
