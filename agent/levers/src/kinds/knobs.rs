//! Knobs of the kernel: a group's own freezer, set and put back if it still reads what we wrote.

use std::fmt;
use std::path::{Component, Path};

use agent_journal::UndoOutcome;
use serde::{Deserialize, Serialize};

use super::{Lever, UndoContext, UndoError};
use crate::clean_check::{CleanCheck, Recorded, TouchedResource};
use crate::error::OpsError;
#[cfg(any(test, feature = "fake"))]
use crate::fake::{FakeHost, absent};
use crate::groups;
use crate::levers::{LeverError, Levers};
use crate::linux::LinuxOps;

/// Write `before` back if the file still reads `ours`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreKnob {
    pub path: String,
    pub ours: String,
    pub before: String,
}

/// Where the kernel shows groups of processes.
const GROUPS: &str = "/sys/fs/cgroup";
/// The only knobs that a lever sets, and so the only ones that an undo may write: a group's own freezer.
const KNOBS: [&str; 2] = ["cgroup.freeze", "freezer.state"];

/// Whether a lever may set this knob. A journal names a path, and nothing else than these may ever be written by one, whoever wrote it.
fn may_set_knob(path: &str) -> bool {
    let path = Path::new(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && path.starts_with(GROUPS) && KNOBS.iter().any(|knob| path.ends_with(knob))
}

/// Knobs of the kernel.
pub trait KnobOps {
    /// Writes a kernel knob.
    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), OpsError>;
}

impl Levers<'_> {
    /// Sets a knob, to be restored at the end if it is still ours. Returns the value from before.
    pub fn set_knob(&mut self, path: &str, value: &str) -> Result<String, LeverError> {
        if !may_set_knob(path) {
            return Err(LeverError::Other(format!("{path} is no knob that can be restored")));
        }
        let before = self
            .view()
            .knob(path)?
            .ok_or_else(|| LeverError::Other(format!("{path} does not exist")))?;
        self.intend(RestoreKnob {
            path: path.to_owned(),
            ours: value.to_owned(),
            before: before.clone(),
        })?;
        self.ops().write_knob(path, value)?;
        Ok(before)
    }
}

impl fmt::Display for RestoreKnob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {:?} back to {}", self.before, self.path)
    }
}

impl Lever for RestoreKnob {
    type Aim = ();

    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        let Self { path, ours, before } = self;
        if !may_set_knob(path) {
            return Err(UndoError::NoEffect(format!(
                "{path} is nothing that this agent sets: the journal is not ours"
            )));
        }
        match self.state(context.view.knob(path)?.as_deref()) {
            KnobState::Gone | KnobState::Before => Ok(UndoOutcome::AlreadyGone),
            KnobState::Foreign(value) => Ok(UndoOutcome::Drift {
                what: vec![self.foreign(&value)],
            }),
            KnobState::Ours => {
                context.ops.write_knob(path, before)?;
                match self.state(context.view.knob(path)?.as_deref()) {
                    KnobState::Ours => Err(UndoError::NoEffect(format!(
                        "{path} still reads {ours:?} after {before:?} was written"
                    ))),
                    _ => Ok(UndoOutcome::Restored),
                }
            }
        }
    }

    fn touched(&self) -> Vec<TouchedResource> {
        vec![TouchedResource::Knob(self.path.clone())]
    }

    fn verify(&self, check: &mut CleanCheck<'_>, _recorded: Recorded) {
        let Self { path, ours, before } = self;
        if check.is_busy(&TouchedResource::Knob(path.clone())) {
            return;
        }
        let Some(now) = check.seen(check.view().knob(path)) else {
            return;
        };
        match self.state(now.as_deref()) {
            KnobState::Gone | KnobState::Before => {}
            KnobState::Ours => check.not_restored(format!("{path} still reads {ours:?}, before it was {before:?}")),
            KnobState::Foreign(value) => check.drift(self.foreign(&value)),
        }
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        let path = "/sys/fs/cgroup/system.slice/nginx.service/cgroup.freeze";
        levers.set_knob(path, "1").map(|_| ())
    }
}

/// What a knob reads now.
enum KnobState {
    Gone,
    Before,
    Ours,
    Foreign(String),
}

impl RestoreKnob {
    fn state(&self, now: Option<&str>) -> KnobState {
        let Some(now) = now.map(str::trim) else {
            return KnobState::Gone;
        };
        let ours = self.ours.trim();
        // The old freezer says so while it is on its way to FROZEN.
        let freezing = ours == "FROZEN" && now == "FREEZING";
        if now == self.before.trim() {
            KnobState::Before
        } else if now == ours || freezing {
            KnobState::Ours
        } else {
            KnobState::Foreign(now.to_owned())
        }
    }

    fn foreign(&self, value: &str) -> String {
        let Self { path, ours, before } = self;
        format!("{path} reads {value:?}: neither ours ({ours:?}) nor the value from before ({before:?})")
    }
}

impl KnobOps for LinuxOps {
    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), OpsError> {
        groups::write_group_value(Path::new(path), value).map_err(|e| OpsError::new(format!("write {value:?} to {path}"), e))
    }
}

#[cfg(any(test, feature = "fake"))]
impl KnobOps for FakeHost {
    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), OpsError> {
        self.undo(&format!("write {value:?} to {path}"), |state| {
            if state.failing_writes > 0 {
                state.failing_writes -= 1;
                return Err(std::io::Error::other("told to fail"));
            }
            let knob = state.knobs.get_mut(path).ok_or_else(|| absent("such knob"))?;
            value.clone_into(knob);
            Ok(())
        })
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
}
