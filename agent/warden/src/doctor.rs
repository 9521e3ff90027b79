//! What this host can and cannot do: its own parts, then every kind's answer for itself, under the host's policy. It changes nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use agent_faults::AnyFault;
use agent_levers::JournalStore;
use agent_view::{Feature, HostView, Presence};
use proto_model::doctor::{Ability, Can, Check, HostDoctor, KindAbility};

use crate::causes::{chain, panic_text};
use crate::kinds::Kinds;
use crate::policy::Policy;

/// Looks at everything; `journal` is where the ways back are written, or why there is none.
pub fn examine(view: &dyn HostView, policy: &Policy, kinds: Kinds, journal: Result<&JournalStore, String>) -> HostDoctor {
    let facts = view.facts();
    let journal = journal_check(journal);
    let kinds = kinds_here(view, policy, kinds, &journal);
    let mut checks: Vec<Check> = Feature::ALL.into_iter().map(|feature| feature_check(view, feature)).collect();
    checks.extend([journal, policy_check(&kinds)]);
    HostDoctor {
        host: facts.hostname,
        can: HostDoctor::worst(&kinds),
        why: None,
        os: facts.os,
        kernel: facts.kernel,
        checks,
        kinds,
    }
}

fn feature_check(view: &dyn HostView, feature: Feature) -> Check {
    let ability = match view.presence(feature) {
        Presence::Present => Ability::yes(),
        Presence::Loadable => Ability {
            why: Some("not loaded yet; the kernel loads it when it is first used".to_owned()),
            ..Ability::yes()
        },
        Presence::Absent { why, mend } => Ability::no(why, mend),
        Presence::Unknown { why } => Ability::not_evaluated(why),
    };
    check(feature.name(), feature.says(), ability)
}

fn check(name: &str, says: &str, ability: Ability) -> Check {
    Check {
        name: name.to_owned(),
        says: says.to_owned(),
        ability,
    }
}

fn journal_check(journal: Result<&JournalStore, String>) -> Check {
    let ability = match journal.map(JournalStore::check) {
        Ok(Ok(())) => Ability::yes(),
        Ok(Err(error)) => Ability::no(chain(&error), None),
        Err(why) => Ability::not_evaluated(why),
    };
    check("journal", "writing the way back down before each deed", ability)
}

fn policy_check(kinds: &[KindAbility]) -> Check {
    let allowed = kinds.iter().filter(|kind| kind.allowed).count();
    let ability = Ability {
        why: Some(format!("allows {allowed} of {} kinds", kinds.len())),
        ..Ability::yes()
    };
    check("policy", "what this host lets be done to it", ability)
}

/// Each kind answers for itself; none can be done whose way back cannot be written down.
fn kinds_here(view: &dyn HostView, policy: &Policy, kinds: Kinds, journal: &Check) -> Vec<KindAbility> {
    let all = (kinds.catalogue)().0;
    let known = all.iter().filter_map(|description| (kinds.find)(&description.kind));
    let ability = |fault: &'static dyn AnyFault| match journal.ability.can {
        Can::No => Ability::no("the way back cannot be written down", None),
        _ => ask(fault, view),
    };
    known
        .map(|fault| KindAbility {
            fault: fault.kind(),
            allowed: policy.allows(&fault.kind(), &fault.reversal()),
            ability: ability(fault),
        })
        .collect()
}

fn ask(fault: &'static dyn AnyFault, view: &dyn HostView) -> Ability {
    let asked = catch_unwind(AssertUnwindSafe(|| fault.ability(view)));
    asked.unwrap_or_else(|panic| Ability::not_evaluated(format!("its check panicked: {}", panic_text(&*panic))))
}
