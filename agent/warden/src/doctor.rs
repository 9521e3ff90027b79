//! What this host can and cannot do: its own parts, then every kind's answer for itself, under the host's policy. It changes nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use agent_faults::AnyFault;
use agent_levers::JournalStore;
use agent_view::{Feature, Features, HostView, Presence};
use proto_model::catalogue::FaultKind;
use proto_model::doctor::{Ability, Can, Check, HostDoctor, KindAbility};

use crate::causes::{chain, panic_text};
use crate::journal_fix;
use crate::kinds::Kinds;
use crate::policy::Policy;

/// Looks at everything; `journal` is where undos are written, or what is known of it where it cannot be opened.
pub fn examine(view: &dyn HostView, policy: &Policy, kinds: Kinds, journal: Result<&JournalStore, Ability>) -> HostDoctor {
    let facts = view.facts();
    let all: Vec<&'static dyn AnyFault> = (kinds.catalogue)().0.iter().filter_map(|kind| (kinds.find)(&kind.kind)).collect();
    let journal = journal_check(view, journal, &all);
    let features = Feature::ALL.map(|feature| feature_check(view, feature, &all));
    let guardian = features.iter().filter(|check| check.name == Feature::Guardian.name());
    let needs: Vec<Need<'_>> = std::iter::once(Need::journal(&journal))
        .chain(guardian.map(Need::guardian))
        .collect();
    let confined = || {
        let confining = Feature::CONFINEMENT.map(Feature::name);
        features.iter().filter(move |check| confining.contains(&check.name.as_str()))
    };
    let kinds: Vec<KindAbility> = all
        .iter()
        .map(|fault| KindAbility {
            fault: fault.kind(),
            allowed: policy.allows(&fault.kind(), &fault.reversal()),
            ability: under(&needs, confined(), ask(*fault, view)),
        })
        .collect();
    let policy = policy_check(&kinds);
    HostDoctor {
        host: facts.hostname,
        can: HostDoctor::worst(&kinds),
        why: None,
        os: facts.os,
        kernel: facts.kernel,
        checks: features.into_iter().chain([journal, policy]).collect(),
        kinds,
    }
}

/// What no fault is admitted without, and the words for a kind where it is missing or unknown.
struct Need<'a> {
    check: &'a Check,
    missing: &'static str,
    unknown: &'static str,
}

impl<'a> Need<'a> {
    fn journal(check: &'a Check) -> Self {
        Self {
            check,
            missing: "its undo cannot be written down (journal)",
            unknown: "whether its undo can be written down is unknown (journal)",
        }
    }

    fn guardian(check: &'a Check) -> Self {
        Self {
            check,
            missing: "nothing undoes it when the agent dies (guardian)",
            unknown: "whether anything undoes it when the agent dies is unknown (guardian)",
        }
    }
}

/// Nothing can be injected that lacks one of these needs, and nothing is known of what a security module may deny.
fn under<'a>(needs: &[Need<'_>], confined: impl Iterator<Item = &'a Check>, ability: Ability) -> Ability {
    let first = |can: Can| needs.iter().find(|need| need.check.ability.can == can);
    if let Some(need) = first(Can::No) {
        return because_of(need.check, Can::No, need.missing.to_owned());
    }
    if ability.can == Can::No {
        return ability;
    }
    if let Some(need) = first(Can::NotEvaluated) {
        return because_of(need.check, Can::NotEvaluated, need.unknown.to_owned());
    }
    let mut denying = confined.filter(|check| check.ability.can != Can::Yes);
    denying.next().map_or(ability, |check| {
        because_of(check, Can::NotEvaluated, format!("{} may deny it", check.name))
    })
}

/// What fixes the check fixes the kind.
fn because_of(check: &Check, can: Can, why: String) -> Ability {
    Ability {
        can,
        why: Some(why),
        fix: check.ability.fix.clone(),
        ..Ability::yes()
    }
}

fn feature_check(view: &dyn HostView, feature: Feature, kinds: &[&'static dyn AnyFault]) -> Check {
    let yes = |why: String| Ability {
        why: Some(why),
        ..Ability::yes()
    };
    let ability = match view.presence(feature) {
        Presence::Present => Ability::yes(),
        Presence::Described { detail } => yes(detail),
        Presence::Loadable => yes("not loaded yet; the kernel loads it when it is first used".to_owned()),
        Presence::Absent { why, fix } => Ability::no(why, fix),
        Presence::Unknown { why, fix } => Ability::not_evaluated(why, fix),
    };
    let (required_by, used_by) = dependents(feature, kinds);
    Check {
        required_by,
        used_by,
        ..check(feature.name(), feature.says(), ability)
    }
}

/// A host that lacks nothing, or one feature.
struct Lacking(Option<Feature>);

impl Features for Lacking {
    fn presence(&self, feature: Feature) -> Presence {
        if self.0 == Some(feature) {
            return Presence::Absent {
                why: "missing".to_owned(),
                fix: "add it".to_owned(),
            };
        }
        Presence::Present
    }
}

/// The kinds that cannot be injected where this one feature is missing, and those that answer otherwise there. Of confinement and of the
/// guardian all.
fn dependents(feature: Feature, kinds: &[&'static dyn AnyFault]) -> (Vec<FaultKind>, Vec<FaultKind>) {
    if feature == Feature::Guardian || Feature::CONFINEMENT.contains(&feature) {
        return (kinds.iter().map(|fault| fault.kind()).collect(), Vec::new());
    }
    let (mut required, mut used) = (Vec::new(), Vec::new());
    for fault in kinds {
        let without = ask(*fault, &Lacking(Some(feature)));
        if without.can != Can::Yes {
            required.push(fault.kind());
        } else if without != ask(*fault, &Lacking(None)) {
            used.push(fault.kind());
        }
    }
    (required, used)
}

fn check(name: &str, says: &str, ability: Ability) -> Check {
    Check {
        name: name.to_owned(),
        says: says.to_owned(),
        required_by: Vec::new(),
        used_by: Vec::new(),
        ability,
    }
}

fn journal_check(view: &dyn HostView, journal: Result<&JournalStore, Ability>, kinds: &[&'static dyn AnyFault]) -> Check {
    let ability = match journal.map(|store| (store, store.check())) {
        Ok((_, Ok(()))) => Ability::yes(),
        Ok((store, Err(error))) => Ability::no(chain(&error), journal_fix::fix(&error, store, view)),
        Err(unseen) => unseen,
    };
    Check {
        required_by: kinds.iter().map(|fault| fault.kind()).collect(),
        ..check("journal", "writing each undo down before the host is changed", ability)
    }
}

fn policy_check(kinds: &[KindAbility]) -> Check {
    let allowed = kinds.iter().filter(|kind| kind.allowed).count();
    let ability = Ability {
        why: Some(format!("allows {allowed} of {} kinds", kinds.len())),
        ..Ability::yes()
    };
    check("policy", "the faults that this host allows (agent.toml)", ability)
}

fn ask(fault: &'static dyn AnyFault, host: &dyn Features) -> Ability {
    let asked = catch_unwind(AssertUnwindSafe(|| fault.ability(host)));
    asked.unwrap_or_else(|panic| {
        let why = format!("its check panicked: {}", panic_text(&*panic));
        Ability::not_evaluated(why, "report it as a bug, with what journalctl -u fracas-agent shows")
    })
}
