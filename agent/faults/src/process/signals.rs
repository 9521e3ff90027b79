//! Whether this agent may signal processes of the host; it sends nothing.

use agent_view::{Feature, Features, HostView, Process};
use proto_model::doctor::{Ability, Can};
use proto_model::problem::Refusal;

use crate::ability::{limited_without, needs, refuse_without};

const NEEDS: &[Feature] = &[Feature::Kill];
const ROOT: &[Feature] = &[Feature::Root];

/// Root signals its own processes without any capability, and a freezer needs no signal: an agent of root's is limited at most.
pub(super) fn ability(host: &dyn Features) -> Ability {
    let ability = match needs(host, ROOT).can {
        Can::Yes => Ability::yes(),
        Can::No | Can::NotEvaluated => needs(host, NEEDS),
    };
    limited_without(ability, host, &[Feature::Kill, Feature::Ptrace])
}

/// Refused where a signal to one of them would surely be.
pub(super) fn refuse_unless_allowed(victims: &[Process], view: &dyn HostView) -> Result<(), Refusal> {
    // By these the kernel decides; the effective user of a process does not count.
    let is_roots = |victim: &Process| victim.real_uid == 0 || victim.saved_uid == 0;
    if needs(view, ROOT).can != Can::No && victims.iter().all(is_roots) {
        return Ok(());
    }
    refuse_without(view, NEEDS)
}
