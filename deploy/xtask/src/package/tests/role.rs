//! The variables of the Ansible role: each has a default, a specification and a row in the manual.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use tests_harness::programs;

/// The names at the beginning of lines that are this far in.
fn keys(text: &str, indent: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.strip_prefix(indent)?.split_once(':'));
    names
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("fracas_agent_"))
        .collect()
}

#[test]
fn every_variable_of_the_role_is_specified_and_in_the_manual() -> Result<()> {
    let read = |path: &str| fs::read_to_string(programs::repository().join("deploy/ansible").join(path));
    let defaults = keys(&read("roles/fracas_agent/defaults/main.yml")?, "");
    assert!(defaults.len() > 10, "{defaults:?}");
    assert_eq!(defaults, keys(&read("roles/fracas_agent/meta/argument_specs.yml")?, "      "));
    let manual = read("README.md")?;
    let rows: BTreeSet<String> = manual
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(defaults, rows);
    Ok(())
}
