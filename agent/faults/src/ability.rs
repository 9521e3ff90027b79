//! What a kind needs, held against a host: the kinds' own answers to whether they can be injected there. It changes nothing.

use agent_view::{Feature, Features, HostView, Presence};
use proto_model::doctor::{Ability, Can};
use proto_model::problem::Refusal;

/// Able when everything is there, or comes when it is first used.
pub(crate) fn needs(host: &dyn Features, features: &[Feature]) -> Ability {
    let mut doubt = None;
    for feature in features {
        match host.presence(*feature) {
            Presence::Present | Presence::Described { .. } | Presence::Loadable => {}
            Presence::Absent { why, fix } => return Ability::no(why, fix),
            Presence::Unknown { why, fix } => drop(doubt.get_or_insert((why, fix))),
        }
    }
    doubt.map_or_else(Ability::yes, |(why, fix)| Ability::not_evaluated(why, fix))
}

/// The same ability, with the first of these that is missing or unknown as what limits it: the kind can be injected without them,
/// with less choice or a less exact effect.
pub(crate) fn limited_without(ability: Ability, host: &dyn Features, features: &[Feature]) -> Ability {
    if ability.can != Can::Yes || ability.why.is_some() {
        return ability;
    }
    let limit = features.iter().find_map(|feature| match host.presence(*feature) {
        Presence::Absent { why, fix } | Presence::Unknown { why, fix } => Some((*feature, why, fix)),
        _ => None,
    });
    let Some((feature, why, fix)) = limit else { return ability };
    Ability {
        why: Some(format!("limited ({}): {why}", feature.says())),
        fix: Some(fix),
        ..ability
    }
}

/// The same before an injection: what is surely missing is refused, and doubt is no reason.
pub(crate) fn refuse_without(view: &dyn HostView, features: &[Feature]) -> Result<(), Refusal> {
    refuse_at_without("fault", view, features)
}

/// The same for what only the parameter at `path` asks for.
pub(crate) fn refuse_at_without(path: &str, view: &dyn HostView, features: &[Feature]) -> Result<(), Refusal> {
    let ability = needs(view, features);
    if ability.can != Can::No {
        return Ok(());
    }
    let fix = ability.fix.map(|fix| format!(" (fix: {fix})")).unwrap_or_default();
    Err(Refusal::new("unsupported", path, ability.why.unwrap_or_default() + &fix))
}
