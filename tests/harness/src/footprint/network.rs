//! The network part of a footprint: links, addresses, routes, queues and filters, and nftables' rules.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Section;
use super::json::{ask, insert, printed, section, strip};

/// What moves by itself in the answers of `ip`, `tc` and `nft`.
const MOVING: [&str; 30] = [
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
    "direct_packets_stat",
    "backlog",
    "qlen",
    "handle",
    "counter",
    "used",
    "installed",
    "lastused",
    "gc_timer",
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "hold_timer",
    "message_age_timer",
    "forward_delay_timer",
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
            let mut line = vec![what, "show", "dev", name];
            line.extend(Some(side).filter(|side| !side.is_empty()));
            let shown = match shown_by_tc(&line) {
                // Some versions call it an error that a link has nothing on this side.
                Err(error) if !side.is_empty() && error.to_string().contains("Parent Qdisc doesn't exist") => continue,
                shown => shown?,
            };
            for (thing, value) in shown {
                all.insert(format!("{name} {what} {side} {thing}"), value);
            }
        }
    }
    Ok(all)
}

/// tc of iproute2 6.1 prints classes of htb in words, also where it is asked for JSON: then its lines are compared.
fn shown_by_tc(line: &[&str]) -> Result<Section> {
    match asked("tc", &[&["-json"], line].concat()) {
        Err(error) if error.is::<serde_json::Error>() => Ok(section_of_words(&printed("tc", line)?)),
        answer => Ok(section_of_json(answer?)),
    }
}

/// Classes of fq_codel are its flows of the moment, and are left out of both forms.
fn section_of_json(mut list: Value) -> Section {
    if let Some(elements) = list.as_array_mut() {
        elements.retain(|element| element["class"] != "fq_codel");
    }
    section(&list, &["kind", "pref", "parent"])
}

fn section_of_words(text: &str) -> Section {
    let mut lines = Section::new();
    for line in text.lines().filter(|line| !line.starts_with("class fq_codel ")) {
        insert(&mut lines, line.trim().to_owned(), String::new());
    }
    lines
}

/// Tables, chains, sets and rules of nftables in their order. A look that fails is an error: two of them would compare as equal.
pub fn nft() -> Result<Section> {
    let mut all = Section::new();
    let answer = asked("nft", &["--json", "list", "ruleset"])?;
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
    Ok(all)
}

/// The rules of the older iptables, which nftables does not list; none where its tables were never used.
pub fn iptables() -> Result<Section> {
    let mut all = Section::new();
    for (names, program) in [
        ("/proc/net/ip_tables_names", "iptables-legacy-save"),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        let tables = match std::fs::read_to_string(names) {
            Ok(tables) => tables,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context(names),
        };
        for table in tables.lines() {
            let output = Command::new(program)
                .args(["-t", table])
                .output()
                .with_context(|| format!("start {program}"))?;
            ensure!(
                output.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            // Comments hold the time, and what follows a policy are counters.
            let rules = String::from_utf8_lossy(&output.stdout);
            let rules = rules.lines().filter(|line| !line.starts_with('#'));
            let rules: Vec<&str> = rules.map(|line| line.split(" [").next().unwrap_or(line)).collect();
            all.insert(format!("{program} {table}"), rules.join("; "));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flows_of_fq_codel_are_no_part_of_a_footprint_in_either_form() {
        let list = json!([
            { "class": "htb", "handle": "1:1", "root": true, "prio": 0 },
            { "class": "fq_codel", "handle": ":1a0", "parent": "8001:" },
            { "kind": "u32", "pref": 1, "parent": "1:" },
        ]);
        let of_json = section_of_json(list);
        assert_eq!(of_json.len(), 2);
        assert!(of_json.values().all(|value| !value.contains("fq_codel")), "{of_json:?}");
        let words = "class htb 1:1 root prio 0 rate 1Mbit\nclass fq_codel :1a0 parent 8001: \n";
        let of_words = section_of_words(words);
        assert_eq!(of_words.keys().collect::<Vec<_>>(), ["class htb 1:1 root prio 0 rate 1Mbit"]);
        assert_eq!(section_of_json(Value::Null), Section::new());
    }
}
