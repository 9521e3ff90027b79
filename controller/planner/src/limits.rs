//! How much may be hit at once: the experiment's own limits, the owner's policy, and what a quorum can lose.

use std::collections::BTreeMap;

use proto_model::host::{Host, PRODUCTION};
use proto_model::id::HostName;
use proto_model::plan::{FaultStep, Limits, Plan};
use proto_model::problem::Problem;
use proto_model::quantity::{Millis, Percent};
use proto_model::steps::Moment;

use crate::plan::Fleet;
use crate::policy::{EnvironmentPolicy, Policy};
use crate::refusal::PlanRefusal;
use crate::targets::{Targets, hosts_in_words};

/// The label by which a host says which quorum it is a member of, and how many members there are: `etcd/3`.
const QUORUM_LABEL: &str = "quorum";
/// The label that places a host in a service.
const SERVICE_LABEL: &str = "service";

fn limit(path: String, message: String, allowed: String) -> PlanRefusal {
    PlanRefusal::problem("limit", Problem::new(path, message).allowed(allowed))
}

fn policy(message: String, allowed: String) -> PlanRefusal {
    PlanRefusal::problem("policy", Problem::new("", message).allowed(allowed))
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

/// The whole plan against what the controller's owner allows in its environment.
pub(crate) fn check_policy(plan: &Plan, rules: &Policy, fleet: &Fleet) -> Result<(), PlanRefusal> {
    let environment = &plan.environment;
    let Some(rules) = rules.of(environment) else {
        let message = format!("the controller's policy does not open {environment} (a host without label env counts as {PRODUCTION})");
        return Err(policy(message, format!("[policy.{environment}] in controller.toml")));
    };
    if environment == PRODUCTION && plan.guards.is_empty() {
        return Err(policy(
            format!("a run in {PRODUCTION} needs a guard"),
            "guards, or a probe of an attack".into(),
        ));
    }
    for (path, step) in plan.fault_steps() {
        check_kind(path, step, &rules, environment)?;
    }
    for moment in plan.moments() {
        check_count(&moment, &rules, environment, fleet)?;
    }
    check_service(plan, &rules, fleet)
}

fn check_kind(path: &str, step: &FaultStep, rules: &EnvironmentPolicy, environment: &str) -> Result<(), PlanRefusal> {
    if !rules.allows(&step.fault) {
        let allowed: Vec<&str> = rules.faults.iter().map(|glob| glob.as_str()).collect();
        let message = format!("{path}: {} is not allowed in {environment}", step.fault);
        return Err(policy(
            message,
            if allowed.is_empty() {
                "no fault".into()
            } else {
                allowed.join(", ")
            },
        ));
    }
    match rules.max_duration {
        Some(most) if step.duration_ms > most.0 => {
            let message = format!("{path}: {} is longer than {environment} allows", Millis(step.duration_ms));
            Err(policy(message, format!("..{most}")))
        }
        _ => Ok(()),
    }
}

fn check_count(moment: &Moment<'_>, rules: &EnvironmentPolicy, environment: &str, fleet: &Fleet) -> Result<(), PlanRefusal> {
    let (path, hosts) = (moment.path, moment.hosts());
    let here = || fleet.known().filter(|host| host.environment() == environment);
    let faulted = here().filter(|host| host.active_injections > 0).count();
    let wanted = hosts.len();
    if let Some(most) = rules.max_faulted_hosts
        && faulted + wanted > most as usize
    {
        let message = format!(
            "{path} injects {}, and {faulted} of {environment} are injected already",
            hosts_in_words(wanted)
        );
        return Err(policy(message, format!("..{most}")));
    }
    let Some(Percent(most)) = rules.max_faulted_share_per_service else {
        return Ok(());
    };
    // Of each service: hosts that this injects, hosts that are or would be injected, and all.
    let mut services: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    for host in here() {
        let Some(service) = host.labels.get(SERVICE_LABEL) else { continue };
        let (ours, hit, all) = services.entry(service).or_default();
        let meant = hosts.contains(&host.name);
        *all += 1;
        *ours += usize::from(meant);
        *hit += usize::from(host.active_injections > 0 || meant);
    }
    for (service, (ours, hit, all)) in services {
        if ours > 0 && hit as f64 * 100.0 > most * all as f64 {
            let message = format!("{path}: {hit} of {} of service {service} would be injected", hosts_in_words(all));
            return Err(policy(message, format!("..{most}%")));
        }
    }
    Ok(())
}

fn check_service(plan: &Plan, rules: &EnvironmentPolicy, fleet: &Fleet) -> Result<(), PlanRefusal> {
    let Some(service) = &plan.service else { return Ok(()) };
    let active = fleet.active_runs.get(service).copied().unwrap_or(0);
    if active < rules.runs_per_service {
        return Ok(());
    }
    let message = format!("{active} of service {service}'s runs are active already");
    Err(policy(message, format!("..{}", rules.runs_per_service)))
}
