//! The network part of a footprint: links, addresses, routes, queues and filters, and nftables' rules.

use anyhow::Result;
use serde_json::Value;

use super::Section;
use super::json::{ask, insert, section, strip};

/// What moves by itself in the answers of `ip`, `tc` and `nft`.
const MOVING: [&str; 22] = [
    "ifindex",
    "link_index",
    "link_netnsid",
    "stats",
    "stats64",
    "expires",
    "valid_life_time",
    "preferred_life_time",
    "cacheinfo",
    "tentative",
    "bytes",
    "packets",
    "drops",
    "overlimits",
    "requeues",
    "backlog",
    "qlen",
    "handle",
    "counter",
    "used",
    "installed",
    "lastused",
];

fn asked(program: &str, arguments: &[&str]) -> Result<Value> {
    let mut answer = ask(program, arguments)?;
    strip(&mut answer, &MOVING);
    Ok(answer)
}

pub fn links() -> Result<Section> {
    Ok(section(&asked("ip", &["-json", "-details", "link", "show"])?, &["ifname"]))
}

pub fn addresses() -> Result<Section> {
    let mut all = Section::new();
    for link in asked("ip", &["-json", "address", "show"])?.as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or_default();
        for address in link["addr_info"].as_array().into_iter().flatten() {
            insert(
                &mut all,
                format!("{name} {}", address["local"].as_str().unwrap_or_default()),
                address.to_string(),
            );
        }
    }
    Ok(all)
}

pub fn routes() -> Result<Section> {
    let mut all = Section::new();
    for family in ["-4", "-6"] {
        for (what, names) in [("route", ["dst", "dev"]), ("rule", ["priority", "table"])] {
            let arguments: &[&str] = if what == "route" { &["show", "table", "all"] } else { &["show"] };
            let mut line = vec![family, "-json", what];
            line.extend(arguments);
            for (name, value) in section(&asked("ip", &line)?, &names) {
                all.insert(format!("{family} {what} {name}"), value);
            }
        }
    }
    Ok(all)
}

/// Queueing disciplines, classes and filters of every link, on both sides.
pub fn qdiscs() -> Result<Section> {
    let mut all = section(&asked("tc", &["-json", "qdisc", "show"])?, &["dev", "kind", "parent"]);
    for link in ask("ip", &["-json", "link", "show"])?.as_array().into_iter().flatten() {
        let Some(name) = link["ifname"].as_str() else { continue };
        for (what, side) in [("class", ""), ("filter", ""), ("filter", "ingress"), ("filter", "egress")] {
            let mut line = vec!["-json", what, "show", "dev", name];
            line.extend(Some(side).filter(|side| !side.is_empty()));
            // A link without such a thing is told as an error by some versions.
            let Ok(answer) = asked("tc", &line) else { continue };
            for (thing, value) in section(&answer, &["kind", "pref", "parent"]) {
                all.insert(format!("{name} {what} {side} {thing}"), value);
            }
        }
    }
    Ok(all)
}

/// Tables, chains, sets and rules of nftables in their order; a host without the tool says so.
pub fn nft() -> Section {
    let mut all = Section::new();
    let answer = match asked("nft", &["--json", "list", "ruleset"]) {
        Ok(answer) => answer,
        Err(error) => return Section::from([("unknown".to_owned(), format!("{error:#}"))]),
    };
    for element in answer["nftables"].as_array().into_iter().flatten().filter_map(Value::as_object) {
        for (kind, body) in element.iter().filter(|(kind, _)| *kind != "metainfo") {
            let words = ["family", "table", "chain", "name"].iter().filter_map(|name| body[name].as_str());
            insert(
                &mut all,
                format!("{kind} {}", words.collect::<Vec<_>>().join(" ")),
                body.to_string(),
            );
        }
    }
    all
}
