//! ansible-lint on the Ansible role and its playbooks, as a fleet's own pipeline would run it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests_harness::programs;
use tests_harness::python::{ANSIBLE_CORE, PythonTools};

use crate::cargo;

/// Both from PyPI: Debian's are of another version on each release.
const TOOLS: PythonTools = PythonTools {
    name: "ansible-lint",
    packages: &[ANSIBLE_CORE, "ansible-lint==25.12.0"],
};
const ROLE: &str = "deploy/ansible";

/// Fails on anything that the profile of the folder's own settings does not allow.
pub fn lint(repository: &Path) -> Result<()> {
    let tools = TOOLS.ensure()?;
    // Both keep what they have worked out beside the playbooks, or here.
    let home = programs::target_folder()?.join("tools/ansible-home");
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    let environment = tools
        .environment()
        .into_iter()
        .chain([("ANSIBLE_HOME", home.display().to_string())]);
    let mut lint = Command::new(tools.program("ansible-lint"));
    lint.current_dir(repository.join(ROLE)).envs(environment).args(["--nocolor"]);
    let (status, _) = cargo::watch(lint)?;
    ensure!(status.success(), "ansible-lint complains");
    Ok(())
}
