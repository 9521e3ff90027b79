//! Which crate may stand on which: the map of the house, compared with what every Cargo.toml says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::files::FOLDERS;

/// Every crate and all of the workspace that it may depend on outside of its tests. A crate that is not here may not exist.
pub const ALLOWED: &[(&str, &[&str])] = &[
    // The shared language stands on nothing but itself.
    ("proto-model", &[]),
    ("proto-wire", &["proto-model"]),
    ("proto-program", &[]),
    ("proto-telling", &["proto-model"]),
    ("proto-transport", &["proto-model", "proto-wire"]),
    ("proto-probes", &["proto-model"]),
    // The hand on the host: towards the journal, never towards the controller.
    ("agent-view", &["proto-model"]),
    ("agent-journal", &["proto-model"]),
    ("agent-levers", &["agent-journal", "agent-view", "proto-model"]),
    ("agent-privileges", &[]),
    (
        "agent-faults",
        &["agent-journal", "agent-levers", "agent-privileges", "agent-view", "proto-model"],
    ),
    (
        "agent-warden",
        &["agent-faults", "agent-journal", "agent-levers", "agent-view", "proto-model"],
    ),
    ("agent-link", &["agent-view", "agent-warden", "proto-model"]),
    ("agent-probes", &["proto-model", "proto-probes"]),
    (
        "agent-session",
        &[
            "agent-link",
            "agent-probes",
            "agent-view",
            "agent-warden",
            "proto-model",
            "proto-probes",
            "proto-transport",
            "proto-wire",
        ],
    ),
    (
        "agent-daemon",
        &[
            "agent-faults",
            "agent-journal",
            "agent-levers",
            "agent-link",
            "agent-privileges",
            "agent-probes",
            "agent-session",
            "agent-view",
            "agent-warden",
            "proto-model",
            "proto-probes",
            "proto-program",
            "proto-transport",
            "proto-wire",
        ],
    ),
    // The head: policy, planner and report stand on the model alone; doors stand on the conductor, never the other way.
    ("controller-reader", &["proto-model"]),
    ("controller-policy", &["proto-model"]),
    (
        "controller-planner",
        &["controller-policy", "controller-reader", "proto-model", "proto-probes"],
    ),
    (
        "controller-conductor",
        &[
            "controller-policy",
            "controller-report",
            "controller-store",
            "proto-model",
            "proto-probes",
        ],
    ),
    ("controller-report", &["proto-model", "proto-telling"]),
    ("controller-evidence", &["controller-reader", "controller-report", "proto-model"]),
    ("controller-store", &["proto-model"]),
    ("controller-scheduler", &["controller-store", "proto-model"]),
    (
        "controller-dispatcher",
        &[
            "controller-conductor",
            "controller-store",
            "proto-model",
            "proto-transport",
            "proto-wire",
        ],
    ),
    (
        "controller-api",
        &[
            "controller-conductor",
            "controller-dashboard",
            "controller-evidence",
            "controller-planner",
            "controller-policy",
            "controller-report",
            "controller-scheduler",
            "controller-store",
            "proto-model",
            "proto-transport",
            "proto-wire",
        ],
    ),
    (
        "controller-daemon",
        &[
            "controller-api",
            "controller-conductor",
            "controller-dispatcher",
            "controller-policy",
            "controller-report",
            "controller-scheduler",
            "controller-store",
            "proto-model",
            "proto-probes",
            "proto-program",
            "proto-transport",
            "proto-wire",
        ],
    ),
    // The operator's program knows the language and no part of the head.
    (
        "controller-cli",
        &[
            "proto-model",
            "proto-probes",
            "proto-program",
            "proto-telling",
            "proto-transport",
            "proto-wire",
        ],
    ),
    ("controller-dashboard", &["controller-report", "proto-model", "proto-telling"]),
    ("tests-tidy", &["proto-probes"]),
    ("tests-notes", &[]),
    ("tests-harness", &["tests-notes"]),
    (
        "tests-fuzz",
        &[
            "agent-journal",
            "agent-levers",
            "agent-link",
            "agent-view",
            "controller-planner",
            "proto-model",
            "proto-wire",
        ],
    ),
    ("tests-it", &["tests-harness"]),
    // Speaks an agent's side of the wire, and writes the past of a store; it knows nothing of how either program decides.
    (
        "tests-fleet",
        &[
            "agent-faults",
            "controller-report",
            "controller-store",
            "proto-model",
            "proto-transport",
            "proto-wire",
            "tests-harness",
        ],
    ),
    ("tests-browser", &["tests-harness"]),
    ("tests-contest", &["agent-faults", "agent-view", "proto-model", "tests-harness"]),
    ("tests-vm", &["tests-harness"]),
    ("deploy-xtask", &["tests-harness", "tests-notes", "tests-tidy", "tests-vm"]),
];

/// Crates that decide, and therefore build without the wire.
pub const WITHOUT_WIRE: &[&str] = &[
    "controller-conductor",
    "controller-evidence",
    "controller-planner",
    "controller-report",
    "controller-scheduler",
    "controller-store",
];

/// Packages that speak the wire.
pub const WIRE: &[&str] = &["tonic", "prost", "proto-wire", "proto-transport"];

/// Every package that a crate is built with, its own and its needs' needs; what only its tests need is left out.
pub fn packages_of(repository: &Path, member: &str) -> Result<BTreeSet<String>> {
    let needs = needs_of(repository, member, "{p}")?;
    Ok(needs
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// Features that turn on what only suites use.
pub const FOR_TESTS: &[&str] = &["fake", "testing"];

/// Packages of this workspace that a crate is built with and that have a feature for suites on.
pub fn built_for_tests(repository: &Path, member: &str) -> Result<BTreeSet<String>> {
    let needs = needs_of(repository, member, "{p}|{f}")?;
    let on = needs.iter().filter_map(|line| {
        let (package, features) = line.split_once('|')?;
        let features = features.trim_end_matches(" (*)");
        let (name, rest) = package.split_once(' ')?;
        let of_the_workspace = rest.contains(" (/");
        (of_the_workspace && features.split(',').any(|on| FOR_TESTS.contains(&on))).then(|| name.to_owned())
    });
    Ok(on.collect())
}

/// The programs that are shipped: what `cargo build` builds when nothing is named.
pub fn shipped(repository: &Path) -> Result<Vec<String>> {
    let workspace: toml::Table = fs::read_to_string(repository.join("Cargo.toml"))?.parse()?;
    let members = workspace["workspace"]["default-members"].as_array();
    let names = members.into_iter().flatten().filter_map(toml::Value::as_str);
    Ok(names.map(|folder| folder.replace('/', "-")).collect())
}

/// A line for each package that a crate is built with, as `cargo tree` writes it in this format.
fn needs_of(repository: &Path, member: &str, format: &str) -> Result<BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--package",
            member,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            format,
        ])
        .current_dir(repository)
        .output()
        .context("run cargo tree")?;
    ensure!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A crate as its manifest says.
#[derive(Debug)]
pub struct Crate {
    pub name: String,
    /// Below the repository, such as `agent/view`.
    pub folder: String,
    /// Crates of this workspace that it needs outside of its tests.
    pub needs: BTreeSet<String>,
    pub manifest: toml::Table,
}

/// Every crate of the five folders.
pub fn crates(repository: &Path) -> Result<Vec<Crate>> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(repository.join(folder))? {
            let path = entry?.path().join("Cargo.toml");
            if path.exists() {
                all.push(read(repository, &path).with_context(|| format!("read {}", path.display()))?);
            }
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let names: BTreeSet<String> = all.iter().map(|member| member.name.clone()).collect();
    all.iter_mut().for_each(|member| member.needs.retain(|need| names.contains(need)));
    Ok(all)
}

fn read(repository: &Path, path: &Path) -> Result<Crate> {
    let manifest: toml::Table = fs::read_to_string(path)?.parse()?;
    let folder = path.parent().unwrap_or(path).strip_prefix(repository)?.display().to_string();
    let name = manifest["package"]["name"].as_str().context("a package has a name")?.to_owned();
    let mut needs = BTreeSet::new();
    for section in sections(&manifest) {
        needs.extend(section.keys().cloned());
    }
    Ok(Crate {
        name,
        folder,
        needs,
        manifest,
    })
}

/// Dependencies of the crate itself and of its build, for every target.
fn sections(manifest: &toml::Table) -> Vec<&toml::Table> {
    let mut found: Vec<&toml::Table> = Vec::new();
    let targets = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(|targets| targets.values());
    let places = targets.filter_map(toml::Value::as_table).chain([manifest]);
    for place in places {
        found.extend(
            ["dependencies", "build-dependencies"]
                .iter()
                .filter_map(|name| place.get(*name)?.as_table()),
        );
    }
    found
}

/// Every arrow that the map does not allow, every crate that it does not know, and every one that is gone.
pub fn wrong(crates: &[Crate]) -> Vec<String> {
    let map: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(name, needs)| (*name, needs.iter().copied().collect()))
        .collect();
    let mut wrong = Vec::new();
    for member in crates {
        let Some(allowed) = map.get(member.name.as_str()) else {
            wrong.push(format!("{} is not on the map in tests/tidy/src/arrows.rs", member.name));
            continue;
        };
        let strangers = member.needs.iter().filter(|need| !allowed.contains(need.as_str()));
        wrong.extend(strangers.map(|need| format!("{} may not depend on {need}", member.name)));
        if member.name != member.folder.replace('/', "-") {
            wrong.push(format!("{} is in {}: the path is the name", member.name, member.folder));
        }
    }
    let gone = map.keys().filter(|name| !crates.iter().any(|member| member.name == **name));
    wrong.extend(gone.map(|name| format!("{name} is on the map and nowhere else")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, folder: &str, needs: &[&str]) -> Crate {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        Crate {
            name: name.into(),
            folder: folder.into(),
            needs,
            manifest: toml::Table::new(),
        }
    }

    #[test]
    fn an_arrow_the_wrong_way_is_found() {
        let all: Vec<Crate> = ALLOWED
            .iter()
            .map(|(name, _)| member(name, &name.replacen('-', "/", 1), &[]))
            .collect();
        assert!(wrong(&all).is_empty());
        let mut backwards = all;
        backwards.retain(|member| member.name != "agent-view");
        backwards.push(member("agent-view", "agent/view", &["agent-faults"]));
        assert_eq!(wrong(&backwards), ["agent-view may not depend on agent-faults"]);
        backwards.push(member("proto-common", "proto/common", &[]));
        assert!(wrong(&backwards)[1].starts_with("proto-common is not on the map"));
    }

    #[test]
    fn the_map_has_no_circle() {
        let map: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
        fn depth(map: &BTreeMap<&str, &[&str]>, name: &str, left: usize) -> bool {
            left > 0
                && map
                    .get(name)
                    .is_none_or(|needs| needs.iter().all(|need| depth(map, need, left - 1)))
        }
        for (name, _) in ALLOWED {
            assert!(depth(&map, name, ALLOWED.len()), "{name} stands on itself");
        }
    }
}
