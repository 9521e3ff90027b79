//! The way of a run from phase to phase. Nothing leaves stopping except to verifying; nothing leaves finished.

use controller_report::Standing;
use proto_model::event::{EventBody, RunPhase, StopCause};
use proto_model::injection::EndedBy;
use proto_model::probe::{MIN_SAMPLES, Phase};
use proto_model::time::Timestamp;

use crate::host_gateway::GatewayError;
use crate::machine::{Action, Conductor};
use crate::track::BATCH_MS;

/// Steps that can be taken in one advance: more than any plan has, so a mistake here cannot spin.
const MAX_MOVES: usize = 10_000;

impl Conductor {
    pub(crate) fn begin(&mut self, now: Timestamp) {
        if self.phase() != RunPhase::Accepted {
            return;
        }
        self.enter(now, RunPhase::Preflight);
        let plan = self.state.plan.clone();
        let mut wishes = plan.wishes_by_host();
        for host in plan.hosts.iter().map(|h| h.name.clone()) {
            let wishes = wishes.remove(&host).unwrap_or_default().into_iter().map(|(_, wish)| wish).collect();
            self.unanswered_preflights.insert(host.clone());
            self.act(Action::Preflight { host, wishes });
        }
    }

    /// Moves on as far as what is known allows.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        for _ in 0..MAX_MOVES {
            let before = (self.phase(), self.state.last_seq);
            match self.phase() {
                RunPhase::Accepted | RunPhase::Finished => return,
                RunPhase::Stopping => self.advance_stopping(now),
                RunPhase::Verifying => self.advance_verifying(now),
                _ if self.state.stop.is_some() => self.begin_stopping(now),
                RunPhase::Preflight => self.advance_preflight(now),
                RunPhase::Before => self.advance_before(now),
                RunPhase::During => self.advance_steps(now),
                RunPhase::After => self.advance_after(now),
            }
            if before == (self.phase(), self.state.last_seq) {
                return;
            }
            // A new phase looks at everything once.
            self.thorough |= before.0 != self.phase();
        }
    }

    fn advance_preflight(&mut self, now: Timestamp) {
        let (since, within) = (self.phase_since().max(self.progress_at), self.settings.preflight_within_ms);
        let waited = now.since(since);
        if !self.unanswered_preflights.is_empty() && waited < within {
            return self.wake_at(now, since.plus_ms(within));
        }
        for host in std::mem::take(&mut self.unanswered_preflights) {
            let error = GatewayError::Timeout {
                host: host.clone(),
                what: "preflight",
                ms: waited,
            };
            self.keep_preflight(now, &host, Err(error));
        }
        if self.state.preflights.values().any(|asked| !asked.accepted) {
            return self.request_stop(
                now,
                StopCause::Failure,
                "a host refused in preflight; nothing was started".to_owned(),
                None,
            );
        }
        self.begin_probing(now);
        let baseline = self.state.plan.hypothesis.as_ref().is_some_and(|h| h.before_ms > 0);
        self.enter(now, if baseline { RunPhase::Before } else { RunPhase::During });
    }

    fn advance_before(&mut self, now: Timestamp) {
        let Some(hypothesis) = self.state.plan.hypothesis.clone() else {
            return;
        };
        let since = self.phase_since();
        // The last sample of the time may still be on its way.
        let slack = hypothesis.probes.iter().map(|p| p.timeout_ms.min(p.every_ms)).max().unwrap_or(0);
        if self.lasts(now, since.plus_ms(hypothesis.before_ms + slack))
            || self.awaits_samples(now, since, hypothesis.before_ms, Phase::Before)
        {
            return;
        }
        let unsteady: Vec<String> = hypothesis
            .probes
            .iter()
            .filter(|probe| self.state.samples.tally(&probe.name, Phase::Before).standing(probe) != Standing::Held)
            .map(|probe| probe.name.clone())
            .collect();
        if unsteady.is_empty() {
            return self.enter(now, RunPhase::During);
        }
        let text = format!("no steady state before: {}; nothing was injected", unsteady.join(", "));
        self.request_stop(now, StopCause::Baseline, text, None);
    }

    fn advance_after(&mut self, now: Timestamp) {
        let Some(hypothesis) = self.state.plan.hypothesis.clone() else {
            return;
        };
        let since = self.phase_since();
        let recovered = hypothesis.probes.iter().all(|p| self.state.recovered.contains_key(&p.name));
        let ms = hypothesis.after_ms;
        if !recovered && (self.lasts(now, since.plus_ms(ms)) || self.awaits_samples(now, since, ms, Phase::After)) {
            return;
        }
        self.begin_verifying(now);
    }

    /// Whether this moment is still to come; if so, it is waited for.
    pub(crate) fn lasts(&mut self, now: Timestamp, until: Timestamp) -> bool {
        self.wake_at(now, until);
        now < until
    }

    /// A phase that was accepted can be decided: it lasts until each hypothesis probe has the samples that a judgement needs, and
    /// not longer than those take. Samples come on the probe's own beat, and travel.
    fn awaits_samples(&mut self, now: Timestamp, since: Timestamp, phase_ms: u64, phase: Phase) -> bool {
        let probes = self.state.plan.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes);
        let short = probes.filter(|probe| self.state.samples.tally(&probe.name, phase).samples < MIN_SAMPLES);
        let longest = short
            .map(|probe| u64::from(MIN_SAMPLES) * probe.every_ms + probe.timeout_ms + BATCH_MS)
            .max();
        match longest {
            Some(ms) => self.lasts(now, since.plus_ms(phase_ms.max(ms) + ms)),
            None => false,
        }
    }

    fn begin_stopping(&mut self, now: Timestamp) {
        self.thorough = true;
        self.enter(now, RunPhase::Stopping);
        for i in self
            .state
            .injections
            .iter()
            .filter(|i| i.is_planned())
            .map(|i| i.injection.id.clone())
            .collect::<Vec<_>>()
        {
            self.record(
                now,
                EventBody::InjectionWithdrawn {
                    id: i,
                    reason: "the run was stopped".to_owned(),
                },
            );
        }
        self.close_steps(now);
    }

    /// Until every injection is over, or can no longer be anything else.
    fn advance_stopping(&mut self, now: Timestamp) {
        let cause = if self.state.cause_of_stop() == Some(StopCause::Halt) {
            EndedBy::Halt
        } else {
            EndedBy::Stop
        };
        if !self.thorough && self.state.totals.out > 0 {
            return;
        }
        let mut waiting = false;
        let mut asks = Vec::new();
        let out = self.state.injections.iter().zip(&mut self.drives).filter(|(i, _)| i.is_out());
        for (i, drive) in out {
            let connected = self.hosts.get(&i.injection.host).is_some_and(|h| h.connected);
            let over = drive.surely_over(i, self.settings.lease_ms).map_or(0, |over| now.since(over));
            // A host that is there and does not get it undone is asked for its proof all the same.
            let asked_for = drive.stop_first_asked.map_or(0, |asked| now.since(asked.max(self.progress_at)));
            let stuck = connected && asked_for > self.settings.verify_within_ms;
            if over > self.settings.lost_grace_ms || stuck {
                continue;
            }
            waiting = true;
            if connected && drive.stop_asked.is_none_or(|asked| now.since(asked) >= self.settings.ask_again_ms) {
                drive.stop_first_asked.get_or_insert(now);
                drive.stop_asked = Some(now);
                asks.push(Action::Stop {
                    host: i.injection.host.clone(),
                    injection: i.injection.id.clone(),
                    cause,
                });
            }
        }
        asks.into_iter().for_each(|ask| self.act(ask));
        if !waiting {
            self.begin_verifying(now);
        }
    }
}
