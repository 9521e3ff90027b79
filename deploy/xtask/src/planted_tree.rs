//! A copy of the tree in which bugs are planted: its files follow those of the tree, and whatever is built of it lies beside nothing of ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests_harness::{packages, programs};

use crate::cargo;

/// A copy of the tree below the target folder, with a target folder of its own: what is built with a bug in it never lies beside ours.
pub struct PlantedTree {
    pub tree: PathBuf,
    target: PathBuf,
    root: PathBuf,
}

impl PlantedTree {
    pub fn create(root: &Path) -> Result<Self> {
        let planted = Self::of(&programs::target_folder()?.join("planted"), root);
        fs::create_dir_all(&planted.tree)?;
        planted.copy()?;
        planted.take_dependencies()?;
        Ok(planted)
    }

    /// The copy in a folder, as it is there.
    pub fn of(folder: &Path, root: &Path) -> Self {
        Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
            root: root.to_owned(),
        }
    }

    /// Where tests of the copy leave their notes.
    pub fn notes(&self) -> PathBuf {
        self.target.join("notes.jsonl")
    }

    /// What is built of the dependencies is the same in both trees; without it each would be built once more.
    fn take_dependencies(&self) -> Result<()> {
        let profile = programs::profile_folder()?;
        let to = self.target.join(profile.file_name().context("a profile has a name")?);
        if to.exists() {
            return Ok(());
        }
        fs::create_dir_all(&to)?;
        for folder in ["deps", "build", ".fingerprint"] {
            let copied = Command::new("cp")
                .args(["--archive", "--reflink=auto"])
                .args([profile.join(folder), to.join(folder)])
                .status()
                .context("start cp")?;
            ensure!(copied.success(), "cp could not copy {}", profile.join(folder).display());
        }
        Ok(())
    }

    /// Images of hosts are the same for both trees, and are never written to.
    pub fn take_images(&self) -> Result<()> {
        let (from, to) = (programs::target_folder()?.join("vm"), self.target.join("vm"));
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from).into_iter().flatten().flatten() {
            let folder = to.join(entry.file_name());
            if !entry.path().join("disk").exists() || folder.exists() {
                continue;
            }
            let linked = Command::new("cp")
                .args(["--archive", "--link"])
                .args([&entry.path(), &folder])
                .status();
            ensure!(
                linked.context("start cp")?.success(),
                "cp could not link {}",
                entry.path().display()
            );
        }
        Ok(())
    }

    /// Writes only what differs, so that cargo builds only what has changed.
    fn copy(&self) -> Result<()> {
        let files = self.files()?;
        for file in &files {
            let to = self.tree.join(file);
            let from = fs::read(self.root.join(file)).with_context(|| format!("read {}", file.display()))?;
            if fs::read(&to).ok().as_ref() != Some(&from) {
                fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
                fs::write(&to, from)?;
                let mode = fs::metadata(self.root.join(file))?.permissions();
                fs::set_permissions(&to, mode)?;
            }
        }
        remove_others(&self.tree, &self.tree, &files)
    }

    /// What git tracks or would track.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()
            .context("start git")?;
        ensure!(
            listed.status.success(),
            "git ls-files: {}",
            String::from_utf8_lossy(&listed.stderr).trim()
        );
        let names = String::from_utf8(listed.stdout).context("file names are UTF-8")?;
        let names = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // A file that is deleted and not committed yet is listed still.
        Ok(names.filter(|name| self.root.join(name).is_file()).collect())
    }

    /// Cargo in the copy, which builds there everything that it runs.
    pub fn cargo(&self, arguments: &[&str]) -> Result<Command> {
        let mut cargo = cargo::command(arguments)?;
        cargo
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("PATH", packages::path())
            .env_remove(programs::BUILT);
        Ok(cargo)
    }
}

/// Removes files of the copy that the tree has no more.
fn remove_others(folder: &Path, tree: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, tree, files)?;
        } else if !files.contains(path.strip_prefix(tree)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
