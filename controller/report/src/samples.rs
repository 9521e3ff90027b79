//! Samples counted: per probe and phase, whether it held, and whether enough was seen to say so.

use proto_model::probe::{MAX_MISSING_PERCENT, MIN_SAMPLES, Phase, ProbeRole, ProbeSpec, Sample, SampleResult};

use crate::history::History;

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
        Phase::Before | Phase::During => seen.standing(probe),
        Phase::After if history.recovered.contains_key(&probe.name) => Standing::Held,
        Phase::After if seen.enough() => Standing::Broke,
        Phase::After => Standing::Unknown,
    }
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
