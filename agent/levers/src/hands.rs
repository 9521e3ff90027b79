//! The seam between levers and the kernel: every call that changes a host, and nothing that decides.

use std::path::Path;

use agent_journal::{Ballast, FileHandle, ScaffoldPlace, Victim};
use agent_view::{GroupId, PathInterface};
use proto_model::id::InjectionId;

use crate::path::{Packets, PathSpec, Shape};
use crate::signal::KillSignal;
use crate::traffic::{Spared, TrafficSpec};

/// A deed that went wrong, with the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("{deed}")]
pub struct HandsError {
    pub deed: String,
    #[source]
    pub source: std::io::Error,
}

impl HandsError {
    pub fn new(deed: impl Into<String>, source: std::io::Error) -> Self {
        Self { deed: deed.into(), source }
    }
}

/// What a worker process is to do: it reads this as its first line, then works until its deadline or until the pipe closes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WorkerSpec {
    pub injection: InjectionId,
    pub kind: String,
    pub params: serde_json::Value,
    pub deadline_boot_ms: u64,
}

/// Where packets are led into a path, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathOpening {
    pub interfaces: Vec<PathInterface>,
    /// Of the filters for IPv4; those for IPv6 get the next.
    pub preference: u16,
    pub spared: Spared,
    /// Milliseconds after which the kernel ends it by itself unless renewed.
    pub gate_ms: u64,
}

/// How a ballast file is known once it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub inode: u64,
    pub handle: Option<FileHandle>,
}

/// What became of a clsact that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaffoldLeft {
    Removed,
    /// There is none any more.
    Gone,
    /// Another injection of ours uses it.
    InUse,
    /// It is not ours.
    Foreign,
    /// It was ours; so many filters of others hang on it now that it stays, without our mark.
    HandedOver {
        strangers: usize,
    },
}

/// Everything that can be done to a host. Implemented by Linux and by the fake host of the suites.
///
/// Making is exact: it fails when the thing cannot be made. Unmaking is total: what is already gone is success.
pub trait Hands: Send {
    /// Takes note of workers that have ended by themselves, so that none stays a zombie; to be called now and then.
    fn reap(&mut self) {}

    /// Makes our group in every hierarchy we use.
    fn make_group(&mut self, group: &GroupId) -> Result<(), HandsError>;
    /// Starts a worker inside the group, oom_score_adj 1000, tied to us by a pipe; returns its pid.
    fn start_worker(&mut self, group: &GroupId, spec: &WorkerSpec) -> Result<u32, HandsError>;
    /// Tells the group's workers to end by themselves and waits at most `wait_ms` for it. Returns how many processes are still there.
    fn drain_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<usize, HandsError>;
    /// Ends every process of the group and waits until none is left (at most `wait_ms`).
    /// Returns false when there was no such group.
    fn end_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<bool, HandsError>;
    /// Removes the empty group everywhere; already gone is success.
    fn remove_group(&mut self, group: &GroupId) -> Result<(), HandsError>;

    /// SIGSTOP through a pidfd, only if it is still that process. Returns false when it is not.
    fn stop_process(&mut self, victim: &Victim) -> Result<bool, HandsError>;
    /// SIGCONT likewise.
    fn continue_process(&mut self, victim: &Victim) -> Result<bool, HandsError>;

    /// Any signal likewise. Nothing takes it back.
    fn signal_process(&mut self, victim: &Victim, signal: KillSignal) -> Result<bool, HandsError>;

    /// Writes a kernel knob.
    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), HandsError>;

    /// Makes a ballast file, empty and for root alone. Fails when anything is there already, or its folder is on another volume.
    fn make_ballast(&mut self, ballast: &Ballast) -> Result<Made, HandsError>;
    /// Gives it space without writing; false where the file system cannot.
    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, HandsError>;
    /// Empties and removes it. Returns false when it is not there, or another file is.
    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, HandsError>;
    /// Empties the file of its handle on the volume of a folder, and removes this name of it. Returns false when it is gone.
    fn remove_moved_ballast(&mut self, ballast: &Ballast, volume: &Path, name: Option<&Path>) -> Result<bool, HandsError>;

    /// Makes our table if it is absent and adds the injection's sets and rules, in one transaction.
    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, spared: &Spared) -> Result<(), HandsError>;
    /// Lets the kernel hold it for `gate_ms` from now.
    fn renew_traffic(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError>;
    /// Replaces the peers' addresses (names that resolved to something else).
    fn replace_peers(&mut self, injection: &InjectionId, spec: &TrafficSpec) -> Result<(), HandsError>;
    /// Removes everything of the injection; returns false when there was nothing.
    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, HandsError>;
    /// Removes our table when nothing hangs on it and removing it harms nobody; returns whether it is gone.
    fn remove_idle_table(&mut self) -> Result<bool, HandsError>;

    /// Adds a clsact of ours to an interface that has none.
    fn make_scaffold(&mut self, place: &ScaffoldPlace) -> Result<(), HandsError>;
    /// Removes it where it is ours and nothing hangs on it.
    fn remove_scaffold(&mut self, place: &ScaffoldPlace) -> Result<ScaffoldLeft, HandsError>;
    /// Makes the injection's link with the queue that worsens packets; none is led into it yet.
    fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> Result<(), HandsError>;
    /// Leads the packets into it.
    fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), HandsError>;
    /// Lets the kernel hold it for `gate_ms` from now; one that has ended by itself stays ended, which is an error.
    fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError>;
    /// Replaces the peers' and exceptions' addresses; what is spared must be told again.
    fn replace_path_peers(&mut self, injection: &InjectionId, packets: &Packets, spared: &Spared) -> Result<(), HandsError>;
    /// Leads nothing into it any more; returns false when nothing was led into it.
    fn close_path(&mut self, injection: &InjectionId) -> Result<bool, HandsError>;
    /// Waits until it is empty, at most `wait_ms`; returns how many packets are still in it.
    fn drain_path(&mut self, injection: &InjectionId, wait_ms: u64) -> Result<u64, HandsError>;
    /// Removes the injection's link; returns false when there was none.
    fn remove_path(&mut self, injection: &InjectionId) -> Result<bool, HandsError>;
}
