//! Samples counted: per probe, phase and step, whether it held, and whether enough was seen to say so. No sample itself is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto_model::probe::{MAX_MISSING_PERCENT, MIN_SAMPLES, Phase, ProbeRole, ProbeSpec, RECOVERED_RUN, Sample, SampleResult, SampledBy};
use proto_model::steps::as_written;
use proto_model::time::Timestamp;

use crate::injection_status::InjectionStatus;

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

    fn remove(&mut self, result: SampleResult) {
        self.samples = self.samples.saturating_sub(1);
        match result {
            SampleResult::Good => {}
            SampleResult::Bad => self.bad = self.bad.saturating_sub(1),
            SampleResult::Missing => self.missing = self.missing.saturating_sub(1),
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

/// Samples during the run that are remembered until the ends of what acted then are known.
const RECENT: usize = 2_048;

/// The samples of a run, as counts.
#[derive(Debug, Clone, Default)]
pub struct SampleCounts {
    hypothesis: BTreeMap<String, ProbeCounts>,
    guards: BTreeMap<String, ProbeCounts>,
    /// Newest last. An end may be reported late: then these are counted anew by when it was.
    recent: VecDeque<Recent>,
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
    answers: BTreeMap<SampledBy, Answers>,
}

/// What one prober of a probe was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    pub last: Sample,
    /// Good samples in a row after the last undo.
    good_run: u32,
    pub last_bad_end: Option<Timestamp>,
    pub recovered: bool,
}

#[derive(Debug, Clone)]
struct Recent {
    role: ProbeRole,
    probe: String,
    prober: SampledBy,
    started_at: Timestamp,
    ended_at: Timestamp,
    result: SampleResult,
    steps: BTreeSet<String>,
    during: bool,
}

/// What an end that has become known changes for samples that were counted before.
pub(crate) struct KnownEnd<'a> {
    pub step: String,
    pub ending_at: Timestamp,
    pub last_undo_began: Option<Timestamp>,
    /// When the last of all injections ended, once all have.
    pub over_at: Option<Timestamp>,
    /// Nothing is out, so that no other end will become known.
    pub all_known: bool,
    pub injections: &'a [InjectionStatus],
}

impl SampleCounts {
    /// `open` says whether some injection is out, so that its end is not known yet.
    pub(crate) fn take(&mut self, role: ProbeRole, phase: Phase, sample: &Sample, injections: &[InjectionStatus], open: bool) {
        let counts = self.of_mut(role, &sample.probe);
        counts.answer(sample);
        let ended_at = sample.started_at.plus_ms(sample.took_ms);
        match phase {
            Phase::Before => counts.before.add(sample.result),
            Phase::During => {
                let steps = counts.take_during(sample, injections);
                if open {
                    self.remember(role, sample, ended_at, steps);
                }
            }
            Phase::After => counts.take_after(&sample.prober, sample.result, ended_at),
        }
    }

    fn remember(&mut self, role: ProbeRole, sample: &Sample, ended_at: Timestamp, steps: BTreeSet<String>) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            role,
            probe: sample.probe.clone(),
            prober: sample.prober.clone(),
            started_at: sample.started_at,
            ended_at,
            result: sample.result,
            steps,
            during: true,
        });
    }

    /// Counts anew what was sampled after an end that has become known only now.
    pub(crate) fn revise(&mut self, end: &KnownEnd<'_>) {
        let mut recent = std::mem::take(&mut self.recent);
        for sample in recent.iter_mut().rev().take_while(|sample| sample.ended_at > end.ending_at) {
            let acts = |i: &InjectionStatus| as_written(&i.injection.step) == end.step && i.acted_at(sample.started_at);
            let counts = self.of_mut(sample.role, &sample.probe);
            if sample.steps.contains(&end.step) && !end.injections.iter().any(acts) {
                sample.steps.remove(&end.step);
                counts.by_step.entry(end.step.clone()).or_default().remove(sample.result);
            }
            if sample.during && end.last_undo_began.is_some_and(|began| sample.ended_at > began) {
                sample.during = false;
                counts.leave_during(sample.result, sample.ended_at);
            }
        }
        let after = |sample: &&Recent| !sample.during && end.over_at.is_some_and(|over_at| sample.started_at >= over_at);
        for sample in recent.iter().filter(after) {
            let counts = self.of_mut(sample.role, &sample.probe);
            counts.take_after(&sample.prober, sample.result, sample.ended_at);
        }
        if !end.all_known {
            self.recent = recent;
        }
    }

    fn of_mut(&mut self, role: ProbeRole, probe: &str) -> &mut ProbeCounts {
        let probes = match role {
            ProbeRole::Hypothesis => &mut self.hypothesis,
            ProbeRole::Guard => &mut self.guards,
        };
        probes.entry(probe.to_owned()).or_default()
    }

    /// Of a hypothesis probe.
    pub fn tally(&self, probe: &str, phase: Phase) -> PhaseTally {
        let counts = self.hypothesis.get(probe);
        let tally = counts.map(|counts| match phase {
            Phase::Before => counts.before,
            Phase::During => counts.during,
            Phase::After => counts.after,
        });
        tally.unwrap_or_default()
    }

    pub(crate) fn answers(&self, role: ProbeRole, probe: &str) -> impl Iterator<Item = &Answers> {
        let probes = match role {
            ProbeRole::Hypothesis => &self.hypothesis,
            ProbeRole::Guard => &self.guards,
        };
        probes.get(probe).into_iter().flat_map(|counts| counts.answers.values())
    }

    /// By step as it is written: the samples of a hypothesis probe that began while one of its injections acted.
    pub(crate) fn while_steps_acted(&self, probe: &str) -> impl Iterator<Item = (&String, &PhaseTally)> {
        self.hypothesis.get(probe).into_iter().flat_map(|counts| &counts.by_step)
    }

    pub(crate) fn first_bad(&self, probe: &str) -> Option<Timestamp> {
        self.hypothesis.get(probe)?.first_bad
    }

    /// The places of the injections that acted while the probe was bad.
    pub(crate) fn acting_when_bad(&self, probe: &str) -> impl Iterator<Item = usize> {
        self.hypothesis
            .get(probe)
            .into_iter()
            .flat_map(|counts| &counts.acting_when_bad)
            .copied()
    }
}

impl ProbeCounts {
    fn answer(&mut self, sample: &Sample) {
        match self.answers.get_mut(&sample.prober) {
            Some(answers) => answers.last = sample.clone(),
            None => {
                let answers = Answers {
                    last: sample.clone(),
                    good_run: 0,
                    last_bad_end: None,
                    recovered: false,
                };
                self.answers.insert(sample.prober.clone(), answers);
            }
        }
    }

    /// Returns the steps that acted when it began.
    fn take_during(&mut self, sample: &Sample, injections: &[InjectionStatus]) -> BTreeSet<String> {
        self.during.add(sample.result);
        let acting = injections.iter().filter(|i| i.acted_at(sample.started_at));
        let steps: BTreeSet<String> = acting.map(|i| as_written(&i.injection.step)).collect();
        for step in &steps {
            self.by_step.entry(step.clone()).or_default().add(sample.result);
        }
        if sample.result == SampleResult::Bad {
            let end = sample.started_at.plus_ms(sample.took_ms);
            self.first_bad = self.first_bad.into_iter().chain([end]).min();
            let acted =
                |i: &InjectionStatus| i.applied_at.is_some_and(|at| at <= end) && i.ended_at.is_none_or(|at| sample.started_at <= at);
            let places = injections.iter().enumerate().filter(|(_, i)| acted(i));
            self.acting_when_bad.extend(places.map(|(place, _)| place));
        }
        steps
    }

    fn leave_during(&mut self, result: SampleResult, ended_at: Timestamp) {
        self.during.remove(result);
        if self.during.bad == 0 || self.first_bad == Some(ended_at) {
            self.first_bad = None;
        }
    }

    fn take_after(&mut self, prober: &SampledBy, result: SampleResult, ended_at: Timestamp) {
        self.after.add(result);
        let Some(answers) = self.answers.get_mut(prober) else { return };
        match result {
            SampleResult::Good => answers.good_run += 1,
            SampleResult::Bad => (answers.good_run, answers.last_bad_end) = (0, Some(ended_at)),
            SampleResult::Missing => answers.good_run = 0,
        }
        answers.recovered |= answers.good_run >= RECOVERED_RUN;
    }
}
