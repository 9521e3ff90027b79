//! A plan against what the controller's owner allows in its environment, counted over every active run. Nothing is ever bent to fit.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::host::Host;
use proto_model::id::HostName;
use proto_model::plan::{FaultStep, Plan};
use proto_model::quantity::{Millis, Percent};
use proto_model::steps::Moment;

use crate::denial::{Denial, hosts_in_words};
use crate::environments::Environments;
use crate::guards;
use crate::occupancy::{ActiveRun, Occupancy};
use crate::owner::{EnvironmentPolicy, Policy};
use crate::stage::Stage;

/// The label that places a host in a service.
const SERVICE_LABEL: &str = "service";

pub(crate) fn check(
    plan: &Plan,
    moments: &[Moment<'_>],
    stage: Stage<'_>,
    policy: &Policy,
    occupancy: &Occupancy<'_>,
) -> Result<(), Denial> {
    let rules = policy.open(&plan.environment)?;
    let environment = policy.environments().require(&plan.environment)?;
    guards::check(plan, policy)?;
    let owner = Owner {
        environment,
        environments: policy.environments(),
        rules: &rules,
        stage,
        occupancy,
    };
    for (path, step) in plan.fault_steps() {
        owner.kind(path, step)?;
        owner.duration(path, step)?;
    }
    for moment in moments {
        let hosts = moment.hosts();
        owner.hosts(moment.path, &hosts)?;
        owner.shares(moment.path, &hosts)?;
    }
    owner.service(plan)
}

/// The owner's rules of one environment.
struct Owner<'a> {
    environment: &'a str,
    environments: &'a Environments,
    rules: &'a EnvironmentPolicy,
    stage: Stage<'a>,
    occupancy: &'a Occupancy<'a>,
}

impl Owner<'_> {
    fn denial(&self, rule: &str, message: String, allowed: String) -> Denial {
        Denial::new("policy", format!("policy.{}.{rule}", self.environment), message, allowed)
    }

    fn kind(&self, path: &str, step: &FaultStep) -> Result<(), Denial> {
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
        Err(self.denial("faults", message, allowed))
    }

    fn duration(&self, path: &str, step: &FaultStep) -> Result<(), Denial> {
        match self.rules.max_duration {
            Some(most) if step.duration_ms > most.0 => {
                let message = format!("{path}: {} is longer than {} allows", Millis(step.duration_ms), self.environment);
                Err(self.denial("max_duration", message, format!("..{most}")))
            }
            _ => Ok(()),
        }
    }

    /// Active runs count with the most that they may inject at once, whatever they inject just now.
    fn hosts(&self, path: &str, wanted: &BTreeSet<&HostName>) -> Result<(), Denial> {
        let Some(most) = self.rules.max_faulted_hosts else { return Ok(()) };
        let all = self.occupancy.most_taken(self.runs(), wanted.clone(), |name| self.counts(name));
        if all <= most as usize {
            return Ok(());
        }
        let message = format!(
            "{path} injects {}, and {} of {} are injected already or may be by active runs",
            hosts_in_words(wanted.len()),
            all - wanted.len(),
            self.environment
        );
        Err(self.denial("max_faulted_hosts", message, format!("..{most}")))
    }

    /// What the runs of this environment inject, whatever label their hosts have by now; what no run answers for goes by its label.
    fn counts(&self, name: &HostName) -> bool {
        let of_here = || {
            self.occupancy
                .host(name)
                .is_some_and(|host| self.environments.of(host) == self.environment)
        };
        !self.occupancy.is_unclaimed(name) || of_here()
    }

    /// Of every service that the moment touches.
    fn shares(&self, path: &str, wanted: &BTreeSet<&HostName>) -> Result<(), Denial> {
        let Some(Percent(most)) = self.rules.max_faulted_share_per_service else {
            return Ok(());
        };
        let touched = wanted
            .iter()
            .filter_map(|name| self.occupancy.host(name)?.labels.get(SERVICE_LABEL));
        let mut services: BTreeMap<&str, BTreeSet<&HostName>> = touched.map(|service| (service.as_str(), BTreeSet::new())).collect();
        let of_here = |host: &&Host| self.environments.of(host) == self.environment;
        for host in self.occupancy.hosts().filter(of_here) {
            let members = host
                .labels
                .get(SERVICE_LABEL)
                .and_then(|service| services.get_mut(service.as_str()));
            if let Some(members) = members {
                members.insert(&host.name);
            }
        }
        for (service, members) in services {
            let ours: BTreeSet<&HostName> = wanted.intersection(&members).copied().collect();
            let hit = self.occupancy.most_taken(self.runs(), ours, |name| members.contains(name));
            let hit = hit.min(members.len());
            if hit as f64 * 100.0 > most * members.len() as f64 {
                let all = hosts_in_words(members.len());
                let message = format!("{path}: {hit} of {all} of service {service} would be injected at the same time");
                return Err(self.denial("max_faulted_share_per_service", message, format!("..{most}%")));
            }
        }
        Ok(())
    }

    /// Runs of one service count in whatever environment they are.
    fn service(&self, plan: &Plan) -> Result<(), Denial> {
        let Some(service) = &plan.service else { return Ok(()) };
        let others = self.occupancy.others(self.stage.own());
        let active = others.filter(|run| run.service.as_ref() == Some(service)).count();
        let most = self.rules.runs_per_service;
        if active < most as usize {
            return Ok(());
        }
        let message = format!("{active} of service {service}'s runs are active already, and this is one more");
        Err(self.denial("runs_per_service", message, format!("..{most}")))
    }

    fn runs(&self) -> impl Iterator<Item = &ActiveRun> {
        let others = self.occupancy.others(self.stage.own());
        others.filter(|run| run.environment == self.environment)
    }
}
