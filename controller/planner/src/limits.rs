//! How much may be hit at once: the experiment's own limits and what a quorum can lose; the owner's policy is not here.

use std::collections::BTreeMap;

use proto_model::host::Host;
use proto_model::id::HostName;
use proto_model::plan::{Limits, Plan};
use proto_model::problem::Problem;
use proto_model::quantity::Millis;
use proto_model::steps::Moment;

use crate::plan::Fleet;
use crate::refusal::PlanRefusal;
use crate::targets::{Targets, hosts_in_words};

/// The label by which a host says which quorum it is a member of, and how many members there are: `etcd/3`.
const QUORUM_LABEL: &str = "quorum";

fn limit(path: String, message: String, allowed: String) -> PlanRefusal {
    PlanRefusal::problem("limit", Problem::new(path, message).allowed(allowed))
}

/// What acts at the same time against the experiment's limits and the quorums of its hosts.
pub(crate) fn check_moment(
    moment: &Moment<'_>,
    targets: &BTreeMap<&str, Targets<'_>>,
    limits: &Limits,
    fleet: &Fleet,
) -> Result<(), PlanRefusal> {
    let here = || moment.faults.iter().filter_map(|(path, _)| targets.get(path));
    let chosen = each_once(here().flat_map(|targets| &targets.chosen));
    let matched = each_once(here().flat_map(|targets| &targets.matched));
    check_numbers(moment.path, &chosen, &matched, limits)?;
    quorums(moment.path, &chosen, fleet)
}

fn each_once<'a, 'b: 'a>(hosts: impl Iterator<Item = &'a &'b Host>) -> Vec<&'b Host> {
    let by_name: BTreeMap<&HostName, &Host> = hosts.map(|host| (&host.name, *host)).collect();
    by_name.into_values().collect()
}

fn check_numbers(path: &str, chosen: &[&Host], matched: &[&Host], limits: &Limits) -> Result<(), PlanRefusal> {
    let healthy = matched.iter().filter(|host| host.is_healthy()).count();
    let (chosen, matched) = (chosen.len(), matched.len());
    if let Some(most) = limits.hosts
        && chosen > most as usize
    {
        let message = format!("{path} injects {} at the same time", hosts_in_words(chosen));
        return Err(limit("limits.hosts".into(), message, format!("..{most}")));
    }
    let share = chosen as f64 * 100.0 / matched.max(1) as f64;
    if let Some(most) = limits.share_percent
        && share > most
    {
        let message = format!("{path} injects {chosen} of {} that match, {share:.0}%", hosts_in_words(matched));
        return Err(limit("limits.share".into(), message, format!("..{most}%")));
    }
    let left = healthy.saturating_sub(chosen);
    if let Some(least) = limits.keep_healthy
        && left < least as usize
    {
        let message = format!("{path} leaves {left} of {} that match healthy", hosts_in_words(matched));
        return Err(limit("limits.keep_healthy".into(), message, format!("{least}..")));
    }
    Ok(())
}

/// A quorum of n members survives the loss of fewer than half: (n - 1) / 2.
fn quorums(path: &str, chosen: &[&Host], fleet: &Fleet) -> Result<(), PlanRefusal> {
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for host in chosen {
        if let Some(quorum) = host.labels.get(QUORUM_LABEL) {
            *taken.entry(quorum).or_default() += 1;
        }
    }
    for (quorum, taken) in taken {
        let Some(members) = quorum.rsplit_once('/').and_then(|(_, n)| n.parse::<usize>().ok()) else {
            let message = format!("label {QUORUM_LABEL}={quorum} is not NAME/MEMBERS");
            return Err(limit(format!("{path}.on"), message, "such as etcd/3".into()));
        };
        let same = |host: &&Host| host.labels.get(QUORUM_LABEL).is_some_and(|q| q == quorum);
        let down = fleet.known().filter(same).filter(|host| !host.is_healthy()).count();
        let can_lose = members.saturating_sub(1) / 2;
        if taken + down > can_lose {
            let message = format!("{path} takes {taken} of the quorum {quorum}, of which {down} are down already");
            return Err(limit(format!("{path}.on"), message, format!("..{}", can_lose.saturating_sub(down))));
        }
    }
    Ok(())
}

/// The whole plan against its own time limit.
pub(crate) fn check_length(plan: &Plan) -> Result<(), PlanRefusal> {
    let Some(most) = plan.limits.duration_ms else { return Ok(()) };
    let steps = plan.steps_ms();
    let before = plan.hypothesis.as_ref().map_or(0, |h| h.before_ms);
    if before + steps <= most {
        return Ok(());
    }
    let message = format!("the run takes {} from its start to the last undo", Millis(before + steps));
    Err(limit("limits.duration".into(), message, format!("..{}", Millis(most))))
}
