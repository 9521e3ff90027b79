//! Samples into phases: a sample belongs to the phase it began in, is dropped when it spans two, and makes a probe recovered.

use proto_model::event::{EventBody, RunPhase};
use proto_model::probe::{Phase, Sample, SampledBy};
use proto_model::time::Timestamp;

use crate::machine::Conductor;
use crate::track::{BATCH_MS, ProbeTrack};

/// Samples that wait until it is known when the last injection ended; of more the oldest are left out.
const UNPLACED: usize = 2_048;

impl Conductor {
    /// What a prober has seen. It speaks for itself only, and only of probes that it was asked to run.
    pub(crate) fn take_sample(&mut self, now: Timestamp, from: &SampledBy, sample: Sample) {
        if &sample.prober != from {
            return tracing::debug!(%from, prober = %sample.prober, probe = sample.probe, "a sample in the name of another prober is left out");
        }
        let of_prober = |t: &&mut ProbeTrack| t.spec.name == sample.probe && t.prober == sample.prober;
        if let Some(track) = self.probes.iter_mut().find(of_prober) {
            track.evaluated_at = Some(now);
        }
        self.keep_sample(now, sample);
    }

    /// Seen, or standing for silence.
    pub(crate) fn keep_sample(&mut self, now: Timestamp, sample: Sample) {
        if !self.probing {
            return;
        }
        if !self.unplaced.is_empty() {
            self.place_samples(now);
        }
        let sample = by_our_clock(now, sample);
        let Some(at) = self
            .probes
            .iter()
            .position(|t| t.spec.name == sample.probe && t.prober == sample.prober)
        else {
            return;
        };
        let track = &mut self.probes[at];
        track.take(now, &sample);
        let role = track.spec.role;
        let phase = self.phase_of(&sample);
        // A run that is being stopped is judged by what was before; what comes after it shows whether the system recovers.
        if phase != Some(Phase::After) && matches!(self.phase(), RunPhase::Stopping | RunPhase::Verifying) {
            return self.keep_unplaced(sample);
        }
        let Some(phase) = phase else { return };
        self.record(now, EventBody::ProbeSampled { role, phase, sample });
        if phase == Phase::After {
            self.note_recoveries(now);
        }
        self.break_guards(now);
    }

    fn keep_unplaced(&mut self, sample: Sample) {
        if self.unplaced.len() >= UNPLACED {
            self.unplaced.pop_front();
        }
        self.unplaced.push_back(sample);
    }

    /// When the last end is known, so is which samples were after it.
    pub(crate) fn place_samples(&mut self, now: Timestamp) {
        if !self.state.totals.are_over() {
            return;
        }
        for sample in std::mem::take(&mut self.unplaced) {
            let role = self.probes.iter().find(|t| t.spec.name == sample.probe).map(|t| t.spec.role);
            if let (Some(role), Some(phase @ Phase::After)) = (role, self.phase_of(&sample)) {
                self.record(now, EventBody::ProbeSampled { role, phase, sample });
            }
        }
        self.note_recoveries(now);
    }

    /// Before: ended before the first order. During: from the first effect until the last of what still acts begins to end.
    /// After: began when nothing acts any more. Everything in between spans two and says nothing.
    fn phase_of(&self, sample: &Sample) -> Option<Phase> {
        let (start, end) = (sample.started_at, sample.started_at.plus_ms(sample.took_ms));
        let all = self.state.totals;
        if all.first_ordered.is_none_or(|order| end < order) {
            return Some(Phase::Before);
        }
        if start >= all.first_applied? && self.state.last_undo_began().is_none_or(|undo| end <= undo) {
            return Some(Phase::During);
        }
        self.over_at().is_some_and(|over| start >= over).then_some(Phase::After)
    }
}

/// A host's clock may be wrong: a sample cannot end after it arrived, nor be older than its batch.
fn by_our_clock(now: Timestamp, mut sample: Sample) -> Sample {
    let end = sample.started_at.plus_ms(sample.took_ms);
    if end > now || now.since(end) > BATCH_MS {
        let took = i64::try_from(sample.took_ms).unwrap_or(0);
        sample.started_at = Timestamp(now.0.saturating_sub(took));
    }
    sample
}
