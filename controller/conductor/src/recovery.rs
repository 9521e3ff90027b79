//! After the last undo the probes go on, whatever ended the run: until the system is steady again, or until the time for it is over.

use proto_model::event::{EventBody, RunPhase};
use proto_model::probe::RECOVERED_RUN;
use proto_model::time::Timestamp;

use crate::machine::{Action, Conductor};
use crate::track::BATCH_MS;

/// How long a run without a hypothesis, which names no time, watches its guards.
const GUARDS_WITHIN_MS: u64 = 30_000;

impl Conductor {
    pub(crate) fn begin_probing(&mut self, now: Timestamp) {
        if !self.probes.is_empty() {
            self.probes.iter_mut().for_each(|probe| probe.begin(now));
            self.act(Action::StartProbes);
            self.probing = true;
        }
    }

    pub(crate) fn end_probing(&mut self) {
        if std::mem::take(&mut self.probing) {
            self.act(Action::StopProbes);
        }
    }

    /// Whether the run still watches for the system to come back. Nothing that was not injected has to be recovered from.
    pub(crate) fn awaits_recovery(&mut self, now: Timestamp) -> bool {
        let injected = self.state.totals.first_applied.is_some();
        if !injected || !self.probing || self.state.plan.probes().all(|probe| self.state.has_recovered(probe)) {
            return false;
        }
        let Some(since) = self.over_at() else { return false };
        let probes = self.state.plan.probes();
        // However short the time is, it has room for the samples that it takes.
        let least = probes
            .map(|probe| u64::from(RECOVERED_RUN) * probe.every_ms + probe.timeout_ms + BATCH_MS)
            .max();
        let hypothesis = self.state.plan.hypothesis.as_ref();
        let within = hypothesis.map_or(GUARDS_WITHIN_MS, |hypothesis| hypothesis.after_ms);
        self.lasts(now, since.plus_ms(within.max(least.unwrap_or(0))))
    }

    /// When the last injection ended; of hosts that are lost for good, when the run gave up waiting for them.
    pub(crate) fn over_at(&self) -> Option<Timestamp> {
        let all = self.state.totals;
        if all.are_over() {
            return all.last_ended;
        }
        self.state.entered_at(RunPhase::Verifying)
    }

    /// Puts on record which hypothesis probes have come back.
    pub(crate) fn note_recoveries(&mut self, now: Timestamp) {
        let plan = self.state.plan.clone();
        for probe in plan.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes) {
            if self.state.recovered.contains_key(&probe.name) {
                continue;
            }
            if let Some(recovery_ms) = self.state.recovery_ms(probe) {
                let probe = probe.name.clone();
                self.record(now, EventBody::HypothesisRecovered { probe, recovery_ms });
            }
        }
    }
}
