//! Finds the repository and the Rust files that people wrote; generated ones and build output are left out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The five folders that hold all code.
pub const FOLDERS: [&str; 5] = ["proto", "agent", "controller", "deploy", "tests"];

/// A Rust file by its path below the repository.
#[derive(Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every hand-written Rust file, in order of path.
pub fn sources(repository: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        walk(repository, &repository.join(folder), &mut found)?;
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn walk(repository: &Path, folder: &Path, found: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "generated" && name != "target" {
                walk(repository, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            found.push(Source {
                path: path.strip_prefix(repository)?.display().to_string(),
                text,
            });
        }
    }
    Ok(())
}
