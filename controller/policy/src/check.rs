//! The one question: may this plan be injected beside everything that is injected now or may be?

use std::collections::BTreeSet;

use proto_model::id::HostName;
use proto_model::plan::{OnFailure, Origin, Plan};
use proto_model::steps::Moment;

use crate::denial::Denial;
use crate::fitness::{Unfitness, state};
use crate::occupancy::Occupancy;
use crate::owner::Policy;
use crate::stage::Stage;
use crate::{conflicts, limits, rules};

/// Runs at once; one more is denied.
pub const MAX_RUNS: usize = 100;

/// Pure: the same plan, policy and occupancy give the same answer.
pub fn check(plan: &Plan, stage: Stage<'_>, policy: &Policy, occupancy: &Occupancy<'_>) -> Result<(), Denial> {
    let moments = stage.moments(plan);
    if !matches!(stage, Stage::Planning) {
        runs_at_once(stage, occupancy)?;
    }
    hosts_are_free(plan, &moments, stage, occupancy)?;
    for moment in &moments {
        limits::check_moment(moment, &plan.limits, stage, occupancy)?;
        conflicts::check(moment)?;
    }
    limits::check_length(plan)?;
    rules::check(plan, &moments, stage, policy, occupancy)
}

fn runs_at_once(stage: Stage<'_>, occupancy: &Occupancy<'_>) -> Result<(), Denial> {
    let active = occupancy.others(stage.own()).count();
    if active < MAX_RUNS {
        return Ok(());
    }
    let message = format!("{active} runs are active; one has to finish first");
    Err(Denial::new("limit", "runs", message, format!("..{MAX_RUNS}")))
}

/// Every host that is injected must be fit, and no run may be on it with which it cannot be shared.
fn hosts_are_free(plan: &Plan, moments: &[Moment<'_>], stage: Stage<'_>, occupancy: &Occupancy<'_>) -> Result<(), Denial> {
    let mut denial = Denial::new(
        "conflict",
        "hosts",
        "hosts of the plan are not free; nothing was touched",
        "hosts that are connected, clean, open and enrolled, and that no other run needs for itself",
    );
    let may_be_lost = match stage {
        Stage::Step { .. } => carried_on_without(moments),
        Stage::Planning | Stage::Admission => BTreeSet::new(),
    };
    let hosts: BTreeSet<&HostName> = moments.iter().flat_map(Moment::hosts).collect();
    for name in hosts {
        let Some(why) = occupied(name, plan.origin, stage, occupancy).or_else(|| unfit(name, &may_be_lost, occupancy)) else {
            continue;
        };
        denial = denial.host(name, "conflict", format!("{name} {why}"));
    }
    if denial.hosts.is_empty() { Ok(()) } else { Err(denial) }
}

/// Hosts whose loss a running experiment accepts: every fault on them goes on with the others when one fails.
fn carried_on_without<'a>(moments: &[Moment<'a>]) -> BTreeSet<&'a HostName> {
    let faults = || moments.iter().flat_map(|moment| &moment.faults);
    let hosts = |wanted: OnFailure| {
        let steps = faults().filter(move |(_, step)| step.on_failure == wanted);
        steps.flat_map(|(_, step)| step.injections.iter().map(|i| &i.host))
    };
    let needed: BTreeSet<&HostName> = hosts(OnFailure::Stop).collect();
    hosts(OnFailure::Continue).filter(|name| !needed.contains(name)).collect()
}

fn occupied(name: &HostName, origin: Origin, stage: Stage<'_>, occupancy: &Occupancy<'_>) -> Option<String> {
    let mut others = occupancy.others(stage.own());
    if let Some(other) = others.find(|run| run.hosts.contains(name) && !may_share(origin, run.origin)) {
        return Some(format!("is under run {}", other.id));
    }
    (origin != Origin::Attack && occupancy.is_unclaimed(name)).then(|| "is already under an injection".to_owned())
}

fn unfit(name: &HostName, may_be_lost: &BTreeSet<&HostName>, occupancy: &Occupancy<'_>) -> Option<String> {
    let Some(host) = occupancy.host(name) else {
        return Some("is not enrolled".to_owned());
    };
    let unfit = state(host)?;
    (unfit.code != Unfitness::LOST || !may_be_lost.contains(name)).then_some(unfit.why)
}

/// What two attacks do to one host is between them and the host: it refuses what conflicts. A verdict needs the host for itself.
fn may_share(one: Origin, other: Origin) -> bool {
    one == Origin::Attack && other == Origin::Attack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attacks_share_a_host() {
        let all = [
            Origin::Attack,
            Origin::Experiment,
            Origin::Schedule,
            Origin::Gameday,
            Origin::Import,
        ];
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other))) {
            assert_eq!(
                may_share(one, other),
                (one, other) == (Origin::Attack, Origin::Attack),
                "{one:?} {other:?}"
            );
        }
    }
}
