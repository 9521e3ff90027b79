//! The whole wish against the whole fleet: either a plan in which nothing is left to choose, or one refusal.

use std::collections::{BTreeMap, BTreeSet};

use controller_policy::{Policy, Stage, check};
use proto_model::id::HostName;
use proto_model::plan::{FaultStep, Hypothesis, Origin, Plan, PlannedHost, PlannedStep, StepBody};
use proto_model::probe::{ProbeRole, ProbeSpec, Prober};
use proto_model::quantity::Millis;

use crate::coverage;
use crate::decidable;
use crate::experiment::{Experiment, WishedFault, WishedHypothesis, WishedProbe, WishedProber, WishedStep, WishedTarget};
use crate::fleet::Fleet;
use crate::inventory::Inventory;
use crate::refusal::PlanRefusal;
use crate::step;
use crate::targets::{self, facts_allowed, no_targets};

/// Makes every choice, or says why there is none to make. The same arguments give the same plan, in whatever order hosts come.
pub fn plan(experiment: &Experiment, fleet: &Fleet, policy: &Policy, seed: u64) -> Result<Plan, PlanRefusal> {
    let seed = experiment.seed.unwrap_or(seed);
    resolve(experiment, fleet, policy, seed).map_err(|mut refusal| {
        refusal.locate(|problem| experiment.located(problem));
        refusal
    })
}

fn resolve(experiment: &Experiment, fleet: &Fleet, policy: &Policy, seed: u64) -> Result<Plan, PlanRefusal> {
    let inventory = Inventory::new(fleet, policy);
    let environment = targets::environment(experiment, &inventory)?;
    let mut choices = Choices {
        experiment,
        fleet: &inventory,
        environment: environment.clone(),
        seed,
        notes: Vec::new(),
        hosts: BTreeMap::new(),
    };
    let steps = choices.steps(&experiment.steps)?;
    let Choices { mut notes, hosts, .. } = choices;
    let hypothesis = hypothesis(experiment.hypothesis.as_ref(), &environment, &inventory)?;
    let guards = guards(experiment, hypothesis.as_ref(), &environment, &inventory, &mut notes)?;
    let production = inventory.is_production(&environment);
    let mut plan = Plan {
        name: experiment.name.clone(),
        origin: experiment.origin,
        service: experiment.service.clone(),
        environment,
        production,
        hypothesis,
        guards,
        limits: experiment.limits.clone(),
        steps,
        hosts: hosts.into_values().collect(),
        seed,
        notes: each_once(notes),
        source: experiment.source.clone(),
        variables: experiment.variables.clone(),
    };
    if let Some(hypothesis) = &plan.hypothesis {
        let notes = plan
            .fault_steps()
            .map(|(path, step)| coverage::notes(path, step, hypothesis, &inventory));
        let notes: Vec<String> = notes.flatten().collect();
        plan.notes.extend(notes);
    }
    decidable::check(&plan)?;
    check(&plan, Stage::Planning, policy, &fleet.occupancy())?;
    Ok(plan)
}

/// The choices of one plan while they are made.
struct Choices<'a> {
    experiment: &'a Experiment,
    fleet: &'a Inventory<'a>,
    environment: String,
    seed: u64,
    notes: Vec<String>,
    hosts: BTreeMap<&'a HostName, PlannedHost>,
}

impl<'a> Choices<'a> {
    fn steps(&mut self, wishes: &'a [WishedStep]) -> Result<Vec<PlannedStep>, PlanRefusal> {
        wishes.iter().map(|wish| self.step(wish)).collect()
    }

    fn step(&mut self, wish: &'a WishedStep) -> Result<PlannedStep, PlanRefusal> {
        let (path, body) = match wish {
            WishedStep::Wait { path, ms } => (path, StepBody::Wait { ms: *ms }),
            WishedStep::Fault(wish) => (&wish.path, StepBody::Fault(self.fault(wish)?)),
            WishedStep::Parallel { path, steps } => (path, StepBody::Parallel(self.steps(steps)?)),
            WishedStep::Sequence { path, steps } => (path, StepBody::Sequence(self.steps(steps)?)),
        };
        Ok(PlannedStep { path: path.clone(), body })
    }

    fn fault(&mut self, wish: &'a WishedFault) -> Result<FaultStep, PlanRefusal> {
        let chosen = targets::targets(wish, self.experiment.origin, &self.environment, self.fleet, self.seed)?;
        self.notes.extend(chosen.notes.iter().cloned());
        let mut step = step::resolve(wish, &chosen, &self.environment, self.fleet, self.seed, &mut self.notes)?;
        let limits = &self.experiment.limits;
        if limits.share_percent.is_some() || limits.keep_healthy.is_some() {
            step.among = chosen.matched.iter().map(|host| host.name.clone()).collect();
        }
        let planned = chosen.chosen.iter().map(|host| (&host.name, self.fleet.planned(host)));
        self.hosts.extend(planned);
        Ok(step)
    }
}

fn hypothesis(wish: Option<&WishedHypothesis>, environment: &str, fleet: &Inventory<'_>) -> Result<Option<Hypothesis>, PlanRefusal> {
    let Some(wish) = wish else { return Ok(None) };
    Ok(Some(Hypothesis {
        says: wish.says.clone(),
        before_ms: wish.before_ms,
        after_ms: wish.after_ms,
        probes: probes(&wish.probes, environment, fleet)?,
    }))
}

/// An attack has no guards of its own: in production its probes guard it too.
fn guards(
    experiment: &Experiment,
    hypothesis: Option<&Hypothesis>,
    environment: &str,
    fleet: &Inventory<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<ProbeSpec>, PlanRefusal> {
    let mut guards = probes(&experiment.guards, environment, fleet)?;
    if experiment.origin == Origin::Attack && fleet.is_production(environment) && guards.is_empty() {
        guards.extend(hypothesis.into_iter().flat_map(|h| &h.probes).map(|probe| ProbeSpec {
            name: format!("{}-guard", probe.name),
            role: ProbeRole::Guard,
            ..probe.clone()
        }));
    }
    notes.extend(guards.iter().map(|guard| {
        let worst = Millis(guard.worst_reaction_ms());
        format!("guard {} stops the run within {worst} at worst", guard.name)
    }));
    Ok(guards)
}

fn probes(wishes: &[WishedProbe], environment: &str, fleet: &Inventory<'_>) -> Result<Vec<ProbeSpec>, PlanRefusal> {
    let prober = |wish: &WishedProbe| match &wish.from {
        WishedProber::Controller => Ok(Prober::Controller),
        WishedProber::Hosts(selector) => {
            let path = format!("{}.from", wish.path);
            facts_allowed(&path, selector, environment, fleet)?;
            let on = WishedTarget {
                selectors: vec![selector.clone()],
                pick: None,
            };
            let matching = fleet
                .known()
                .filter(|host| on.matches(host) && fleet.environment_of(host) == environment);
            let names: BTreeSet<HostName> = matching.map(|host| host.name.clone()).collect();
            if names.is_empty() {
                return Err(no_targets(&path, &on, fleet));
            }
            Ok(Prober::Hosts(names.into_iter().collect()))
        }
    };
    wishes
        .iter()
        .map(|wish| {
            Ok(ProbeSpec {
                from: prober(wish)?,
                ..wish.spec.clone()
            })
        })
        .collect()
}

fn each_once(notes: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    notes.into_iter().filter(|note| seen.insert(note.clone())).collect()
}
