//! A folder that holds a whole site or the one before, never half of one; what is not ours is refused and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use proto_model::id::{InstanceId, sha256_text};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::catalogue::{self, Catalogue, Entry, PageOfRun, Seen, leads_downwards};
use crate::failure::Failure;

/// The file that every site of ours holds.
const MARKER: &str = ".fracas-site";

/// A site on its way into a folder. Dropped before its end, it leaves nothing.
pub struct SiteFolder {
    target: PathBuf,
    /// Beside the target, on the same file system; there with the first file that is written.
    draft: PathBuf,
    /// What stands there.
    before: Catalogue,
    /// What the new site is made of, by path.
    site: BTreeMap<String, Entry>,
    /// Of these, what is in the draft.
    written: BTreeSet<String>,
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
        let before = Catalogue::of(&target);
        // A folder in which nothing can be made is an error before anything is asked.
        fs::create_dir(&draft).and_then(|()| fs::remove_dir(&draft)).map_err(failed)?;
        Ok(Self {
            target,
            draft,
            before,
            site: BTreeMap::new(),
            written: BTreeSet::new(),
        })
    }

    /// Files of the new site so far.
    pub fn files(&self) -> usize {
        self.site.len()
    }

    /// Of these, those that are not there yet.
    pub fn written(&self) -> usize {
        self.written.len()
    }

    /// What stands there.
    pub fn before(&self) -> &Catalogue {
        &self.before
    }

    /// The digest of a file of the new site.
    pub fn digest(&self, path: &str) -> Option<&str> {
        self.site.get(path).map(|entry| entry.digest.as_str())
    }

    /// A file of the site; its path may only lead downwards. What stands there already is not written again.
    pub fn put(&mut self, path: &str, text: &str, run: Option<PageOfRun>) -> Result<(), Failure> {
        if !leads_downwards(path) {
            return Err(Failure::local(format!(
                "the controller sent a file named {path:?}, which leads out of the site"
            )));
        }
        let digest = sha256_text(text.as_bytes());
        let (path, kept) = (path.to_owned(), self.before.entries.get(path));
        let seen = match kept.filter(|kept| kept.digest == digest) {
            Some(kept) => kept.seen,
            None => {
                let seen = self.write(&path, text);
                self.written.insert(path.clone());
                seen.map_err(|error| Failure::local(format!("cannot write {}: {error}", self.draft.join(&path).display())))?
            }
        };
        let entry = Entry {
            path: path.clone(),
            digest,
            run,
            seen,
        };
        self.site.insert(path, entry);
        Ok(())
    }

    fn write(&self, path: &str, text: &str) -> io::Result<Seen> {
        let place = self.draft.join(path);
        fs::create_dir_all(place.parent().unwrap_or(&self.draft))?;
        // Only its owner may write it in place, whatever the umask says.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&place)?;
        file.write_all(text.as_bytes())?;
        Seen::of(&place)
    }

    /// Takes over a file that stands there as it was written; false where there is none.
    pub fn keep(&mut self, path: &str) -> bool {
        let Some(entry) = self.before.entries.get(path) else {
            return false;
        };
        self.site.entry(path.to_owned()).or_insert_with(|| entry.clone());
        true
    }

    /// Puts the whole site in its place at once; the one before goes. Nothing is written where it stands already.
    pub fn finish(mut self, maker: &str) -> Result<PathBuf, Failure> {
        let target = self.target.clone();
        let failed = |error: io::Error| Failure::local(format!("cannot put the site into {}: {error}", target.display()));
        let stands = self.written.is_empty() && self.is_all_there_is().map_err(failed)?;
        if !stands {
            self.link_kept()?;
            self.put_in_place()?;
        }
        if !stands || self.before.outdated || self.before.maker != maker {
            // Without it the next site is made as a whole.
            let _ = Catalogue::write(&self.target, maker, self.site.values());
        }
        Ok(self.target.clone())
    }

    /// Whether nothing else stands there: what is no part of the site goes.
    fn is_all_there_is(&self) -> io::Result<bool> {
        let (mut open, mut found) = (vec![self.target.clone()], 0);
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                let below = path.strip_prefix(&self.target).ok().and_then(Path::to_str).unwrap_or_default();
                if entry.file_type()?.is_dir() {
                    open.push(path);
                } else if self.site.contains_key(below) {
                    found += 1;
                } else if below != catalogue::FILE {
                    return Ok(false);
                }
            }
        }
        Ok(found == self.site.len())
    }

    /// What is kept is in both sites until the one before is gone. It must be what was looked at when the publication began.
    fn link_kept(&mut self) -> Result<(), Failure> {
        let target = self.target.clone();
        let failed = |path: &str, what: &str| {
            let place = target.join(path);
            Failure::local(format!(
                "cannot keep {}: {what}; nothing was published; publish again",
                place.display()
            ))
        };
        let mut made = PathBuf::new();
        for (path, entry) in self.site.iter_mut().filter(|(path, _)| !self.written.contains(*path)) {
            let (from, to) = (self.target.join(path), self.draft.join(path));
            let folder = to.parent().unwrap_or(&self.draft);
            if made != folder {
                fs::create_dir_all(folder).map_err(|error| failed(path, &error.to_string()))?;
                made = folder.to_owned();
            }
            // Before a link of ours gives it another time of change.
            let now = Seen::of(&from).map_err(|error| failed(path, &error.to_string()))?;
            if now != entry.seen {
                return Err(failed(path, "it was changed meanwhile"));
            }
            // Not every file system has links.
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(|error| failed(path, &error.to_string()))?;
                entry.seen = Seen::of(&to).map_err(|error| failed(path, &error.to_string()))?;
            }
        }
        Ok(())
    }

    fn put_in_place(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::local(format!("cannot put the site into {}: {error}", self.target.display()));
        if fs::symlink_metadata(&self.target).is_err() {
            return fs::rename(&self.draft, &self.target).map_err(failed);
        }
        refuse_strangers(&self.target)?;
        renameat_with(CWD, &self.draft, CWD, &self.target, RenameFlags::EXCHANGE).map_err(|error| failed(error.into()))?;
        // The old site stands where the draft was. What is left of it does no harm.
        let _ = fs::remove_dir_all(&self.draft);
        Ok(())
    }
}

impl Drop for SiteFolder {
    fn drop(&mut self) {
        // It may be in its place already, or was never begun.
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
        folder.put(MARKER, "", None)?;
        folder.put("runs/a.html", text, None)?;
        folder.finish("us")
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

    /// Its files with their inodes and times: what is written in any way is another one.
    fn looks(dir: &Path) -> BTreeMap<String, Seen> {
        let (mut open, mut found) = (vec![dir.to_owned()], BTreeMap::new());
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, Seen::of(&path).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn what_stands_there_is_neither_written_nor_touched() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("site");
        site(&dir, "one").unwrap();
        let before = looks(&dir);
        site(&dir, "one").unwrap();
        assert_eq!(looks(&dir), before);
        assert!(before.contains_key(catalogue::FILE));
        // A file beside it changes, and the page is still the same file.
        let mut folder = SiteFolder::begin(&dir).unwrap();
        folder.put(MARKER, "another", None).unwrap();
        assert!(folder.keep("runs/a.html") && !folder.keep("runs/b.html"));
        assert_eq!((folder.files(), folder.written()), (2, 1));
        folder.finish("us").unwrap();
        let after = looks(&dir);
        assert!(after["runs/a.html"].is_same_file(&before["runs/a.html"]));
        assert!(!after[MARKER].is_same_file(&before[MARKER]));
        site(&dir, "one").unwrap();
        let again = looks(&dir);
        site(&dir, "one").unwrap();
        assert_eq!(looks(&dir), again, "what was linked from the site before is known as it stands now");
        assert_eq!(entries(root.path()), ["site"]);
    }

    #[test]
    fn what_was_changed_deleted_or_added_by_others_is_put_right() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("site");
        let page = dir.join("runs/a.html");
        type Change = fn(&Path);
        let changes: [Change; 4] = [
            |page| fs::write(page, "two").unwrap(),
            |page| fs::remove_file(page).unwrap(),
            |page| {
                fs::remove_file(page).unwrap();
                std::os::unix::fs::symlink("/dev/null", page).unwrap();
            },
            |page| fs::write(page.with_file_name("b.html"), "a stray file").unwrap(),
        ];
        for change in changes {
            site(&dir, "one").unwrap();
            change(&page);
            site(&dir, "one").unwrap();
            assert_eq!(fs::read_to_string(&page).unwrap(), "one");
            assert_eq!(entries(&dir.join("runs")), ["a.html"]);
        }
        // Written again as it was, it is read, found to be the same, and kept.
        fs::write(&page, "one").unwrap();
        let touched = Seen::of(&page).unwrap();
        site(&dir, "one").unwrap();
        assert_eq!(Seen::of(&page).unwrap(), touched);
        assert!(!Catalogue::of(&dir).outdated, "and its looks are noted");
        // Without what says what was written, all of it is written.
        fs::remove_file(dir.join(catalogue::FILE)).unwrap();
        site(&dir, "one").unwrap();
        assert!(!Seen::of(&page).unwrap().is_same_file(&touched));
    }

    #[test]
    fn a_page_that_changes_while_a_site_is_made_is_an_error_and_made_anew_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let (dir, page) = (root.path().join("site"), root.path().join("site/runs/a.html"));
        site(&dir, "one").unwrap();
        let mut folder = SiteFolder::begin(&dir).unwrap();
        folder.put(MARKER, "another", None).unwrap();
        assert!(folder.keep("runs/a.html"));
        fs::write(&page, "two").unwrap();
        let error = folder.finish("us").unwrap_err().error.message;
        assert!(error.contains("runs/a.html") && error.contains("publish again"), "{error}");
        assert!(!Catalogue::of(&dir).spoiled.is_empty(), "what is known of it is not lost");
        site(&dir, "one").unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), "one");
    }

    #[test]
    fn a_page_that_others_may_write_is_not_taken_over() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let (dir, page) = (root.path().join("site"), root.path().join("site/runs/a.html"));
        site(&dir, "one").unwrap();
        fs::set_permissions(&page, fs::Permissions::from_mode(0o666)).unwrap();
        let before = Seen::of(&page).unwrap();
        site(&dir, "one").unwrap();
        assert!(!Seen::of(&page).unwrap().is_same_file(&before));
        assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o644);
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
        half.put("runs/a.html", "two", None).unwrap();
        for path in ["../out", "/out", "", "a/../../out"] {
            assert!(half.put(path, "x", None).is_err(), "{path}");
        }
        drop(half);
        assert_eq!(fs::read_to_string(dir.join("runs/a.html")).unwrap(), "one");
        assert_eq!(entries(root.path()), ["site"]);
    }
}
