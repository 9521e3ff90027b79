//! Whether there is room for one more run at this moment: hosts, numbers, policy. Pure; the plan was checked before, this is the last look.

use std::collections::BTreeMap;

use controller_planner::Policy;
use proto_model::document::{ErrorBody, HostError};
use proto_model::host::{Availability, Connection, Host, Membership};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{Cleanliness, Injection};
use proto_model::plan::{Origin, Plan};

use crate::going::Going;

/// Runs at once; one more is refused.
const MAX_RUNS: usize = 100;

/// A host carries one experiment alone or several attacks, and every run counts with its widest step.
pub(crate) fn room_for(plan: &Plan, runs: &BTreeMap<RunId, Going>, policy: &Policy, hosts: &[Host]) -> Result<(), ErrorBody> {
    if runs.len() >= MAX_RUNS {
        return Err(ErrorBody::new(
            "limit",
            format!("{MAX_RUNS} runs are active; one has to finish first"),
        ));
    }
    check_hosts(plan, runs, hosts)?;
    let environment = &plan.environment;
    let Some(rules) = policy.of(environment) else {
        return Err(ErrorBody::new(
            "policy",
            format!("the controller's policy does not open {environment}"),
        ));
    };
    let taken: usize = runs.values().filter(|g| &g.environment == environment).map(|g| g.widest).sum();
    if let Some(most) = rules.max_faulted_hosts
        && taken + widest(plan) > most as usize
    {
        let text = format!("{environment} allows {most} injected hosts at a time, and active runs may inject {taken}");
        return Err(ErrorBody::new("policy", text));
    }
    let of_service = runs.values().filter(|g| g.service.is_some() && g.service == plan.service).count();
    match &plan.service {
        Some(service) if of_service >= rules.runs_per_service as usize => {
            let text = format!(
                "{of_service} of service {service}'s runs are active; allowed: {}",
                rules.runs_per_service
            );
            Err(ErrorBody::new("policy", text))
        }
        _ => Ok(()),
    }
}

fn check_hosts(plan: &Plan, runs: &BTreeMap<RunId, Going>, hosts: &[Host]) -> Result<(), ErrorBody> {
    let mut refused = ErrorBody::new("conflict", "hosts of the plan are not free; nothing was touched");
    for name in plan.hosts.iter().map(|h| &h.name) {
        let injects = |going: &Going| going.injections.iter().any(|i| &i.host == name);
        let other = runs
            .iter()
            .find(|(_, going)| injects(going) && !may_share(plan.origin, going.origin));
        let unfit = hosts.iter().find(|h| &h.name == name).map_or(Some("is not enrolled"), unfitness);
        let word = match (other, unfit) {
            (Some((run, _)), _) => format!("is under run {run}"),
            (None, Some(word)) => word.to_owned(),
            (None, None) => continue,
        };
        refused.hosts.push(refusal(name, &word));
    }
    if refused.hosts.is_empty() {
        return Ok(());
    }
    Err(refused)
}

/// What two attacks do to one host is between them and the host: it refuses what conflicts. A verdict needs the host for itself.
fn may_share(one: Origin, other: Origin) -> bool {
    one == Origin::Attack && other == Origin::Attack
}

fn refusal(name: &HostName, word: &str) -> HostError {
    HostError {
        name: name.clone(),
        code: "conflict".to_owned(),
        message: format!("{name} {word}"),
    }
}

fn unfitness(host: &Host) -> Option<&'static str> {
    match host {
        Host {
            membership: Membership::Locked | Membership::Removed,
            ..
        } => Some("is locked"),
        Host {
            connection: Connection::Lost,
            ..
        } => Some("is not connected"),
        Host {
            availability: Availability::Cordoned,
            ..
        } => Some("is cordoned"),
        Host {
            availability: Availability::Halted,
            ..
        } => Some("is halted"),
        Host {
            cleanliness: Cleanliness::Dirty,
            ..
        } => Some("is dirty"),
        Host {
            cleanliness: Cleanliness::Unproven,
            ..
        } => Some("is not proven clean"),
        _ => None,
    }
}

/// The most hosts that it may inject at the same time, all branches counted.
pub(crate) fn widest(plan: &Plan) -> usize {
    plan.moments().iter().map(|moment| moment.hosts().len()).max().unwrap_or(0)
}

/// Ids are made now, so that one plan may run twice.
pub(crate) fn injections_of(plan: &Plan) -> Vec<Injection> {
    let steps = plan
        .fault_steps()
        .flat_map(|(path, step)| step.injections.iter().map(move |planned| (path, step, planned)));
    steps
        .map(|(path, step, planned)| Injection {
            id: InjectionId::generate(),
            step: path.to_owned(),
            host: planned.host.clone(),
            fault: step.fault.clone(),
            params: step.params.clone(),
            duration_ms: step.duration_ms,
            seed: planned.seed,
            unattended: plan.origin.is_unattended(),
        })
        .collect()
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
