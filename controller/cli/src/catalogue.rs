//! What was written of a site, file by file, so that what is still there need not be made again. It is trusted as far as the files
//! are as it says, and never for a file that is not.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use proto_model::id::sha256_text;
use serde::{Deserialize, Serialize};

/// Where it is kept, in the site's folder.
pub const FILE: &str = ".fracas-files";
const DRAFT: &str = ".fracas-files.new";

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub path: String,
    /// SHA-256 of what was written.
    pub digest: String,
    /// Of the page of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<PageOfRun>,
    pub seen: Seen,
}

/// What a run's page was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageOfRun {
    /// The events that it tells of.
    pub events: u64,
    /// The file of its month's data.
    pub month: String,
}

/// How a file looked when it was written: one that looks the same has not been written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

/// Whether only its owner, who publishes, may write the file in place: it may stand in the site before and in the next one.
fn is_ours_alone(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0 && found.nlink() == 1
}

impl Seen {
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
        })
    }

    /// Whether it is the same file with the same text; that it was linked elsewhere, or moved, changes nothing.
    pub fn is_same_file(&self, other: &Self) -> bool {
        let of = |seen: &Self| (seen.size, seen.modified, seen.inode);
        of(self) == of(other)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The version of what made the files, as the controller says it.
    pub maker: String,
    pub entries: BTreeMap<String, Entry>,
    /// Paths of files that are gone, or are not as they were written.
    pub spoiled: Vec<Entry>,
    /// Some file looks otherwise and holds what was written.
    pub outdated: bool,
}

#[derive(Serialize, Deserialize)]
struct Head {
    maker: String,
}

impl Catalogue {
    /// Of the site in this folder, each file looked at; empty where there is none that can be read.
    pub fn of(folder: &Path) -> Self {
        Self::read(folder).unwrap_or_default()
    }

    fn read(folder: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(File::open(folder.join(FILE))?).lines();
        let head: Head = serde_json::from_str(&lines.next().transpose()?.unwrap_or_default())?;
        let mut catalogue = Self {
            maker: head.maker,
            ..Self::default()
        };
        for line in lines {
            catalogue.look_at(folder, serde_json::from_str(&line?)?);
        }
        Ok(catalogue)
    }

    fn look_at(&mut self, folder: &Path, mut entry: Entry) {
        let place = folder.join(&entry.path);
        let alone = fs::symlink_metadata(&place).is_ok_and(|found| is_ours_alone(&found));
        let now = Seen::of(&place)
            .ok()
            .filter(|now| alone && leads_downwards(&entry.path) && now.size == entry.seen.size);
        match now {
            Some(now) if now == entry.seen => drop(self.entries.insert(entry.path.clone(), entry)),
            Some(now) if fs::read(&place).is_ok_and(|text| sha256_text(&text) == entry.digest) => {
                (entry.seen, self.outdated) = (now, true);
                self.entries.insert(entry.path.clone(), entry);
            }
            _ => self.spoiled.push(entry),
        }
    }

    /// Writes down what stands in the folder. A file that is not as it was written keeps the looks that it had then, so that the next
    /// publication finds it spoiled.
    pub fn write<'a>(folder: &Path, maker: &str, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
        let draft = folder.join(DRAFT);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A link that another user put there is not followed.
        let mut file = BufWriter::new(File::create_new(&draft)?);
        let head = Head { maker: maker.to_owned() };
        writeln!(file, "{}", serde_json::to_string(&head)?)?;
        for entry in entries {
            let now = Seen::of(&folder.join(&entry.path)).ok();
            let seen = now.filter(|now| now.is_same_file(&entry.seen)).unwrap_or(entry.seen);
            let entry = Entry { seen, ..entry.clone() };
            writeln!(file, "{}", serde_json::to_string(&entry)?)?;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(draft, folder.join(FILE))
    }
}

/// A path that stays below the folder it is joined to.
pub fn leads_downwards(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
