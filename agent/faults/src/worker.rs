//! The worker of a fault that loads the host, as its kind asks after it; it starts and ends none.

use agent_levers::WorkerHandle;
use agent_view::{Feature, HostView, ProcessState};

/// What a host has to have, so that a worker can be started in a group of its own and gives up the rights of root.
pub(crate) const NEEDS: &[Feature] = &[Feature::Root, Feature::Groups, Feature::ChangeUser];

/// Whether it still runs in its group, and if not, why that is known.
pub(crate) fn alive(worker: &WorkerHandle, view: &dyn HostView) -> Result<(), String> {
    let member = view.group_members(&worker.group).is_ok_and(|members| members.contains(&worker.pid));
    let process = view.process_stat(worker.pid).ok().flatten();
    if member && process.is_none_or(|p| !matches!(p.state, ProcessState::Zombie | ProcessState::Dead)) {
        Ok(())
    } else {
        Err(format!("the worker (pid {}) is gone", worker.pid))
    }
}
