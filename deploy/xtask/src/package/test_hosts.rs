//! The debs that are installed on virtual machines: those of a release, or those of programs that were built for the suites.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use tests_harness::programs;
use tests_vm::Suite;
use tests_vm::look::LOOK;

use super::arch::Arch;
use super::definition::Definitions;
use super::symbols::{self, Glibc};
use super::{OLDEST, Package, Purpose, empty, epoch, run, zig};

impl Package {
    /// Makes the packages of this tree for any C library, and returns a folder with the debs and the program that looks at a host.
    pub fn for_machines() -> Result<PathBuf> {
        let package = Self::of(OLDEST, Purpose::Release)?;
        package.run()?;
        let target = programs::target_folder()?;
        let folder = target.join("vm/packages");
        empty(&folder)?;
        for entry in fs::read_dir(target.join("package").join(package.target.rpm()))?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "deb") {
                fs::copy(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        let epoch = epoch(&programs::repository().canonicalize()?)?;
        // By itself: what it needs must not change what is in the packages.
        let built = zig::build(
            &[("tests-harness", LOOK)],
            package.target,
            package.glibc,
            &target.join("package-build"),
            epoch,
        )?;
        fs::copy(built.join(LOOK), folder.join(LOOK))?;
        Ok(folder)
    }

    /// Makes debs of the programs that were built for the suites, less what only a debugger reads.
    pub fn of_suites(suite: Suite) -> Result<PathBuf> {
        let target = programs::target_folder()?;
        let (work, folder) = (target.join("vm/suites-build"), target.join("vm/suites"));
        let stripped = work.join("programs");
        empty(&stripped)?;
        for package in Definitions::read(programs::repository())?.packages {
            let program = programs::find(&package.name)?;
            run(Command::new("strip")
                .args(["--strip-debug", "-o"])
                .arg(stripped.join(&package.name))
                .arg(program))?;
        }
        let mut package = Self::of(suite.glibc(), Purpose::Suites)?;
        package.binaries = Some(stripped);
        package.once(&work, &folder)?;
        Ok(folder)
    }

    /// Why one of these programs, as built for the suites, does not run on a host of this suite.
    pub fn unfit(suite: Suite, names: &[&str]) -> Result<Option<String>> {
        let has: Glibc = suite.glibc().parse().map_err(anyhow::Error::msg)?;
        for name in names {
            let needs = symbols::of(&programs::find(name)?, Arch::X86_64)?.glibc;
            if needs > has {
                let title = suite.title();
                return Ok(Some(format!(
                    "{name} as built on this machine needs glibc {needs}, and {title} has {has}"
                )));
            }
        }
        Ok(None)
    }

    fn of(glibc: &str, purpose: Purpose) -> Result<Self> {
        Ok(Self {
            target: Arch::X86_64,
            glibc: glibc.parse().map_err(anyhow::Error::msg)?,
            binaries: None,
            only: Vec::new(),
            twice: false,
            lint: false,
            purpose,
        })
    }
}
