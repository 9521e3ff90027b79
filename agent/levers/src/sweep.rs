//! Removes what carries our name and belongs to no open injection: rules of a saved ruleset that was loaded again, groups without a journal.

use agent_view::HostView;
use proto_model::id::InjectionId;

use crate::host_ops::{HostOps, KEY};
use crate::kinds::{SWEEPS, Sweep};

/// What a sweep found, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: Vec<String>,
    /// Each with its cause.
    pub failed: Vec<String>,
}

/// Removes everything on the host that carries our name and belongs to none of the injections that `open` names.
///
/// `open` is asked after each look: an injection that is being started meanwhile has its journal before anything else.
pub fn sweep(ops: &mut dyn HostOps, view: &dyn HostView, open: &dyn Fn() -> Vec<InjectionId>) -> Swept {
    let mut sweep = Sweep {
        ops: ops.all(KEY),
        view,
        open,
        removed: Vec::new(),
        failed: Vec::new(),
    };
    SWEEPS.iter().for_each(|lever| lever(&mut sweep));
    let Sweep { removed, failed, .. } = sweep;
    for what in &removed {
        tracing::warn!(what, "removed: it carried our name and belonged to no injection");
    }
    for why in &failed {
        tracing::error!(why, "what carries our name and belongs to no injection could not be removed");
    }
    Swept { removed, failed }
}
