//! Samples counted: per probe and phase, whether it held, and whether enough was seen to say so.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::probe::{MAX_MISSING_PERCENT, MIN_SAMPLES, Phase, ProbeRole, ProbeSpec, Sample, SampleResult};
use proto_model::steps::as_written;
use proto_model::time::Timestamp;

use crate::history::{History, InjectionHistory};

/// One probe in one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseTally {
    pub samples: u32,
    pub bad: u32,
    pub missing: u32,
}

impl PhaseTally {
    pub fn add(&mut self, result: SampleResult) {
        self.samples += 1;
        match result {
            SampleResult::Good => {}
            SampleResult::Bad => self.bad += 1,
            SampleResult::Missing => self.missing += 1,
        }
    }

    /// Samples that were not missing.
    pub fn answered(&self) -> u32 {
        self.samples - self.missing
    }

    /// More bad samples than the probe tolerates, of those that were answered.
    pub fn broke(&self, probe: &ProbeSpec) -> bool {
        self.bad > 0 && !probe.tolerate.allows(self.bad, self.answered())
    }

    /// Whether enough was seen to say that it held.
    pub fn enough(&self) -> bool {
        self.answered() >= MIN_SAMPLES && f64::from(self.missing) * 100.0 <= MAX_MISSING_PERCENT * f64::from(self.samples)
    }

    pub fn standing(&self, probe: &ProbeSpec) -> Standing {
        if self.broke(probe) {
            Standing::Broke
        } else if self.enough() {
            Standing::Held
        } else {
            Standing::Unknown
        }
    }
}

/// What a phase's samples say of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Held,
    Broke,
    /// Too few samples, or too many of them missing.
    Unknown,
}

/// A hypothesis probe in one phase. After the last undo it holds when it has recovered, and only then.
pub fn standing(history: &History, probe: &ProbeSpec, phase: Phase) -> Standing {
    let seen = tally(history, &probe.name, phase);
    match phase {
        Phase::Before => seen.standing(probe),
        Phase::During => during(history, probe).standing,
        Phase::After if history.recovered.contains_key(&probe.name) => Standing::Held,
        Phase::After if seen.enough() => Standing::Broke,
        Phase::After => Standing::Unknown,
    }
}

/// What decides how a probe stood while the run went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct During {
    pub standing: Standing,
    pub tally: PhaseTally,
    /// The step while which this was seen; none for the whole time from the first effect to the last.
    pub step: Option<String>,
}

/// The whole time, and each step by itself: good samples from a wait say nothing of a fault, so the worst of them counts.
pub fn during(history: &History, probe: &ProbeSpec) -> During {
    let whole = (None, tally(history, &probe.name, Phase::During));
    let steps = while_acting(history, &probe.name)
        .into_iter()
        .map(|(step, tally)| (Some(step), tally));
    let all: Vec<During> = [whole]
        .into_iter()
        .chain(steps)
        .map(|(step, tally)| During {
            standing: tally.standing(probe),
            tally,
            step,
        })
        .collect();
    let first = |standing: Standing| all.iter().find(|seen| seen.standing == standing).cloned();
    first(Standing::Broke)
        .or_else(|| first(Standing::Unknown))
        .unwrap_or_else(|| all[0].clone())
}

/// By step as it is written, over all of its rounds and hosts: the samples that began while one of its injections acted.
fn while_acting(history: &History, probe: &str) -> BTreeMap<String, PhaseTally> {
    let mut steps: BTreeMap<String, PhaseTally> = BTreeMap::new();
    let applied = history.injections.iter().filter(|i| i.applied_at.is_some());
    steps.extend(applied.map(|i| (as_written(&i.injection.step), PhaseTally::default())));
    for sample in of(history, probe, Phase::During) {
        let acting = history.injections.iter().filter(|i| acted_at(i, sample.started_at));
        for step in acting.map(|i| as_written(&i.injection.step)).collect::<BTreeSet<_>>() {
            steps.entry(step).or_default().add(sample.result);
        }
    }
    steps
}

fn acted_at(injection: &InjectionHistory, at: Timestamp) -> bool {
    let end = injection.ending_at.or(injection.ended_at);
    injection.applied_at.is_some_and(|applied| applied <= at) && end.is_none_or(|end| at <= end)
}

/// A hypothesis probe's samples in one phase.
pub fn tally(history: &History, probe: &str, phase: Phase) -> PhaseTally {
    let mut tally = PhaseTally::default();
    for sample in of(history, probe, phase) {
        tally.add(sample.result);
    }
    tally
}

fn of<'a>(history: &'a History, probe: &'a str, phase: Phase) -> impl Iterator<Item = &'a Sample> {
    let wanted =
        move |(p, role, sample): &&(Phase, ProbeRole, Sample)| *p == phase && *role == ProbeRole::Hypothesis && sample.probe == probe;
    history.samples.iter().filter(wanted).map(|(_, _, sample)| sample)
}
