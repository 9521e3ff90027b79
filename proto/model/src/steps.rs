//! The steps of a plan as a tree: what runs in order, what at the same time, how long and over which hosts. It plans nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{HostName, InjectionId};
use crate::injection::{Injection, Wish};
use crate::plan::{FaultStep, Plan, PlannedInjection, PlannedStep, StepBody};

/// What a path's branches of a parallel step are called.
const BRANCH: &str = "parallel[";

/// Faults that may act at the same time: one alone, or those of all branches of a parallel step.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment<'a> {
    /// Of the fault, or of the parallel step.
    pub path: &'a str,
    pub faults: Vec<(&'a str, &'a FaultStep)>,
}

impl<'a> Moment<'a> {
    /// Each host once, however many branches inject it.
    pub fn hosts(&self) -> BTreeSet<&'a HostName> {
        self.faults
            .iter()
            .flat_map(|(_, step)| step.injections.iter().map(|i| &i.host))
            .collect()
    }
}

/// Whether two steps of one plan may act at the same time: they part at branches of one parallel step.
pub fn may_overlap(one: &str, other: &str) -> bool {
    let parted = one.split('.').zip(other.split('.')).find(|(a, b)| a != b);
    parted.is_some_and(|(a, b)| a.starts_with(BRANCH) && b.starts_with(BRANCH))
}

impl PlannedStep {
    /// The steps directly below it.
    pub fn children(&self) -> &[PlannedStep] {
        match &self.body {
            StepBody::Fault(_) | StepBody::Wait { .. } => &[],
            StepBody::Parallel(steps) | StepBody::Sequence(steps) => steps,
        }
    }

    /// From its start to the last undo as planned; what undoing takes is not counted.
    pub fn length_ms(&self) -> u64 {
        let children = || self.children().iter().map(Self::length_ms);
        match &self.body {
            StepBody::Fault(fault) => fault.duration_ms,
            StepBody::Wait { ms } => *ms,
            StepBody::Parallel(_) => children().max().unwrap_or(0),
            StepBody::Sequence(_) => children().fold(0, u64::saturating_add),
        }
    }

    /// Itself and everything below it, parents first.
    pub fn with_all_below(&self) -> Vec<&PlannedStep> {
        let below = self.children().iter().flat_map(Self::with_all_below);
        std::iter::once(self).chain(below).collect()
    }

    fn faults(&self) -> Vec<(&str, &FaultStep)> {
        let mut faults = Vec::new();
        for step in self.with_all_below() {
            if let StepBody::Fault(fault) = &step.body {
                faults.push((step.path.as_str(), fault));
            }
        }
        faults
    }

    fn moments(&self) -> Vec<Moment<'_>> {
        match &self.body {
            StepBody::Sequence(steps) => steps.iter().flat_map(Self::moments).collect(),
            StepBody::Wait { .. } => Vec::new(),
            StepBody::Fault(_) | StepBody::Parallel(_) => vec![Moment {
                path: &self.path,
                faults: self.faults(),
            }],
        }
    }
}

impl Plan {
    /// Every step, parents before their children, in the file's order.
    pub fn all_steps(&self) -> Vec<&PlannedStep> {
        self.steps.iter().flat_map(PlannedStep::with_all_below).collect()
    }

    pub fn fault_steps(&self) -> impl Iterator<Item = (&str, &FaultStep)> {
        self.steps.iter().flat_map(PlannedStep::faults)
    }

    /// What may act at the same time, in order; a branch that is a group counts with all of its hosts.
    pub fn moments(&self) -> Vec<Moment<'_>> {
        self.steps.iter().flat_map(PlannedStep::moments).collect()
    }

    /// From the first step's start to the last undo, as planned.
    pub fn steps_ms(&self) -> u64 {
        self.steps.iter().map(PlannedStep::length_ms).fold(0, u64::saturating_add)
    }

    /// What this host is asked in preflight, step by step.
    pub fn wishes(&self, host: &HostName) -> Vec<(&str, Wish)> {
        self.wishes_of(|other| other == host).remove(host).unwrap_or_default()
    }

    /// The same for every host, in one pass over the plan.
    pub fn wishes_by_host(&self) -> BTreeMap<&HostName, Vec<(&str, Wish)>> {
        self.wishes_of(|_| true)
    }

    /// What a run of the plan carries out. Their ids are made now, so that one plan may run twice.
    pub fn injections(&self) -> Vec<Injection> {
        let steps = self.fault_steps();
        let all = steps.flat_map(|(path, step)| step.injections.iter().map(move |planned| (path, step, planned)));
        all.map(|(path, step, planned)| Injection {
            id: InjectionId::generate(),
            step: path.to_owned(),
            host: planned.host.clone(),
            wish: self.wish(step, planned),
        })
        .collect()
    }

    fn wish(&self, step: &FaultStep, planned: &PlannedInjection) -> Wish {
        Wish {
            fault: step.fault.clone(),
            params: step.params.clone(),
            duration_ms: step.duration_ms,
            seed: planned.seed,
            beside: Vec::new(),
            unattended: self.origin.is_unattended(),
        }
    }

    fn wishes_of(&self, is_asked: impl Fn(&HostName) -> bool) -> BTreeMap<&HostName, Vec<(&str, Wish)>> {
        let mut by_host: BTreeMap<&HostName, Vec<(&str, Wish)>> = BTreeMap::new();
        for (path, step) in self.fault_steps() {
            for injection in step.injections.iter().filter(|i| is_asked(&i.host)) {
                let wishes = by_host.entry(&injection.host).or_default();
                let beside = wishes.iter().enumerate().filter(|(_, (other, _))| may_overlap(path, other));
                let wish = Wish {
                    beside: beside.map(|(at, _)| at).collect(),
                    ..self.wish(step, injection)
                };
                wishes.push((path, wish));
            }
        }
        by_host
    }
}

/// The path of a step as somebody wrote it: a round is planned more often than it is written.
pub fn as_written(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').filter(|part| !part.starts_with("round[")).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_branches_of_one_parallel_step_overlap() {
        for (one, other, expected) in [
            ("steps[0]", "steps[1]", false),
            ("steps[0].parallel[0]", "steps[0].parallel[1]", true),
            ("steps[0].parallel[0].steps[1]", "steps[0].parallel[1]", true),
            ("steps[0].parallel[0].steps[0]", "steps[0].parallel[0].steps[1]", false),
            ("steps[0].parallel[0]", "steps[1].parallel[1]", false),
            ("steps[0].round[0].parallel[0]", "steps[0].round[1].parallel[1]", false),
            ("steps[0].parallel[0]", "steps[0].parallel[0]", false),
        ] {
            assert_eq!(may_overlap(one, other), expected, "{one} {other}");
        }
    }

    fn wait(path: &str, ms: u64) -> PlannedStep {
        PlannedStep {
            path: path.to_owned(),
            body: StepBody::Wait { ms },
        }
    }

    #[test]
    fn branches_take_as_long_as_the_longest_and_rounds_add_up() {
        let branches = StepBody::Parallel(vec![wait("a", 5), wait("b", 7)]);
        let parallel = PlannedStep {
            path: "p".into(),
            body: branches,
        };
        let sequence = PlannedStep {
            path: "s".into(),
            body: StepBody::Sequence(vec![parallel, wait("c", 2)]),
        };
        assert_eq!(sequence.length_ms(), 9);
        let paths: Vec<&str> = sequence.with_all_below().iter().map(|s| s.path.as_str()).collect();
        assert_eq!(paths, ["s", "p", "a", "b", "c"]);
    }
}
