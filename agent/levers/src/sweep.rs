//! Removes what carries our name and belongs to no open injection: rules of a saved ruleset that was loaded again, groups without a journal.

use agent_view::{HostView, ViewError};
use proto_model::id::InjectionId;

use crate::error::{OpsError, with_causes};
use crate::host_ops::{HostOps, KEY};
use crate::kinds::{AllOps, SWEEPS};

/// What a sweep found, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: Vec<String>,
    /// Each with its cause.
    pub failed: Vec<String>,
}

/// One sweep of a host.
pub(crate) struct Sweep<'a> {
    pub(crate) ops: &'a mut dyn AllOps,
    view: &'a dyn HostView,
    open: &'a dyn Fn() -> Vec<InjectionId>,
    swept: Swept,
}

/// Removes everything on the host that carries our name and belongs to none of the injections that `open` names.
///
/// `open` is asked after each look: an injection that is being started meanwhile has its journal before anything else.
pub fn sweep(ops: &mut dyn HostOps, view: &dyn HostView, open: &dyn Fn() -> Vec<InjectionId>) -> Swept {
    let mut sweep = Sweep {
        ops: ops.all(KEY),
        view,
        open,
        swept: Swept::default(),
    };
    SWEEPS.iter().for_each(|lever| lever(&mut sweep));
    for what in &sweep.swept.removed {
        tracing::warn!(what, "removed: it carried our name and belonged to no injection");
    }
    for why in &sweep.swept.failed {
        tracing::error!(why, "what carries our name and belongs to no injection could not be removed");
    }
    sweep.swept
}

impl<'a> Sweep<'a> {
    pub(crate) fn view(&self) -> &'a dyn HostView {
        self.view
    }

    /// Injections that may hold something now.
    pub(crate) fn open(&self) -> Vec<InjectionId> {
        (self.open)()
    }

    /// What a look saw; where it failed nothing is removed.
    pub(crate) fn seen<T: Default>(&self, looked: Result<T, ViewError>) -> T {
        looked.unwrap_or_else(|error| {
            tracing::warn!(error = with_causes(&error), "what belongs to no injection could not be looked for");
            T::default()
        })
    }

    /// Notes what became of one thing; `false` is that it was gone already.
    pub(crate) fn note(&mut self, what: String, done: Result<bool, OpsError>) {
        match done {
            Ok(true) => self.swept.removed.push(what),
            Ok(false) => {}
            Err(error) => self.swept.failed.push(format!("{what}: {}", with_causes(&error))),
        }
    }
}
