//! The way of a run from phase to phase. Nothing leaves stopping except to verifying; nothing leaves finished.

use controller_dispatcher::DispatchError;
use controller_report::Standing;
use proto_model::event::{EventBody, RunPhase, StepOutcome, StopCause};
use proto_model::injection::{EndedBy, InjectionState, Wish};
use proto_model::plan::StepBody;
use proto_model::probe::Phase;
use proto_model::time::Timestamp;

use crate::machine::{Action, Conductor};

/// Steps that can be taken in one advance: more than any plan has, so a mistake here cannot spin.
const MAX_MOVES: usize = 10_000;

impl Conductor {
    pub(crate) fn begin(&mut self, now: Timestamp) {
        if self.phase != RunPhase::Accepted {
            return;
        }
        self.enter(now, RunPhase::Preflight);
        for host in self.plan.hosts.iter().map(|h| h.name.clone()).collect::<Vec<_>>() {
            let here = self.injections.iter().map(|i| &i.injection).filter(|i| i.host == host);
            let wishes = here
                .map(|i| Wish {
                    fault: i.fault.clone(),
                    params: i.params.clone(),
                    duration_ms: i.duration_ms,
                    seed: i.seed,
                })
                .collect();
            self.unanswered_preflights.push(host.clone());
            self.act(Action::Preflight { host, wishes });
        }
    }

    /// Moves on as far as what is known allows.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        for _ in 0..MAX_MOVES {
            let before = (self.phase, self.step, self.step_started, self.stop);
            match self.phase {
                RunPhase::Accepted | RunPhase::Finished => return,
                RunPhase::Stopping => self.advance_stopping(now),
                RunPhase::Verifying => self.advance_verifying(now),
                _ if self.stop.is_some() => self.begin_stopping(now),
                RunPhase::Preflight => self.advance_preflight(now),
                RunPhase::Before => self.advance_before(now),
                RunPhase::During => self.advance_steps(now),
                RunPhase::After => self.advance_after(now),
            }
            if before == (self.phase, self.step, self.step_started, self.stop) {
                return;
            }
        }
    }

    fn advance_preflight(&mut self, now: Timestamp) {
        let waited = now.since(self.phase_since);
        if !self.unanswered_preflights.is_empty() && waited < self.settings.preflight_within_ms {
            return;
        }
        for host in std::mem::take(&mut self.unanswered_preflights) {
            let error = DispatchError::Timeout {
                host: host.clone(),
                what: "preflight",
                ms: waited,
            };
            self.keep_preflight(now, &host, Err(error));
        }
        if self.preflight_refused {
            return self.request_stop(
                now,
                StopCause::Failure,
                "a host refused in preflight; nothing was started".to_owned(),
                None,
            );
        }
        if !self.probes.is_empty() {
            self.probes.iter_mut().for_each(|p| p.begin(now));
            self.act(Action::StartProbes);
        }
        let baseline = self.plan.hypothesis.as_ref().is_some_and(|h| h.before_ms > 0);
        self.enter(now, if baseline { RunPhase::Before } else { RunPhase::During });
    }

    fn advance_before(&mut self, now: Timestamp) {
        let Some(hypothesis) = &self.plan.hypothesis else { return };
        // The last sample of the time may still be on its way.
        let slack = hypothesis.probes.iter().map(|p| p.timeout_ms.min(p.every_ms)).max().unwrap_or(0);
        if now.since(self.phase_since) < hypothesis.before_ms + slack {
            return;
        }
        let unsteady: Vec<String> = hypothesis
            .probes
            .iter()
            .filter(|probe| self.tally(&probe.name, Phase::Before).standing(probe) != Standing::Held)
            .map(|probe| probe.name.clone())
            .collect();
        if unsteady.is_empty() {
            return self.enter(now, RunPhase::During);
        }
        let text = format!("no steady state before: {}; nothing was injected", unsteady.join(", "));
        self.request_stop(now, StopCause::Baseline, text, None);
    }

    fn advance_steps(&mut self, now: Timestamp) {
        let Some(step) = self.plan.steps.get(self.step).cloned() else {
            return match self.plan.hypothesis {
                Some(_) => self.enter(now, RunPhase::After),
                None => self.begin_verifying(now),
            };
        };
        match (&step.body, self.step_started) {
            (_, None) => {
                self.record(
                    now,
                    EventBody::StepStarted {
                        path: step.path.clone(),
                        planned_at: now,
                    },
                );
                if matches!(step.body, StepBody::Fault(_)) {
                    self.order_step(now, &step.path);
                }
            }
            (StepBody::Wait { ms }, Some(since)) if now.since(since) >= *ms => {
                self.record(
                    now,
                    EventBody::StepEnded {
                        path: step.path,
                        outcome: StepOutcome::Done,
                    },
                );
            }
            (StepBody::Fault(_), Some(_)) => self.advance_fault(now, &step.path),
            _ => {}
        }
    }

    fn order_step(&mut self, now: Timestamp, path: &str) {
        let lease_ms = self.settings.lease_ms;
        let due: Vec<_> = self
            .injections
            .iter()
            .filter(|i| i.injection.step == path)
            .map(|i| i.injection.clone())
            .collect();
        for injection in due {
            self.record(
                now,
                EventBody::InjectionOrdered {
                    id: injection.id.clone(),
                    step: path.to_owned(),
                    host: injection.host.clone(),
                    duration_ms: injection.duration_ms,
                    lease_ms,
                },
            );
            self.act(Action::Order { injection });
        }
    }

    /// A fault step is over when every one of its injections is.
    fn advance_fault(&mut self, now: Timestamp, path: &str) {
        if let Some((cause, text)) = self.trouble(now, path) {
            return self.request_stop(now, cause, text, None);
        }
        let mut here = self.injections.iter().filter(|i| i.injection.step == path);
        if here.all(|i| i.state.is_terminal()) {
            self.record(
                now,
                EventBody::StepEnded {
                    path: path.to_owned(),
                    outcome: StepOutcome::Done,
                },
            );
        }
    }

    /// The first thing that makes the step not what was planned.
    fn trouble(&self, now: Timestamp, path: &str) -> Option<(StopCause, String)> {
        for i in self.injections.iter().filter(|i| i.injection.step == path) {
            let name = format!("{} on {}", i.injection.fault, i.injection.host);
            let trouble = match (i.state, i.ended_by) {
                (InjectionState::Refused, _) if i.refused.as_deref() == Some("halted") => {
                    Some((StopCause::Halt, format!("{} is halted", i.injection.host)))
                }
                (InjectionState::Withdrawn, _) => Some((StopCause::HostLost, format!("the order of {name} never arrived"))),
                (InjectionState::Refused, _) => Some((StopCause::Failure, format!("{name} was refused"))),
                (_, Some(EndedBy::ApplyFailed)) => Some((StopCause::Failure, format!("{name} could not be applied"))),
                (_, Some(EndedBy::EndedEarly)) => Some((StopCause::Failure, format!("{name} ended before its time"))),
                (_, Some(EndedBy::LocalHalt | EndedBy::Halt)) => Some((StopCause::Halt, format!("{} was halted", i.injection.host))),
                (_, Some(EndedBy::Stop)) => Some((StopCause::Operator, format!("{name} was stopped"))),
                (_, None | Some(EndedBy::DurationElapsed)) => None,
                (_, Some(other)) => Some((StopCause::HostLost, format!("{name} ended by {}", other.as_str()))),
            };
            if trouble.is_some() {
                return trouble;
            }
            let connected = self.hosts.get(&i.injection.host).is_some_and(|h| h.connected);
            let since_order = i.ordered_at.map_or(0, |at| now.since(at));
            if connected && i.state == InjectionState::Ordered && since_order > self.settings.apply_within_ms {
                return Some((
                    StopCause::Failure,
                    format!("{name} did not act within {} ms of its order", self.settings.apply_within_ms),
                ));
            }
            let overdue = i.deadline().map_or(0, |deadline| now.since(deadline));
            if connected && i.is_out() && overdue > self.settings.undo_within_ms {
                return Some((StopCause::Failure, format!("{name} is not undone {overdue} ms after its end")));
            }
        }
        None
    }

    fn advance_after(&mut self, now: Timestamp) {
        let Some(hypothesis) = &self.plan.hypothesis else { return };
        let recovered = hypothesis.probes.iter().all(|p| self.recovered.contains(&p.name));
        if recovered || now.since(self.phase_since) >= hypothesis.after_ms {
            self.begin_verifying(now);
        }
    }

    fn begin_stopping(&mut self, now: Timestamp) {
        self.enter(now, RunPhase::Stopping);
        for i in self
            .injections
            .iter()
            .filter(|i| i.state == InjectionState::Planned)
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
        if let Some(path) = self.open_step() {
            let outcome = if self.stop == Some(StopCause::Failure) {
                StepOutcome::Failed
            } else {
                StepOutcome::Cancelled
            };
            self.record(now, EventBody::StepEnded { path, outcome });
        }
    }

    fn open_step(&self) -> Option<String> {
        self.step_started?;
        self.plan.steps.get(self.step).map(|step| step.path.clone())
    }

    /// Until every injection is over, or can no longer be anything else.
    fn advance_stopping(&mut self, now: Timestamp) {
        let cause = if self.stop == Some(StopCause::Halt) {
            EndedBy::Halt
        } else {
            EndedBy::Stop
        };
        let mut waiting = false;
        let mut asks = Vec::new();
        for i in self.injections.iter_mut().filter(|i| i.is_out()) {
            let connected = self.hosts.get(&i.injection.host).is_some_and(|h| h.connected);
            let over = i.surely_over(self.settings.lease_ms).map_or(0, |over| now.since(over));
            // A host that is there and does not get it undone is asked for its proof all the same.
            let asked_for = i.stop_first_asked.map_or(0, |asked| now.since(asked));
            let stuck = connected && asked_for > self.settings.verify_within_ms;
            if over > self.settings.lost_grace_ms || stuck {
                continue;
            }
            waiting = true;
            if connected && i.stop_asked.is_none_or(|asked| now.since(asked) >= self.settings.ask_again_ms) {
                i.stop_first_asked.get_or_insert(now);
                i.stop_asked = Some(now);
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
