//! Finds the workspace's own programs, building them once when they are not there; it never uses one from elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Set by whoever built everything already: then nothing is built again.
pub const BUILT: &str = "FRACAS_BUILT";

/// Every program and the package that makes it.
pub const PACKAGES: [(&str, &str); 6] = [
    ("fracas", "controller-cli"),
    ("fracas-controller", "controller-daemon"),
    ("fracas-agent", "agent-daemon"),
    ("fracas-test-host", "tests-harness"),
    ("fracas-test-greeting", "tests-harness"),
    ("fracas-test-fleet", "tests-fleet"),
];

static UP_TO_DATE: Mutex<bool> = Mutex::new(false);

/// The path of a program of this workspace, of the profile this process was built in.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = profile_folder()?.join(name);
    build_all(Loudness::Quiet)?;
    if !path.exists() {
        bail!("{} is not built", path.display());
    }
    Ok(path)
}

/// Whether cargo shows its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    Quiet,
    Progress,
}

/// Builds every program in the profile of this process, once; nothing to do when somebody says that it is done.
pub fn build_all(loudness: Loudness) -> Result<()> {
    let mut done = UP_TO_DATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    // Together: cargo resolves features for what it builds together, and would build again what it built apart.
    cargo_build(loudness)?;
    *done = true;
    Ok(())
}

fn cargo_build(loudness: Loudness) -> Result<()> {
    if std::env::var_os(BUILT).is_some() {
        return Ok(());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").current_dir(repository());
    if loudness == Loudness::Quiet {
        cargo.arg("--quiet");
    }
    for (name, package) in PACKAGES {
        cargo.args(["--package", package, "--bin", name]);
    }
    let profile = profile_folder()?;
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let status = cargo.status().context("start cargo")?;
    if !status.success() {
        bail!("cargo could not build the programs");
    }
    Ok(())
}

/// The folder of this profile's programs, such as target/debug.
pub fn profile_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().context("a program is in a folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.to_owned())
}

/// The target folder.
pub fn target_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    Ok(profile.parent().unwrap_or(&profile).to_owned())
}

pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
