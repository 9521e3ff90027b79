//! A whole plan against what the controller's owner allows in its environment, counted over every active run. Each refusal names its
//! rule, the number and what is allowed; nothing is ever bent to fit.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::host::{Host, PRODUCTION};
use proto_model::id::HostName;
use proto_model::injection::Reversal;
use proto_model::plan::{FaultStep, Plan};
use proto_model::problem::Problem;
use proto_model::quantity::{Millis, Percent};

use crate::plan::Fleet;
use crate::policy::{EnvironmentPolicy, Policy};
use crate::refusal::PlanRefusal;
use crate::targets::hosts_in_words;

/// The label that places a host in a service.
const SERVICE_LABEL: &str = "service";

/// A run that is not finished, as it counts against a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveRun {
    pub environment: String,
    pub service: Option<String>,
    /// Hosts that it injects at some time.
    pub hosts: BTreeSet<HostName>,
    /// Hosts that it may inject at the same time, at most.
    pub widest: usize,
}

/// Holds a plan against the policy as it is now: when it is made, and again when a plan made earlier is to be run.
pub fn policy_allows(plan: &Plan, policy: &Policy, fleet: &Fleet) -> Result<(), PlanRefusal> {
    let environment = &plan.environment;
    let Some(rules) = policy.of(environment) else {
        let message = format!("the controller's policy does not open {environment} (a host without label env counts as {PRODUCTION})");
        return Err(refusal(
            format!("policy.{environment}"),
            message,
            format!("[policy.{environment}] in controller.toml"),
        ));
    };
    let here = Here {
        environment,
        rules: &rules,
        fleet,
    };
    if environment == PRODUCTION && plan.guards.is_empty() {
        let message = format!("a run in {PRODUCTION} needs a guard, and this has 0");
        return Err(refusal(
            "guards".into(),
            message,
            "1 or more guards, or a probe of an attack".into(),
        ));
    }
    for (path, step) in plan.fault_steps() {
        here.kind(path, step)?;
        here.duration(path, step)?;
    }
    for (path, hosts) in acting(plan) {
        here.hosts(path, &hosts)?;
        here.shares(path, &hosts)?;
    }
    here.service(plan)
}

/// What may run while nobody watches: only with a guard, and nothing that cannot be undone unless the owner allows just that.
pub fn unattended(plan: &Plan, policy: &Policy) -> Result<(), PlanRefusal> {
    if plan.guards.is_empty() {
        return Err(no_guard());
    }
    let environment = &plan.environment;
    let allowed = policy.of(environment).is_some_and(|rules| rules.irreversible_unattended);
    let lasting = plan
        .fault_steps()
        .find(|(_, step)| matches!(step.reversal, Reversal::Irreversible { .. }));
    match lasting {
        Some((path, step)) if !allowed => {
            let message = format!("{path}: {} cannot be undone, and nobody watches a scheduled run", step.fault);
            let rule = format!("policy.{environment}.irreversible_unattended");
            Err(PlanRefusal::problem(
                "unattended",
                Problem::new(rule, message).allowed("faults that can be undone; true allows the others"),
            ))
        }
        _ => Ok(()),
    }
}

/// The same before there is a plan.
pub fn no_guard() -> PlanRefusal {
    let problem = Problem::new("guards", "an unattended run needs a guard, and this has 0").allowed("1 or more");
    PlanRefusal::problem("unattended", problem)
}

fn refusal(rule: String, message: String, allowed: String) -> PlanRefusal {
    PlanRefusal::problem("policy", Problem::new(rule, message).allowed(allowed))
}

/// Every moment of the plan with the hosts that it injects then.
fn acting(plan: &Plan) -> impl Iterator<Item = (&str, BTreeSet<&HostName>)> {
    plan.moments().into_iter().map(|moment| (moment.path, moment.hosts()))
}

struct Here<'a> {
    environment: &'a str,
    rules: &'a EnvironmentPolicy,
    fleet: &'a Fleet,
}

impl Here<'_> {
    fn rule(&self, name: &str) -> String {
        format!("policy.{}.{name}", self.environment)
    }

    fn kind(&self, path: &str, step: &FaultStep) -> Result<(), PlanRefusal> {
        if self.rules.allows(&step.fault) {
            return Ok(());
        }
        let allowed: Vec<&str> = self.rules.faults.iter().map(|glob| glob.as_str()).collect();
        let allowed = if allowed.is_empty() {
            "no fault".to_owned()
        } else {
            allowed.join(", ")
        };
        let message = format!("{path}: {} is not allowed in {}", step.fault, self.environment);
        Err(refusal(self.rule("faults"), message, allowed))
    }

    fn duration(&self, path: &str, step: &FaultStep) -> Result<(), PlanRefusal> {
        match self.rules.max_duration {
            Some(most) if step.duration_ms > most.0 => {
                let message = format!("{path}: {} is longer than {} allows", Millis(step.duration_ms), self.environment);
                Err(refusal(self.rule("max_duration"), message, format!("..{most}")))
            }
            _ => Ok(()),
        }
    }

    /// Active runs count with the most that they may inject at once, whatever they inject just now.
    fn hosts(&self, path: &str, wanted: &BTreeSet<&HostName>) -> Result<(), PlanRefusal> {
        let Some(most) = self.rules.max_faulted_hosts else { return Ok(()) };
        let taken = self.runs().map(|run| run.widest).sum::<usize>() + self.strays().count();
        if taken + wanted.len() <= most as usize {
            return Ok(());
        }
        let message = format!(
            "{path} injects {}, and {} of {} are injected already or may be by active runs",
            hosts_in_words(wanted.len()),
            taken,
            self.environment
        );
        Err(refusal(self.rule("max_faulted_hosts"), message, format!("..{most}")))
    }

    /// Of every service that the moment touches.
    fn shares(&self, path: &str, wanted: &BTreeSet<&HostName>) -> Result<(), PlanRefusal> {
        let Some(Percent(most)) = self.rules.max_faulted_share_per_service else {
            return Ok(());
        };
        let mut services: BTreeMap<&str, BTreeSet<&HostName>> = BTreeMap::new();
        for host in self.known() {
            if let Some(service) = host.labels.get(SERVICE_LABEL) {
                services.entry(service).or_default().insert(&host.name);
            }
        }
        let strays: BTreeSet<&HostName> = self.strays().map(|host| &host.name).collect();
        for (service, members) in services {
            let ours = wanted.intersection(&members).count();
            let of_runs = self
                .runs()
                .map(|run| run.hosts.iter().filter(|host| members.contains(host)).count().min(run.widest));
            let hit = ours + of_runs.sum::<usize>() + strays.intersection(&members).count();
            let hit = hit.min(members.len());
            if ours > 0 && hit as f64 * 100.0 > most * members.len() as f64 {
                let all = hosts_in_words(members.len());
                let message = format!("{path}: {hit} of {all} of service {service} would be injected at the same time");
                return Err(refusal(self.rule("max_faulted_share_per_service"), message, format!("..{most}%")));
            }
        }
        Ok(())
    }

    /// Runs of one service count in whatever environment they are.
    fn service(&self, plan: &Plan) -> Result<(), PlanRefusal> {
        let Some(service) = &plan.service else { return Ok(()) };
        let active = self.fleet.active.iter().filter(|run| run.service.as_ref() == Some(service)).count();
        if active < self.rules.runs_per_service as usize {
            return Ok(());
        }
        let message = format!("{active} of service {service}'s runs are active already, and this is one more");
        Err(refusal(
            self.rule("runs_per_service"),
            message,
            format!("..{}", self.rules.runs_per_service),
        ))
    }

    fn known(&self) -> impl Iterator<Item = &Host> {
        self.fleet.known().filter(|host| host.environment() == self.environment)
    }

    fn runs(&self) -> impl Iterator<Item = &ActiveRun> {
        self.fleet.active.iter().filter(|run| run.environment == self.environment)
    }

    /// Hosts under an injection that no active run answers for.
    fn strays(&self) -> impl Iterator<Item = &Host> {
        let owned = |host: &&Host| self.fleet.active.iter().any(|run| run.hosts.contains(&host.name));
        self.known().filter(move |host| host.active_injections > 0 && !owned(host))
    }
}
