//! Deliberate bugs, described as text to find and its replacement, each with the tests or cases that must fail while it is in the tree.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Relative to the repository; one file for each bug.
pub const FOLDER: &str = "tests/planted";

/// One bug.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planted {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What is wrong while it is planted.
    pub bug: String,
    /// The package of the suite that must notice, as cargo names it.
    pub package: String,
    /// Functions of that suite, all of which pass without the bug and at least one of which fails with it.
    #[serde(default)]
    pub tests: BTreeSet<String>,
    /// Instead of tests: cases of the rung vm, which is the suite of the package tests-vm.
    #[serde(default)]
    pub cases: BTreeSet<String>,
    #[serde(rename = "change")]
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub file: String,
    /// Occurs exactly once in the file.
    pub find: String,
    pub replace: String,
}

impl Change {
    /// The file's text with the bug.
    pub fn plant(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.find).count();
        ensure!(count == 1, "{}: found {count} times, expected once: {:?}", self.file, self.find);
        let planted = text.replacen(&self.find, &self.replace, 1);
        ensure!(planted != text, "{}: the replacement changes nothing", self.file);
        Ok(planted)
    }
}

/// Every bug, by name.
pub fn all(repository: &Path) -> Result<Vec<Planted>> {
    let folder = repository.join(FOLDER);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut planted: Planted = toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        planted.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.push(planted);
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// What of a description does not fit the tree any more.
pub fn wrong(planted: &Planted, repository: &Path, package_folder: Option<&Path>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |why: String| wrong.push(format!("{FOLDER}/{}.toml: {why}", planted.name));
    if planted.changes.is_empty() || planted.tests.is_empty() == planted.cases.is_empty() {
        say("a bug needs a change, and either tests or cases".to_owned());
    }
    for change in &planted.changes {
        let text = std::fs::read_to_string(repository.join(&change.file)).context("read the file");
        if let Err(error) = text.and_then(|text| change.plant(&text)) {
            say(format!("{error:#}"));
        }
    }
    let Some(folder) = package_folder else {
        say(format!("there is no package {}", planted.package));
        return wrong;
    };
    let sources = crate::files::sources(repository).unwrap_or_default();
    let of_package = |path: &str| repository.join(path).starts_with(folder);
    let tests = planted.tests.iter().map(|test| (format!("fn {test}("), "test", test));
    let cases = planted.cases.iter().map(|case| (format!("name: \"{case}\","), "case", case));
    for (text, kind, name) in tests.chain(cases) {
        if !sources.iter().any(|source| of_package(&source.path) && source.text.contains(&text)) {
            say(format!("{} has no {kind} {name}", planted.package));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_planted_only_where_its_text_is_found_once() {
        let change = |find: &str, replace: &str| Change {
            file: "a.rs".into(),
            find: find.into(),
            replace: replace.into(),
        };
        assert_eq!(change("b", "x").plant("a b c").unwrap(), "a x c");
        assert!(change("b", "x").plant("b b").is_err());
        assert!(change("d", "x").plant("a b c").is_err());
        assert!(change("b", "b").plant("a b c").is_err());
    }
}
