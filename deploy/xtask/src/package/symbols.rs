//! What a program needs of the host's C library: the newest versioned symbol, and the libraries that it loads.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use super::arch::Arch;

/// A version of glibc, such as 2.17.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(u32, u32);

impl FromStr for Glibc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => Ok(Self(major, minor)),
            _ => Err(format!("{text:?} is no version of glibc: expected one such as 2.17")),
        }
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Needs {
    pub glibc: Glibc,
    pub libraries: BTreeSet<String>,
}

/// Reads a program of `arch`.
pub fn of(program: &Path, arch: Arch) -> Result<Needs> {
    let readelf = Command::new("readelf")
        .args(["--wide", "--file-header", "--dynamic", "--version-info"])
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("start readelf (package binutils)")?;
    ensure!(
        readelf.status.success(),
        "readelf {}: {}",
        program.display(),
        String::from_utf8_lossy(&readelf.stderr).trim()
    );
    let said = String::from_utf8_lossy(&readelf.stdout);
    ensure!(
        said.lines()
            .any(|line| line.trim_start().starts_with("Machine:") && line.contains(arch.machine())),
        "{} is not a program for {}",
        program.display(),
        arch.rpm()
    );
    parse(&said).with_context(|| format!("{} needs no version of glibc", program.display()))
}

fn parse(readelf: &str) -> Option<Needs> {
    let versions = readelf.split("Name: GLIBC_").skip(1).filter_map(|rest| {
        let text = rest.split_whitespace().next()?;
        Glibc::from_str(text).ok()
    });
    let libraries = readelf
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned()));
    Some(Needs {
        glibc: versions.max()?,
        libraries: libraries.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts_and_versions_are_numbers() {
        let said = " 0x01 (NEEDED)  Shared library: [libc.so.6]\n\
                    0x0020:   Name: GLIBC_2.9  Flags: none  Version: 3\n  0x0030:   Name: GLIBC_2.17  Flags: none  Version: 2\n\
                    0x0040:   Name: GLIBC_PRIVATE  Flags: none  Version: 4\n";
        let needs = parse(said).unwrap();
        assert_eq!(needs.glibc, Glibc(2, 17));
        assert_eq!(needs.glibc.to_string(), "2.17");
        assert_eq!(needs.libraries, BTreeSet::from(["libc.so.6".to_owned()]));
        assert!(Glibc(2, 9) < Glibc(2, 17) && Glibc::from_str("2").is_err());
    }

    #[test]
    fn a_program_of_this_machine_is_read() {
        let arch = if cfg!(target_arch = "x86_64") {
            Arch::X86_64
        } else {
            Arch::Aarch64
        };
        let other = if arch == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 };
        let own = std::env::current_exe().unwrap();
        assert!(of(&own, arch).unwrap().libraries.contains("libc.so.6"));
        assert!(of(&own, other).unwrap_err().to_string().contains("is not a program for"));
    }
}
