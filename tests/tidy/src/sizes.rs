//! How large files and functions may grow: past the marks they must be listed with their present size, and may only shrink.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::{Source, sources};

/// Lines past which a file is asking to be split, its tests included.
pub const FILE_LINES: usize = 500;
/// Lines past which a function is.
pub const FUNCTION_LINES: usize = 70;
const RATCHET: &str = "tests/tidy/ratchet.toml";
const HEAD: &str =
    "# What is larger than it should be, with its size in lines. Entries shrink and go; `cargo xtask tidy --ratchet` lowers them.\n\n";

/// Everything past a mark: `PATH` or `PATH FUNCTION`, and its lines.
pub type Sizes = BTreeMap<String, usize>;

/// What is too large today.
pub fn oversized(sources: &[Source]) -> Sizes {
    let mut sizes = Sizes::new();
    for source in sources {
        let lines = source.text.lines().count();
        if lines > FILE_LINES {
            sizes.insert(source.path.clone(), lines);
        }
        for (name, lines) in functions(&source.text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES) {
            let size = sizes.entry(format!("{} {name}", source.path)).or_default();
            *size = lines.max(*size);
        }
    }
    sizes
}

/// Functions by name with the lines from their head to their closing brace, told apart by indentation: formatted code closes
/// a function at the column where it opened.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}}}");
        let one_line = line.trim_end().ends_with('}') || line.trim_end().ends_with(';');
        let end = if one_line {
            Some(0)
        } else {
            lines[start..]
                .iter()
                .position(|line| *line == close || *line == format!("{indent}) -> Self;"))
        };
        if let Some(length) = end {
            found.push((name.to_owned(), length + 1));
        }
    }
    found
}

/// The name, if a function begins on this line.
fn function(line: &str) -> Option<&str> {
    let (head, rest) = line.split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    let is_head = head.split_whitespace().all(|word| words.contains(&word));
    is_head.then(|| rest.split(['(', '<']).next()).flatten()
}

/// What is larger than the ratchet allows, or listed and no longer too large.
pub fn wrong(sizes: &Sizes, ratchet: &Sizes) -> Vec<String> {
    let grown = sizes.iter().filter_map(|(what, lines)| match ratchet.get(what) {
        None => Some(format!("{what} has {lines} lines: split it")),
        Some(most) if lines > most => Some(format!("{what} has grown from {most} to {lines} lines: split it")),
        Some(_) => None,
    });
    let slack = ratchet.iter().filter_map(|(what, most)| match sizes.get(what) {
        None => Some(format!(
            "{what} is no longer too large: lower the ratchet (cargo xtask tidy --ratchet)"
        )),
        Some(lines) if lines < most => Some(format!(
            "{what} has shrunk from {most} to {lines} lines: lower the ratchet (cargo xtask tidy --ratchet)"
        )),
        Some(_) => None,
    });
    grown.chain(slack).collect()
}

pub fn read_ratchet(repository: &Path) -> Result<Sizes> {
    let text = fs::read_to_string(repository.join(RATCHET)).with_context(|| format!("read {RATCHET}"))?;
    toml::from_str(&text).with_context(|| format!("read {RATCHET}"))
}

/// Writes today's sizes down, never a larger one for what is listed already.
pub fn write_ratchet(repository: &Path) -> Result<()> {
    let old = read_ratchet(repository).unwrap_or_default();
    let mut text = HEAD.to_owned();
    for (what, lines) in oversized(&sources(repository)?) {
        text += &format!("{what:?} = {}\n", old.get(&what).map_or(lines, |most| lines.min(*most)));
    }
    fs::write(repository.join(RATCHET), text).with_context(|| format!("write {RATCHET}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_to_their_brace() {
        let text = "impl X {\n    pub fn one(&self) -> u8 {\n        1\n    }\n\n    const fn two() {}\n}\n\npub async fn three<T>(\n    t: T,\n) where\n    T: Y,\n{\n    let f = |x| {\n        x\n    };\n}\n";
        let found = functions(text);
        assert_eq!(found, [("one".to_owned(), 3), ("two".to_owned(), 1), ("three".to_owned(), 9)]);
        assert!(functions("// a fn is not here\nlet fn_ = 1;\n").is_empty());
    }

    #[test]
    fn the_ratchet_only_turns_one_way() {
        let sizes = |entries: &[(&str, usize)]| entries.iter().map(|(what, lines)| ((*what).to_owned(), *lines)).collect::<Sizes>();
        assert!(wrong(&sizes(&[("a.rs", 600)]), &sizes(&[("a.rs", 600)])).is_empty());
        assert_eq!(wrong(&sizes(&[("a.rs", 601)]), &sizes(&[("a.rs", 600)])).len(), 1);
        assert_eq!(wrong(&sizes(&[("a.rs", 501)]), &sizes(&[])).len(), 1);
        assert!(wrong(&sizes(&[("a.rs", 599)]), &sizes(&[("a.rs", 600)]))[0].contains("lower the ratchet"));
        assert!(wrong(&sizes(&[]), &sizes(&[("a.rs", 600)]))[0].contains("lower the ratchet"));
    }
}
