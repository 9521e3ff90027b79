//! A folder that holds a whole site or the one before, never half of one; what is not ours is refused and left alone.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use proto_model::id::InstanceId;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::failure::Failure;

/// The file that every site of ours holds.
const MARKER: &str = ".fracas-site";

/// A site on its way into a folder. Dropped before its end, it leaves nothing.
pub struct SiteFolder {
    target: PathBuf,
    /// Beside the target, on the same file system.
    draft: PathBuf,
    files: usize,
}

impl SiteFolder {
    pub fn begin(dir: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::local(format!("cannot publish into {}: {error}", dir.display()));
        let name = dir
            .file_name()
            .ok_or_else(|| Failure::usage(format!("{} names no folder of its own", dir.display())))?;
        let parent = dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let parent = parent.canonicalize().map_err(failed)?;
        let target = parent.join(name);
        refuse_strangers(&target)?;
        let mut hidden = OsStr::new(".").to_owned();
        hidden.push(name);
        hidden.push(format!(".{}", InstanceId::generate()));
        let draft = parent.join(hidden);
        fs::create_dir(&draft).map_err(failed)?;
        Ok(Self { target, draft, files: 0 })
    }

    /// Files written so far.
    pub fn files(&self) -> usize {
        self.files
    }

    /// A file of the site; its path may only lead downwards.
    pub fn put(&mut self, path: &str, text: &str) -> Result<(), Failure> {
        let downwards = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !downwards || path.is_empty() {
            return Err(Failure::local(format!(
                "the controller sent a file named {path:?}, which leads out of the site"
            )));
        }
        let place = self.draft.join(path);
        let folder = place.parent().unwrap_or(&self.draft);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&place, text));
        written.map_err(|error| Failure::local(format!("cannot write {}: {error}", place.display())))?;
        self.files += 1;
        Ok(())
    }

    /// Puts the whole site in its place at once; the one before goes.
    pub fn finish(self) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| Failure::local(format!("cannot put the site into {}: {error}", self.target.display()));
        if fs::symlink_metadata(&self.target).is_err() {
            fs::rename(&self.draft, &self.target).map_err(failed)?;
            return Ok(self.target.clone());
        }
        refuse_strangers(&self.target)?;
        renameat_with(CWD, &self.draft, CWD, &self.target, RenameFlags::EXCHANGE).map_err(|error| failed(error.into()))?;
        // What stands where the draft was is the old site; dropping removes it.
        Ok(self.target.clone())
    }
}

impl Drop for SiteFolder {
    fn drop(&mut self) {
        // It may be in its place already, and an empty leftover harms nobody.
        let _ = fs::remove_dir_all(&self.draft);
    }
}

/// Only a folder that is not there, is empty, or holds a site of ours may be replaced.
fn refuse_strangers(target: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| Failure::usage(format!("{} {why}; nothing was written", target.display()));
    let found = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refuse(&format!("cannot be looked at: {error}"))),
        Ok(found) => found,
    };
    if !found.is_dir() {
        return Err(refuse("is no folder"));
    }
    let mut entries = fs::read_dir(target).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    if entries.next().is_none() || target.join(MARKER).is_file() {
        return Ok(());
    }
    Err(refuse("holds something that `fracas publish` did not write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(dir: &Path, text: &str) -> Result<PathBuf, Failure> {
        let mut folder = SiteFolder::begin(dir)?;
        folder.put(MARKER, "")?;
        folder.put("runs/a.html", text)?;
        folder.finish()
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_site_replaces_only_a_site_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("site");
        site(&dir, "one").unwrap();
        fs::write(dir.join("runs/old.html"), "of a run that is gone").unwrap();
        site(&dir, "two").unwrap();
        assert_eq!(fs::read_to_string(dir.join("runs/a.html")).unwrap(), "two");
        assert_eq!(
            (entries(root.path()), entries(&dir.join("runs"))),
            (vec!["site".to_owned()], vec!["a.html".to_owned()])
        );
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("home");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("thesis.txt"), "years").unwrap();
        let refused = site(&dir, "x").unwrap_err();
        assert!(
            refused.exit == proto_model::exit::USAGE && refused.error.message.contains("home"),
            "{refused:?}"
        );
        assert_eq!(
            (entries(root.path()), entries(&dir)),
            (vec!["home".to_owned()], vec!["thesis.txt".to_owned()])
        );
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(site(&file, "x").is_err() && site(Path::new(".."), "x").is_err());
        let empty = root.path().join("empty");
        fs::create_dir(&empty).unwrap();
        site(&empty, "x").unwrap();
    }

    #[test]
    fn half_a_site_is_none() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("site");
        site(&dir, "one").unwrap();
        let mut half = SiteFolder::begin(&dir).unwrap();
        half.put("runs/a.html", "two").unwrap();
        for path in ["../out", "/out", "", "a/../../out"] {
            assert!(half.put(path, "x").is_err(), "{path}");
        }
        drop(half);
        assert_eq!(fs::read_to_string(dir.join("runs/a.html")).unwrap(), "one");
        assert_eq!(entries(root.path()), ["site"]);
    }
}
