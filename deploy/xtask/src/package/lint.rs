//! lintian and rpmlint on finished packages, with the exceptions of deploy/packages/lint and their reasons.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{rpm, run};
use crate::cargo;

/// Both are Debian packages of these names, and are installed where they are missing: their libraries run from nowhere else.
const TOOLS: [&str; 2] = ["lintian", "rpmlint"];

/// Fails on anything that is not excepted.
pub fn lint(repository: &Path, files: &[PathBuf]) -> Result<()> {
    ensure_tools()?;
    let of = |extension: &'static str| files.iter().filter(move |file| file.extension().is_some_and(|e| e == extension));
    let mut lintian = Command::new("lintian");
    lintian.args([
        "--allow-root",
        "--tag-display-limit=0",
        "--fail-on",
        "error,warning,info",
        "--display-info",
    ]);
    lintian
        .arg("--suppress-tags-from-file")
        .arg(repository.join("deploy/packages/lintian.tags"));
    lintian.args(of("deb"));
    let mut rpmlint = Command::new("rpmlint");
    rpmlint
        .arg("--strict")
        .arg("--config")
        .arg(repository.join("deploy/packages/rpmlint.toml"));
    rpmlint.args(of("rpm"));
    rpm::environment(&mut rpmlint)?;
    for command in [lintian, rpmlint] {
        let name = command.get_program().to_string_lossy().into_owned();
        let (status, _) = cargo::watch(command)?;
        ensure!(status.success(), "{name} complains");
    }
    Ok(())
}

fn ensure_tools() -> Result<()> {
    let there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok_and(|said| said.status.success());
    let missing: Vec<&str> = TOOLS.iter().filter(|tool| !there(tool)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    ensure!(
        nix::unistd::geteuid().is_root(),
        "{names} is not installed: apt-get install {names}"
    );
    eprintln!("installing {names}");
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing);
    run(install.env("DEBIAN_FRONTEND", "noninteractive")).with_context(|| format!("install {names} (apt-get update may be needed first)"))
}
