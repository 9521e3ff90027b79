//! The closed vocabulary of ways back: plain data, so that another version's rescue can carry it out.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

/// The recorded way back from one pull. Idempotent, touches only what carries our name or what it names, never flushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// End everything in our group `fracas-<id>` and remove it from every hierarchy.
    EmptyGroup { group: String },
    /// Let the worker of our group `fracas-<id>` end by itself and let go of what it holds; what is left after that is ended by `EmptyGroup`.
    DrainGroup { group: String, within_ms: u64 },
    /// Let these go on, each only if it is still the same process and still stopped.
    ResumeProcesses { victims: Vec<Victim> },
    /// Write `before` back if the file still reads `ours`.
    RestoreKnob { path: String, ours: String, before: String },
    /// Remove the rules, sets and elements of our table that carry the injection's id.
    RemoveTraffic { injection: InjectionId },
    /// Empty and remove our ballast file, only if it is still that file.
    RemoveBallast { ballast: Ballast },
    /// Remove the injection's filters, wait for its link to be empty, then remove the link, and at last the clsact of these
    /// interfaces where it is ours and nothing hangs on it.
    RemovePath {
        injection: InjectionId,
        link: String,
        /// The preference of the filters for IPv4; those for IPv6 have the next.
        preference: u16,
        drain_ms: u64,
        scaffolds: Vec<ScaffoldPlace>,
    },
}

/// Where the kernel shows groups of processes.
const GROUPS: &str = "/sys/fs/cgroup";
/// The only knobs that a lever sets, and so the only ones that an undo may write: a group's own freezer.
const KNOBS: [&str; 2] = ["cgroup.freeze", "freezer.state"];

/// Whether a lever may set this knob. A journal names a path, and nothing else than these may ever be written by one, whoever wrote it.
pub fn may_set_knob(path: &str) -> bool {
    let path = Path::new(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && path.starts_with(GROUPS) && KNOBS.iter().any(|knob| path.ends_with(knob))
}

/// What a file system calls one file by, whatever its path: never given to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHandle {
    pub kind: i32,
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        bytes.ok_or_else(|| de::Error::custom(format!("{text:?} is not hexadecimal")))
    }
}

/// A file that does nothing but use a volume's space, named by its injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballast {
    pub path: PathBuf,
    /// Where its volume is mounted: with nothing mounted there, nobody can say that it is gone.
    pub mount_point: PathBuf,
    /// The volume, as `stat` numbers it; good for one boot.
    pub device: u64,
    /// Not known before it was made; as long as that is not recorded, it is empty.
    pub inode: Option<u64>,
    /// It does not outlive a reboot, nor its mount.
    pub volatile: bool,
    /// By which it is found wherever somebody moves it; none where its file system gives none, and before it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<FileHandle>,
}

impl Ballast {
    const PREFIX: &str = ".fracas-";

    /// The path of an injection's ballast in a folder.
    pub fn path_in(folder: &Path, injection: &InjectionId) -> PathBuf {
        folder.join(format!("{}{injection}", Self::PREFIX))
    }

    /// The injection after which the file is named; none when the name is not one of ours.
    pub fn injection(&self) -> Option<InjectionId> {
        let name = self.path.file_name()?.to_str()?;
        InjectionId::parse(name.strip_prefix(Self::PREFIX)?).ok()
    }
}

/// An interface whose clsact we use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaffoldPlace {
    /// Its name then, for people; the index is what counts.
    pub interface: String,
    pub index: u32,
    /// There was no clsact before, so one that nothing hangs on is ours although it bears no mark yet.
    pub was_absent: bool,
}

/// A process acted upon, by pid and start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    pub pid: u32,
    pub start_time: u64,
    pub name: String,
}

/// What carrying out an undo found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum UndoOutcome {
    Restored,
    /// Undone, and so many packets that were under way were dropped.
    Dropped {
        packets: u64,
    },
    /// Nothing was there any more; that is success.
    AlreadyGone,
    /// Somebody else has changed it since; it was left alone.
    Drift {
        what: Vec<String>,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyGroup { group } => write!(f, "end the processes of group {group} and remove it"),
            Self::DrainGroup { group, .. } => write!(f, "let the worker of group {group} end by itself"),
            Self::ResumeProcesses { victims } => {
                let names: Vec<String> = victims.iter().map(|v| format!("{} (pid {})", v.name, v.pid)).collect();
                write!(f, "resume {}", names.join(", "))
            }
            Self::RestoreKnob { path, before, .. } => write!(f, "write {before:?} back to {path}"),
            Self::RemoveTraffic { injection } => write!(f, "remove the network rules of {injection}"),
            Self::RemoveBallast { ballast } => write!(f, "remove {}", ballast.path.display()),
            Self::RemovePath { injection, link, .. } => write!(f, "remove the path of {injection} through {link}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_freezers_of_groups_may_be_set() {
        for path in [
            "/sys/fs/cgroup/system.slice/nginx.service/cgroup.freeze",
            "/sys/fs/cgroup/freezer/a/freezer.state",
        ] {
            assert!(may_set_knob(path), "{path}");
        }
        for path in [
            "/etc/cron.d/cgroup.freeze",
            "/sys/fs/cgroup/../../../etc/cgroup.freeze",
            "/sys/fs/cgroup/a/cgroup.procs",
            "/sys/fs/cgroup/a/x.cgroup.freeze",
            "sys/fs/cgroup/a/cgroup.freeze",
            "",
        ] {
            assert!(!may_set_knob(path), "{path}");
        }
    }

    #[test]
    fn a_handle_is_read_as_it_is_written_and_older_journals_have_none() {
        let old = r#"{"path":"/x/.fracas-1","mount_point":"/","device":7,"inode":5,"volatile":false}"#;
        let ballast: Ballast = serde_json::from_str(old).unwrap();
        assert_eq!(ballast.handle, None);
        assert_eq!(serde_json::to_string(&ballast).unwrap(), old);
        let handle = FileHandle {
            kind: 1,
            bytes: vec![0, 0xab, 0x10],
        };
        let written = serde_json::to_string(&handle).unwrap();
        assert_eq!(written, r#"{"kind":1,"bytes":"00ab10"}"#);
        assert_eq!(serde_json::from_str::<FileHandle>(&written).unwrap(), handle);
        for wrong in ["0", "0g", "aµ"] {
            assert!(
                serde_json::from_str::<FileHandle>(&written.replace("00ab10", wrong)).is_err(),
                "{wrong}"
            );
        }
    }
}
