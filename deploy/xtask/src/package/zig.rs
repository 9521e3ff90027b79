//! Builds the programs for old C libraries, with zig as compiler and linker; both are installed below the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests_harness::programs;
use tests_harness::python::PythonTools;

use super::arch::Arch;
use super::symbols::Glibc;
use crate::cargo;

/// From PyPI, which has both as programs for this machine.
const TOOLS: PythonTools = PythonTools {
    name: "zig",
    packages: &["ziglang==0.15.2", "cargo-zigbuild==0.24.1"],
};

/// Builds these programs, each named with its crate, below `target`, and returns the folder that they are in.
pub fn build(programs: &[(&str, &str)], arch: Arch, glibc: Glibc, target: &Path, epoch: u64) -> Result<PathBuf> {
    let tools = TOOLS
        .ensure()
        .context("get zig and cargo-zigbuild (or give --binaries with programs that were built elsewhere)")?;
    add_rust_target(arch)?;
    let triple = format!("{}.{glibc}", arch.triple());
    let mut build = cargo::command(&["zigbuild", "--release", "--locked", "--target", &triple])?;
    for (member, name) in programs {
        build.args(["--package", member, "--bin", name]);
    }
    build
        .envs(tools.environment())
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ZIGBUILD_ZIG_PATH", tools.folder().join("ziglang/zig"))
        .env("CARGO_ZIGBUILD_CACHE_DIR", tools.folder().join("cache/wrappers"))
        .env("ZIG_GLOBAL_CACHE_DIR", tools.folder().join("cache/global"))
        .env("ZIG_LOCAL_CACHE_DIR", tools.folder().join("cache/local"))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("CARGO_ENCODED_RUSTFLAGS", remapped("--remap-path-prefix=", target)?.join("\u{1f}"))
        .env("CFLAGS", remapped("-ffile-prefix-map=", target)?.join(" "));
    let (status, _) = cargo::watch(build)?;
    ensure!(status.success(), "the programs could not be built for {triple}");
    Ok(target.join(arch.triple()).join("release"))
}

/// No path of this machine goes into a program.
fn remapped(flag: &str, target: &Path) -> Result<Vec<String>> {
    let repository = programs::repository().canonicalize()?;
    let home = |variable: &str, default: &str| {
        let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(default));
        std::env::var_os(variable).map(PathBuf::from).or(own)
    };
    let mut places = vec![(repository, "/fracas"), (target.to_owned(), "/target")];
    places.extend(home("CARGO_HOME", ".cargo").map(|path| (path, "/cargo")));
    places.extend(home("RUSTUP_HOME", ".rustup").map(|path| (path, "/rustup")));
    Ok(places
        .into_iter()
        .map(|(path, name)| format!("{flag}{}={name}", path.display()))
        .collect())
}

/// Rust's own library for that processor.
fn add_rust_target(arch: Arch) -> Result<()> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().context("start rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(arch.triple()).exists() {
        return Ok(());
    }
    let status = Command::new("rustup").args(["target", "add", arch.triple()]).status();
    ensure!(
        status.context("start rustup")?.success(),
        "rustup could not add the target {}, without which nothing can be built for {}",
        arch.triple(),
        arch.rpm()
    );
    Ok(())
}
