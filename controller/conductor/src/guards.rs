//! What is done on every beat: silence into missing samples, broken guards into stops, leases into renewals.

use std::collections::BTreeMap;

use controller_report::InjectionStatus;
use proto_model::event::{EventBody, RunPhase, StopCause};
use proto_model::id::{HostName, InjectionId};
use proto_model::probe::{Phase, Sample, SampleResult};
use proto_model::time::Timestamp;

use crate::machine::{Action, Conductor};

impl Conductor {
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.note_silence(now);
        self.break_guards(now);
        self.check_limit(now);
        self.check_lost(now);
        self.renew(now);
    }

    /// A prober that is silent gives missing samples, so that no data is never good data.
    fn note_silence(&mut self, now: Timestamp) {
        let silent: Vec<(usize, Sample)> = self
            .probes
            .iter()
            .enumerate()
            .filter_map(|(at, track)| {
                let silence = track.silent_for(now)?;
                let sample = Sample {
                    probe: track.spec.name.clone(),
                    error: Some(format!("{} has sent no sample for {silence} ms", track.prober)),
                    prober: track.prober.clone(),
                    started_at: now,
                    took_ms: 0,
                    result: SampleResult::Missing,
                    value: None,
                    unit: None,
                };
                Some((at, sample))
            })
            .collect();
        for (at, sample) in silent {
            self.keep_sample(now, sample);
            self.probes[at].declare_silent(now);
        }
    }

    pub(crate) fn break_guards(&mut self, now: Timestamp) {
        let phase = match self.phase() {
            RunPhase::Before => Phase::Before,
            RunPhase::During => Phase::During,
            RunPhase::After => Phase::After,
            _ => return,
        };
        let broken = self.probes.iter().find(|t| t.is_guard() && t.consecutive_bad >= t.spec.breaks);
        let Some(track) = broken.filter(|_| self.state.stop.is_none()) else {
            return;
        };
        let (guard, consecutive, last_error) = (track.spec.name.clone(), track.consecutive_bad, track.last_error.clone());
        let why = last_error.clone().map(|e| format!(" ({e})")).unwrap_or_default();
        let reason = format!("guard {guard} broke: {consecutive} bad or missing in a row{why}");
        self.record(
            now,
            EventBody::GuardBroken {
                guard: guard.clone(),
                consecutive,
                phase,
                last_error,
            },
        );
        self.request_stop(now, StopCause::Guard, reason, Some(guard));
    }

    fn check_limit(&mut self, now: Timestamp) {
        let running = matches!(self.phase(), RunPhase::Before | RunPhase::During);
        let Some(limit) = self.state.plan.limits.duration_ms.filter(|_| running) else {
            return;
        };
        if let Some(since) = self.state.entered_at(RunPhase::Preflight) {
            self.wake_at(now, since.plus_ms(limit + 1));
        }
        if self
            .state
            .entered_at(RunPhase::Preflight)
            .is_some_and(|since| now.since(since) > limit)
        {
            self.request_stop(now, StopCause::Limit, format!("limits.duration of {limit} ms is over"), None);
        }
    }

    /// A host under an injection that is away for longer than a redial takes ends the run.
    fn check_lost(&mut self, now: Timestamp) {
        if self.phase() != RunPhase::During {
            return;
        }
        let gone = self.hosts.iter().find(|(name, h)| {
            let away = !h.connected && h.lost_at.is_some_and(|at| now.since(at) > self.settings.blip_ms());
            away && self.state.injections_on(name).any(InjectionStatus::is_out)
        });
        if let Some(host) = gone.map(|(name, _)| name.clone()) {
            self.request_stop(
                now,
                StopCause::HostLost,
                format!("host {host} was lost while it was under an injection"),
                None,
            );
        }
    }

    /// Only while every guard is evaluated: a stuck driver or a blind guard lets the leases run out.
    fn renew(&mut self, now: Timestamp) {
        let blind = self.probes.iter().any(|t| t.is_guard() && t.is_blind(now));
        if self.phase() != RunPhase::During || blind || self.state.stop.is_some() {
            return;
        }
        let beat = self.settings.lease_ms / 3;
        let mut due: BTreeMap<HostName, Vec<InjectionId>> = BTreeMap::new();
        let mut next = now.plus_ms(beat);
        let out = self.state.injections.iter().zip(&mut self.drives).filter(|(i, _)| i.is_out());
        for (i, drive) in out {
            let connected = self.hosts.get(&i.injection.host).is_some_and(|h| h.connected);
            let renewed_at = drive.last_renewed.or(i.ordered_at).unwrap_or(now);
            if !connected {
                continue;
            }
            if now.since(renewed_at) < beat {
                next = next.min(renewed_at.plus_ms(beat));
            } else {
                drive.last_renewed = Some(now);
                due.entry(i.injection.host.clone()).or_default().push(i.injection.id.clone());
            }
        }
        self.wake_at(now, next);
        for (host, injections) in due {
            self.act(Action::Renew { host, injections });
        }
    }
}
