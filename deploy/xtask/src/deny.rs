//! cargo-deny for the rung of licences and sources: the machine's own, or one installed below the target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use tests_harness::programs;

use crate::cargo;
use crate::summary::{Counts, Outcome};

/// The version that deny.toml is written for.
const VERSION: &str = "0.20.2";
/// Checks that need no network once the dependencies are here.
const CHECKS: [&str; 5] = ["--offline", "check", "bans", "licenses", "sources"];
/// What this rung never checks, for the summary.
pub const LEFT_OUT: &str = "advisories are not checked: their database needs a network";

pub fn run() -> Result<Outcome> {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    // A clean clone may not have what only other targets need, and the checks themselves ask no network.
    let fetched = cargo::command(&["fetch", "--locked", "--quiet"])?
        .status()
        .context("start cargo fetch")?;
    if !fetched.success() {
        return Ok(Outcome::Skipped(
            "cargo fetch failed: dependencies of other targets are missing".to_owned(),
        ));
    }
    let mut command = Command::new(program);
    command.args(CHECKS).current_dir(programs::repository());
    let (status, _) = cargo::watch(command)?;
    let success = status.success();
    let counts = Counts {
        passed: success.into(),
        failed: (!success).into(),
    };
    Ok(Outcome::ran(success, counts))
}

/// Of exactly our version, so that one machine never accepts what another refuses.
fn program() -> Result<PathBuf> {
    let root = programs::target_folder()?.join("tools");
    for program in [PathBuf::from("cargo-deny"), root.join("bin/cargo-deny")] {
        if is_our_version(&program) {
            return Ok(program);
        }
    }
    eprintln!(
        "installing cargo-deny {VERSION} below {} (once; takes some minutes)",
        root.display()
    );
    let target = root.join("build");
    let installed = cargo::command(&["install", "--locked", "--quiet", "cargo-deny", "--version", VERSION, "--root"])?
        .arg(&root)
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("start cargo install")?;
    std::fs::remove_dir_all(&target).ok();
    anyhow::ensure!(
        installed.success(),
        "cargo-deny {VERSION} is missing and could not be installed: cargo install --locked cargo-deny --version {VERSION}"
    );
    Ok(root.join("bin/cargo-deny"))
}

fn is_our_version(program: &PathBuf) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).trim() == format!("cargo-deny {VERSION}"))
}
