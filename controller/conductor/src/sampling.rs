//! Samples into phases: a sample belongs to the phase it began in, is dropped when it spans two, and makes a probe recovered.

use proto_model::event::{EventBody, RunPhase};
use proto_model::probe::{Phase, Sample, SampledBy};
use proto_model::time::Timestamp;

use crate::machine::Conductor;
use crate::track::{BATCH_MS, ProbeTrack};

impl Conductor {
    /// What a prober has seen. It speaks for itself only, and only of probes that it was asked to run.
    pub(crate) fn take_sample(&mut self, now: Timestamp, from: &SampledBy, sample: Sample) {
        if &sample.prober != from {
            return tracing::warn!(%from, prober = %sample.prober, probe = sample.probe, "a sample in the name of another prober is left out");
        }
        let of_prober = |t: &&mut ProbeTrack| t.spec.name == sample.probe && t.prober == sample.prober;
        if let Some(track) = self.probes.iter_mut().find(of_prober) {
            track.evaluated_at = Some(now);
        }
        self.keep_sample(now, sample);
    }

    /// Seen, or standing for silence.
    pub(crate) fn keep_sample(&mut self, now: Timestamp, sample: Sample) {
        if !matches!(self.phase(), RunPhase::Before | RunPhase::During | RunPhase::After) {
            return;
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
        let (role, guard) = (track.spec.role, track.is_guard());
        let Some(phase) = self.phase_of(&sample) else { return };
        if !guard && phase == Phase::After {
            self.probes[at].take_after(&sample);
        }
        let probe = sample.probe.clone();
        self.record(now, EventBody::ProbeSampled { role, phase, sample });
        if !guard && phase == Phase::After {
            self.note_recovery(now, &probe);
        }
        self.break_guards(now);
    }

    /// Before: ended before the first order. During: from the first effect until the last of what still acts begins to end.
    /// After: began when nothing acts any more. Everything in between spans two and says nothing.
    fn phase_of(&self, sample: &Sample) -> Option<Phase> {
        let (start, end) = (sample.started_at, sample.started_at.plus_ms(sample.took_ms));
        let all = self.state.totals;
        if all.first_ordered.is_none_or(|order| end < order) {
            return Some(Phase::Before);
        }
        if start >= all.first_applied? && self.last_undo_began().is_none_or(|undo| end <= undo) {
            return Some(Phase::During);
        }
        let over_at = all.last_ended.filter(|_| all.are_over());
        over_at.is_some_and(|over| start >= over).then_some(Phase::After)
    }

    /// A step begins to end with the first of its injections that held; of several steps the last one counts. `None` while
    /// a step is still to come or holds all of its hosts.
    fn last_undo_began(&self) -> Option<Timestamp> {
        let mut last = None;
        for step in self.state.counts_by_step() {
            if !step.are_over() && step.first_ending.is_none() {
                return None;
            }
            last = last.max(step.first_ending);
        }
        last.or(self.state.totals.last_ended)
    }

    fn note_recovery(&mut self, now: Timestamp, probe: &str) {
        // Every prober of the probe must have seen it come back.
        let mut probers = self.probes.iter().filter(|t| t.spec.name == probe);
        if self.state.recovered.contains_key(probe) || !probers.all(|t| t.recovered) {
            return;
        }
        let last_undo = self.state.totals.last_ended;
        let last_bad = self
            .probes
            .iter()
            .filter(|t| t.spec.name == probe)
            .filter_map(|t| t.last_bad_end)
            .max();
        let recovery_ms = match (last_bad, last_undo) {
            (Some(bad), Some(undo)) => bad.since(undo),
            _ => 0,
        };
        self.record(
            now,
            EventBody::HypothesisRecovered {
                probe: probe.to_owned(),
                recovery_ms,
            },
        );
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
