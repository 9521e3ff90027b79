//! Samples counted: per probe, phase and step, whether it held, and whether enough was seen to say so. No sample itself is kept.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::probe::{MAX_MISSING_PERCENT, MIN_SAMPLES, Phase, ProbeRole, ProbeSpec, Sample, SampleResult};
use proto_model::steps::as_written;
use proto_model::time::Timestamp;

use crate::injection_status::InjectionStatus;
use crate::state::RunState;

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

/// The hypothesis probes' samples of a run, as counts.
#[derive(Debug, Clone, Default)]
pub struct SampleCounts {
    probes: BTreeMap<String, ProbeCounts>,
}

/// One probe's samples.
#[derive(Debug, Clone, Default)]
struct ProbeCounts {
    before: PhaseTally,
    during: PhaseTally,
    after: PhaseTally,
    /// By step as it is written, over all of its rounds and hosts: the samples that began while one of its injections acted.
    by_step: BTreeMap<String, PhaseTally>,
    /// When the first bad sample during the run ended.
    first_bad: Option<Timestamp>,
    /// The places of the injections that acted at any time of a bad sample.
    acting_when_bad: BTreeSet<usize>,
}

impl SampleCounts {
    pub(crate) fn take(&mut self, role: ProbeRole, phase: Phase, sample: &Sample, injections: &[InjectionStatus]) {
        match role {
            ProbeRole::Hypothesis => {}
            ProbeRole::Guard => return,
        }
        let counts = self.probes.entry(sample.probe.clone()).or_default();
        match phase {
            Phase::Before => counts.before.add(sample.result),
            Phase::During => counts.take_during(sample, injections),
            Phase::After => counts.after.add(sample.result),
        }
    }

    pub fn tally(&self, probe: &str, phase: Phase) -> PhaseTally {
        let counts = self.probes.get(probe);
        let tally = counts.map(|counts| match phase {
            Phase::Before => counts.before,
            Phase::During => counts.during,
            Phase::After => counts.after,
        });
        tally.unwrap_or_default()
    }

    pub(crate) fn first_bad(&self, probe: &str) -> Option<Timestamp> {
        self.probes.get(probe)?.first_bad
    }

    /// The places of the injections that acted while the probe was bad.
    pub(crate) fn acting_when_bad(&self, probe: &str) -> impl Iterator<Item = usize> {
        self.probes
            .get(probe)
            .into_iter()
            .flat_map(|counts| &counts.acting_when_bad)
            .copied()
    }
}

impl ProbeCounts {
    fn take_during(&mut self, sample: &Sample, injections: &[InjectionStatus]) {
        self.during.add(sample.result);
        let acting = injections.iter().filter(|i| i.acted_at(sample.started_at));
        for step in acting.map(|i| as_written(&i.injection.step)).collect::<BTreeSet<_>>() {
            self.by_step.entry(step).or_default().add(sample.result);
        }
        if sample.result == SampleResult::Bad {
            let end = sample.started_at.plus_ms(sample.took_ms);
            self.first_bad = self.first_bad.into_iter().chain([end]).min();
            let acted =
                |i: &InjectionStatus| i.applied_at.is_some_and(|at| at <= end) && i.ended_at.is_none_or(|at| sample.started_at <= at);
            let places = injections.iter().enumerate().filter(|(_, i)| acted(i));
            self.acting_when_bad.extend(places.map(|(place, _)| place));
        }
    }
}

/// A hypothesis probe in one phase. After the last undo it holds when it has recovered, and only then.
pub fn standing(state: &RunState, probe: &ProbeSpec, phase: Phase) -> Standing {
    let seen = state.samples.tally(&probe.name, phase);
    match phase {
        Phase::Before => seen.standing(probe),
        Phase::During => during(state, probe).standing,
        Phase::After if state.recovered.contains_key(&probe.name) => Standing::Held,
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
pub fn during(state: &RunState, probe: &ProbeSpec) -> During {
    let whole = (None, state.samples.tally(&probe.name, Phase::During));
    let steps = while_acting(state, &probe.name)
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

/// Every step that acted, also one while which no sample began.
fn while_acting(state: &RunState, probe: &str) -> BTreeMap<String, PhaseTally> {
    let applied = state.injections.iter().filter(|i| i.applied_at.is_some());
    let mut steps: BTreeMap<String, PhaseTally> = applied.map(|i| (as_written(&i.injection.step), PhaseTally::default())).collect();
    steps.extend(
        state
            .samples
            .probes
            .get(probe)
            .into_iter()
            .flat_map(|counts| counts.by_step.clone()),
    );
    steps
}
