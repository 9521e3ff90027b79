//! What a kind stands on, held against a host: the kinds' own answers to whether they can be done there. It changes nothing.

use agent_view::{Feature, HostView, Presence};
use proto_model::doctor::{Ability, Can};
use proto_model::problem::Refusal;

/// Able when everything is there, or comes when it is first used.
pub(crate) fn needs(view: &dyn HostView, features: &[Feature]) -> Ability {
    let mut doubt = None;
    for feature in features {
        match view.presence(*feature) {
            Presence::Present | Presence::Loadable => {}
            Presence::Absent { why, mend } => return Ability::no(why, mend),
            Presence::Unknown { why } => drop(doubt.get_or_insert(why)),
        }
    }
    doubt.map_or_else(Ability::yes, Ability::not_evaluated)
}

/// The same before a deed: what is surely missing is refused, and doubt is no reason.
pub(crate) fn refuse_without(view: &dyn HostView, features: &[Feature]) -> Result<(), Refusal> {
    refuse_at_without("fault", view, features)
}

/// The same for what only the parameter at `path` asks for.
pub(crate) fn refuse_at_without(path: &str, view: &dyn HostView, features: &[Feature]) -> Result<(), Refusal> {
    let ability = needs(view, features);
    if ability.can != Can::No {
        return Ok(());
    }
    let mend = ability.mend.map(|mend| format!(" (mended by: {mend})")).unwrap_or_default();
    Err(Refusal::new("unsupported", path, ability.why.unwrap_or_default() + &mend))
}
