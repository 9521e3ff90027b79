//! What all runs inject at this moment, and whether one more step fits beside it. It orders nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use controller_planner::Policy;
use proto_model::host::{Availability, Connection, Host, Membership};
use proto_model::id::{HostName, RunId};
use proto_model::injection::Cleanliness;
use proto_model::plan::Plan;
use proto_model::quantity::Percent;

/// The label that places a host in a service.
const SERVICE_LABEL: &str = "service";

type Hosts = BTreeSet<HostName>;

/// By run, the hosts that it injects now or has room for.
#[derive(Default)]
pub(crate) struct Acting(Mutex<BTreeMap<RunId, Hosts>>);

/// A step that is about to be ordered.
pub(crate) struct Wanted<'a> {
    pub run: &'a RunId,
    pub plan: &'a Plan,
    pub step: &'a str,
    /// All that its run injects then, the step's own hosts among them.
    pub hosts: Hosts,
}

impl Acting {
    /// Room for a step, kept at once so that no two steps are given the same; or why there is none.
    pub fn take(&self, wanted: &Wanted<'_>, policy: &Policy, fleet: &[Host]) -> Result<(), String> {
        let mut runs = self.lock();
        let others = runs.iter().filter(|(run, _)| *run != wanted.run).flat_map(|(_, hosts)| hosts);
        let all: BTreeSet<&HostName> = others.chain(&wanted.hosts).collect();
        fits_file(wanted, &all, fleet)?;
        fits_policy(wanted, &all, policy, fleet)?;
        runs.insert(wanted.run.clone(), wanted.hosts.clone());
        Ok(())
    }

    /// What a run injects from now on.
    pub fn keep(&self, run: &RunId, hosts: Hosts) {
        self.lock().insert(run.clone(), hosts);
    }

    pub fn leave(&self, run: &RunId) {
        self.lock().remove(run);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Hosts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The experiment's own limits, over the hosts that match the steps that may act now.
fn fits_file(wanted: &Wanted<'_>, all: &BTreeSet<&HostName>, fleet: &[Host]) -> Result<(), String> {
    let limits = &wanted.plan.limits;
    let count = wanted.hosts.len();
    if let Some(most) = limits.hosts.filter(|most| count > *most as usize) {
        return Err(format!(
            "{count} hosts would be injected at the same time; limits.hosts allows {most}"
        ));
    }
    let among = among(wanted);
    if among.is_empty() {
        return Ok(());
    }
    let share = count as f64 * 100.0 / among.len() as f64;
    if let Some(most) = limits.share_percent.filter(|most| share > *most) {
        let of = among.len();
        return Err(format!(
            "{count} of {of} hosts that match would be injected; limits.share allows {most}%"
        ));
    }
    let healthy = |host: &&Host| among.contains(&host.name) && is_well(host) && !all.contains(&host.name);
    let left = fleet.iter().filter(healthy).count();
    match limits.keep_healthy.filter(|least| left < *least as usize) {
        Some(least) => Err(format!(
            "{left} of {} hosts that match would stay healthy; limits.keep_healthy wants {least}",
            among.len()
        )),
        None => Ok(()),
    }
}

fn among<'a>(wanted: &Wanted<'a>) -> BTreeSet<&'a HostName> {
    let moments = wanted.plan.moments();
    let now = moments
        .into_iter()
        .find(|moment| moment.faults.iter().any(|(path, _)| *path == wanted.step));
    now.iter()
        .flat_map(|moment| &moment.faults)
        .flat_map(|(_, fault)| &fault.among)
        .collect()
}

/// Whether a host could be used, if nobody injected it; what is injected is counted by the runs themselves.
fn is_well(host: &Host) -> bool {
    host.connection == Connection::Connected
        && matches!(host.cleanliness, Cleanliness::Clean | Cleanliness::Faulted)
        && host.availability == Availability::Open
        && host.membership == Membership::Enrolled
}

/// What the controller's owner allows in the environment, over all runs.
fn fits_policy(wanted: &Wanted<'_>, all: &BTreeSet<&HostName>, policy: &Policy, fleet: &[Host]) -> Result<(), String> {
    let environment = &wanted.plan.environment;
    let Some(rules) = policy.of(environment) else {
        return Err(format!("the controller's policy does not open {environment}"));
    };
    let here = || fleet.iter().filter(|host| host.environment() == environment);
    let injected = here().filter(|host| all.contains(&host.name)).count();
    if let Some(most) = rules.max_faulted_hosts.filter(|most| injected > *most as usize) {
        return Err(format!(
            "{injected} hosts of {environment} would be injected over all runs; its policy allows {most}"
        ));
    }
    let Some(Percent(most)) = rules.max_faulted_share_per_service else {
        return Ok(());
    };
    let mut services: BTreeMap<&str, Vec<&HostName>> = BTreeMap::new();
    for host in here() {
        if let Some(service) = host.labels.get(SERVICE_LABEL) {
            services.entry(service).or_default().push(&host.name);
        }
    }
    for (service, members) in services {
        let hit = members.iter().filter(|name| all.contains(*name)).count();
        let ours = members.iter().any(|name| wanted.hosts.contains(*name));
        if ours && hit as f64 * 100.0 > most * members.len() as f64 {
            let of = members.len();
            return Err(format!(
                "{hit} of {of} hosts of service {service} would be injected over all runs; the policy of {environment} allows {most}%"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto_model::plan::Limits;
    use serde_json::json;

    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    fn hosts(names: &[&str]) -> Hosts {
        names.iter().map(|text| name(text)).collect()
    }

    /// Four hosts of service shop, in staging.
    fn fleet() -> Vec<Host> {
        let host = |n: usize| {
            serde_json::from_value(json!({
                "name": format!("web-{n}"), "labels": { "env": "staging", "service": "shop" }, "facts": proto_model::host::HostFacts::default(),
                "connection": "connected", "cleanliness": "clean", "availability": "open", "membership": "enrolled", "note": null,
                "catalogue_digest": "c", "active_injections": 0, "enrolled_at": "2026-01-01T00:00:00.000Z", "last_seen": null,
                "certificate_not_after": null, "source_address": null
            }))
            .unwrap()
        };
        (1..=4).map(host).collect()
    }

    /// Two branches that match all four hosts, and inject web-1 and web-2.
    fn plan(limits: Limits) -> Plan {
        let branch = |n: usize| {
            json!({ "path": format!("steps[0].parallel[{n}]"), "body": { "fault": {
                "fault": "cpu.burn", "params": {}, "duration_ms": 5000, "reversal": { "kind": "full" }, "matched": 4,
                "injections": [{ "host": format!("web-{}", n + 1), "seed": 1 }], "among": ["web-1", "web-2", "web-3", "web-4"] } } })
        };
        serde_json::from_value(json!({
            "name": "x", "origin": "experiment", "service": null, "environment": "staging", "hypothesis": null, "guards": [], "limits": limits,
            "steps": [{ "path": "steps[0]", "body": { "parallel": [branch(0), branch(1)] } }], "hosts": [], "seed": 1, "notes": [], "source": ""
        }))
        .unwrap()
    }

    struct Trial {
        acting: Acting,
        plan: Plan,
        policy: Policy,
        fleet: Vec<Host>,
        runs: [RunId; 2],
    }

    impl Trial {
        fn new(limits: Limits, policy: &str) -> Self {
            Self {
                acting: Acting::default(),
                plan: plan(limits),
                policy: Policy::from_toml(policy).unwrap(),
                fleet: fleet(),
                runs: [RunId::generate(), RunId::generate()],
            }
        }

        fn take(&self, run: usize, names: &[&str]) -> Result<(), String> {
            let wanted = Wanted {
                run: &self.runs[run],
                plan: &self.plan,
                step: "steps[0].parallel[1]",
                hosts: hosts(names),
            };
            self.acting.take(&wanted, &self.policy, &self.fleet)
        }
    }

    #[test]
    fn policy_counts_over_all_runs_and_again_when_one_has_ended() {
        let trial = Trial::new(Limits::default(), "[policy.staging]\nmax_faulted_hosts = 2");
        trial.take(0, &["web-1"]).unwrap();
        trial.take(1, &["web-2"]).unwrap();
        let why = trial.take(1, &["web-2", "web-3"]).unwrap_err();
        assert!(why.contains("3 hosts of staging") && why.contains("allows 2"), "{why}");
        trial.acting.keep(&trial.runs[0], Hosts::new());
        trial.take(1, &["web-2", "web-3"]).unwrap();
        trial.acting.leave(&trial.runs[1]);
        trial.take(0, &["web-1", "web-4"]).unwrap();
    }

    #[test]
    fn a_share_of_a_service_is_counted_over_all_runs() {
        let trial = Trial::new(Limits::default(), "[policy.staging]\nmax_faulted_share_per_service = 50");
        trial.take(0, &["web-1", "web-2"]).unwrap();
        assert!(trial.take(1, &["web-3"]).unwrap_err().contains("3 of 4 hosts of service shop"));
        let closed = Trial::new(Limits::default(), "");
        let elsewhere = Plan {
            environment: proto_model::host::PRODUCTION.to_owned(),
            ..closed.plan.clone()
        };
        assert!(
            Trial { plan: elsewhere, ..closed }
                .take(0, &[])
                .unwrap_err()
                .contains("does not open")
        );
    }

    #[test]
    fn the_files_own_limits_are_counted_when_a_step_starts() {
        let few = Limits {
            hosts: Some(1),
            ..Limits::default()
        };
        assert!(
            Trial::new(few, "")
                .take(0, &["web-1", "web-2"])
                .unwrap_err()
                .contains("limits.hosts allows 1")
        );
        let share = Limits {
            share_percent: Some(25.0),
            ..Limits::default()
        };
        let trial = Trial::new(share, "");
        trial.take(0, &["web-1"]).unwrap();
        assert!(trial.take(0, &["web-1", "web-2"]).unwrap_err().contains("2 of 4 hosts"));
        let keep = Limits {
            keep_healthy: Some(2),
            ..Limits::default()
        };
        let mut trial = Trial::new(keep, "");
        trial.take(0, &["web-1", "web-2"]).unwrap();
        assert!(
            trial.take(1, &["web-3"]).unwrap_err().contains("1 of 4 hosts"),
            "another run's hosts are not healthy"
        );
        trial.acting.leave(&trial.runs[1]);
        trial.fleet[3].connection = Connection::Lost;
        assert!(
            trial
                .take(0, &["web-1", "web-2"])
                .unwrap_err()
                .contains("limits.keep_healthy wants 2")
        );
    }
}
