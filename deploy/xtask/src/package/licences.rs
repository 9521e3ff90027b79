//! The licences of everything that is linked into a program: each text once, as the crates ship it, with the crates that it is of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::arch::Arch;
use crate::cargo;

/// How files with a licence begin, without case.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];
/// Larger ones are no licences.
const MOST_BYTES: u64 = 256 << 10;
const HEAD: &str = "This program contains the Rust standard library (MIT OR Apache-2.0, https://github.com/rust-lang/rust, COPYRIGHT)
and the crates below, with the C code that some of them bundle. Their licences come first, then the texts as
the crates ship them. The list is of all that may be linked in; it is not larger than what was built.
";

#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Crate {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
    /// `None` for the crates of this workspace.
    source: Option<String>,
    manifest_path: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` for what is linked in; else `dev` or `build`.
    kind: Option<String>,
}

impl Metadata {
    pub fn ask(arch: Arch) -> Result<Self> {
        let output = cargo::command(&["metadata", "--locked", "--format-version", "1", "--filter-platform", arch.triple()])?
            .output()
            .context("start cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("parse what cargo metadata says")
    }

    /// The file of one program, which is made by the crate `member`.
    pub fn licences(&self, member: &str) -> Result<String> {
        let crates = self.linked(member)?;
        let mut text = String::from(HEAD);
        let mut texts: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
        for one in crates {
            let name = format!("{} {}", one.name, one.version);
            let licence = one.license.as_deref().unwrap_or("see its licence file");
            let files = one.files()?;
            let without = if files.is_empty() { " (ships no licence text)" } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{name}: {licence}{without}");
            for file in files {
                let words: Vec<&str> = file.split_whitespace().collect();
                texts
                    .entry(words.join(" "))
                    .or_insert_with(|| (file, BTreeSet::new()))
                    .1
                    .insert(name.clone());
            }
        }
        for (file, names) in texts.into_values() {
            let names: Vec<String> = names.into_iter().collect();
            let _ = write!(text, "\n\n{}\n{}:\n\n{}", "-".repeat(80), names.join(", "), file.trim_end());
        }
        text.push('\n');
        Ok(text)
    }

    /// Crates of others that the member is linked with, in order of name.
    fn linked(&self, member: &str) -> Result<Vec<&Crate>> {
        let root = self.packages.iter().find(|one| one.source.is_none() && one.name == member);
        let root = root.with_context(|| format!("no crate {member} in this workspace"))?;
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let (mut open, mut found) = (vec![root.id.as_str()], BTreeSet::new());
        while let Some(id) = open.pop() {
            if !found.insert(id) {
                continue;
            }
            let linked = |one: &&Dependency| one.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let needs = nodes.get(id).into_iter().flat_map(|node| node.deps.iter().filter(linked));
            open.extend(needs.map(|one| one.pkg.as_str()));
        }
        let others = self
            .packages
            .iter()
            .filter(|one| one.source.is_some() && found.contains(one.id.as_str()));
        let mut others: Vec<&Crate> = others.collect();
        others.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
        Ok(others)
    }
}

impl Crate {
    /// The licence texts in the crate's folder, and the one that its manifest names.
    fn files(&self) -> Result<Vec<String>> {
        let folder = Path::new(&self.manifest_path).parent().context("a manifest is in a folder")?;
        let mut paths = BTreeSet::new();
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_lowercase();
            let small = entry.metadata().is_ok_and(|file| file.is_file() && file.len() <= MOST_BYTES);
            if small && !name.ends_with(".rs") && NAMES.iter().any(|start| name.starts_with(start)) {
                paths.insert(entry.path());
            }
        }
        paths.extend(self.license_file.as_ref().map(|file| folder.join(file)));
        let read = paths
            .iter()
            .map(|path| fs::read(path).with_context(|| format!("read {}", path.display())));
        read.map(|bytes| Ok(String::from_utf8_lossy(&bytes?).into_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_that_is_linked_is_named_and_each_text_comes_once() {
        let arch = if cfg!(target_arch = "x86_64") {
            Arch::X86_64
        } else {
            Arch::Aarch64
        };
        let text = Metadata::ask(arch).unwrap().licences("agent-daemon").unwrap();
        for name in ["\naws-lc-sys ", "\ntokio ", "\nrustls "] {
            assert!(text.contains(name), "{name}");
        }
        // Of suites and of other programs alone.
        for name in ["\nproptest ", "\nrusqlite ", "\nagent-view "] {
            assert!(!text.contains(name), "{name}");
        }
        assert!(text.contains("Permission is hereby granted"));
        let apache = text.matches("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION").count();
        assert!((1..40).contains(&apache), "{apache}");
    }
}
