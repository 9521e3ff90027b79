//! The seam between levers and the kernel: every call that changes a host, and nothing that decides.

use std::path::Path;

use agent_journal::{Ballast, Victim};
use agent_view::GroupId;
use proto_model::id::InjectionId;

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

    /// Makes a ballast file, empty and for root alone; its inode. Fails when anything is there already.
    fn make_ballast(&mut self, path: &Path) -> Result<u64, HandsError>;
    /// Gives it space without writing; false where the file system cannot.
    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, HandsError>;
    /// Empties and removes it. Returns false when it is not there, or another file is.
    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, HandsError>;

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
}
