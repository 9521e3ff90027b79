//! What hosts say, taken in: preflight answers, facts about injections, losing and finding hosts. And the one place where events become state.

use proto_model::event::{AgentSource, Event, EventBody, RunPhase, StopCause};
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::{AgentFact, AgentReport, EndedBy, InjectionState, Spent, UndoAnswer, Undone};
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;

use crate::host_gateway::{GatewayError, PreflightReply};
use crate::machine::{Action, Conductor};
use crate::track::{StepTrack, Tracked};

impl Conductor {
    pub(crate) fn take_preflight(&mut self, now: Timestamp, host: &HostName, reply: Result<PreflightReply, GatewayError>) {
        if self.phase == RunPhase::Preflight && self.unanswered_preflights.contains(host) {
            self.unanswered_preflights.retain(|waiting| waiting != host);
            self.keep_preflight(now, host, reply);
        }
    }

    pub(crate) fn keep_preflight(&mut self, now: Timestamp, host: &HostName, reply: Result<PreflightReply, GatewayError>) {
        let asked = self.injections.iter().filter(|i| &i.injection.host == host).count();
        let event = match reply {
            Ok(reply) => EventBody::HostPreflight {
                host: host.clone(),
                accepted: reply.answers.len() == asked && reply.answers.iter().all(|a| a.accepted),
                refusals: reply.answers.iter().flat_map(|a| a.refusals.clone()).collect(),
                warnings: reply.answers.iter().flat_map(|a| a.warnings.clone()).collect(),
                boot_id: reply.boot_id,
                agent_version: reply.agent_version,
                kernel: reply.kernel,
                catalogue_digest: reply.catalogue_digest,
            },
            Err(error) => EventBody::HostPreflight {
                host: host.clone(),
                accepted: false,
                refusals: vec![Refusal::new("no_answer", "", error.to_string())],
                warnings: Vec::new(),
                boot_id: String::new(),
                agent_version: String::new(),
                kernel: String::new(),
                catalogue_digest: String::new(),
            },
        };
        self.record(now, event);
    }

    /// A fact is taken once; its repeats are only settled again.
    pub(crate) fn take_report(&mut self, now: Timestamp, host: &HostName, report: AgentReport) {
        let Some(tracked) = self.tracked(&report.injection) else { return };
        let terminal = report.fact.is_terminal();
        let known = tracked.injection.host == *host;
        let fresh = known && tracked.seen.insert((report.boot_id.clone(), report.agent_seq));
        if fresh {
            let source = AgentSource {
                boot_id: report.boot_id,
                boot_ms: report.boot_ms,
                agent_seq: report.agent_seq,
            };
            let body = EventBody::from_fact(report.injection.clone(), report.fact.clone());
            self.record_from(now, body, Some(source), Some(host.as_str()));
            self.note_lapse(now, host, &report.injection, &report.fact);
        }
        if terminal && known {
            self.act(Action::Settle {
                host: host.clone(),
                injections: vec![report.injection],
            });
        }
    }

    /// What a host tells of its end by itself is also told as a lapse of its lease, once.
    fn note_lapse(&mut self, now: Timestamp, host: &HostName, id: &InjectionId, fact: &AgentFact) {
        let ended_by = match fact {
            AgentFact::Ending(ending) => ending.ended_by,
            AgentFact::Undone(undone) => undone.ended_by,
            _ => return,
        };
        let lapsed = matches!(ended_by, EndedBy::LeaseLost | EndedBy::KernelExpiry);
        let told = |e: &Event| matches!(&e.body, EventBody::LeaseLapsed { injections, .. } if injections.contains(id));
        if lapsed && !self.log.iter().any(told) {
            self.record(
                now,
                EventBody::LeaseLapsed {
                    host: host.clone(),
                    injections: vec![id.clone()],
                },
            );
        }
    }

    /// An order that certainly did not arrive is a refusal; of any other it is not known what became of it.
    pub(crate) fn order_failed(&mut self, now: Timestamp, injection: &InjectionId, error: &GatewayError) {
        let Some(tracked) = self.tracked(injection).filter(|i| i.state == InjectionState::Ordered) else {
            return;
        };
        let name = format!("{} on {}", tracked.injection.fault, tracked.injection.host);
        let refusal = match error {
            GatewayError::OrderRefused { code, message, .. } => Some(Refusal::new(code, "", message.clone())),
            GatewayError::Halted(why) => Some(Refusal::new("halted", "", format!("halted: {why}"))),
            GatewayError::Lost(_) | GatewayError::Timeout { .. } => None,
        };
        match refusal {
            Some(refusal) => self.record(
                now,
                EventBody::InjectionRefused {
                    id: injection.clone(),
                    refusal,
                },
            ),
            None => self.request_stop(now, StopCause::HostLost, format!("{name} could not be ordered: {error}"), None),
        }
    }

    /// What was ordered before a host was lost, and is unknown to it on its return, is over or never began.
    pub(crate) fn miss_what_the_host_forgot(&mut self, now: Timestamp, host: &HostName, rebooted: bool, inventory: &[InjectionId]) {
        let Some(lost_at) = self.hosts.get(host).and_then(|h| h.returned_from) else {
            return;
        };
        let forgotten = |i: &&Tracked| {
            let before = i.ordered_at.is_some_and(|at| at <= lost_at);
            &i.injection.host == host && i.is_out() && before && !inventory.contains(&i.injection.id)
        };
        let forgotten: Vec<(InjectionId, bool)> = self
            .injections
            .iter()
            .filter(forgotten)
            .map(|i| (i.injection.id.clone(), i.applied_at.is_some()))
            .collect();
        for (id, applied) in forgotten {
            let body = if applied && self.is_irreversible(&id) {
                let text = "it had acted, and its host came back without its record";
                EventBody::InjectionSpent {
                    id,
                    spent: Spent {
                        consequences: vec![text.to_owned()],
                    },
                }
            } else if applied {
                let ended_by = if rebooted { EndedBy::Boot } else { EndedBy::Rescue };
                let undone_by = "unknown".to_owned();
                let undone = Undone {
                    ended_by,
                    undone_by,
                    undo_ms: 0,
                    answer: UndoAnswer::UnknownId,
                    drift: Vec::new(),
                };
                EventBody::InjectionUndone { id, undone }
            } else {
                EventBody::InjectionWithdrawn {
                    id,
                    reason: "the host returned and does not know it: the order never arrived".to_owned(),
                }
            };
            self.record(now, body);
        }
    }

    fn is_irreversible(&self, id: &InjectionId) -> bool {
        let of = self.injections.iter().find(|i| &i.injection.id == id);
        of.is_some_and(|i| self.plan.irreversible().any(|(path, ..)| path == i.injection.step))
    }

    pub(crate) fn host_lost(&mut self, now: Timestamp, host: &HostName, last_seen: Timestamp) {
        if self.hosts.get(host).is_none_or(|h| !h.connected) || self.is_finished() {
            return;
        }
        let injections = self.out_on(host);
        self.record(
            now,
            EventBody::HostLost {
                host: host.clone(),
                injections,
                last_seen,
            },
        );
    }

    pub(crate) fn host_returned(&mut self, now: Timestamp, host: &HostName, boot_id: String, rebooted: bool, downtime_ms: u64) {
        if !self.hosts.contains_key(host) || self.is_finished() {
            return;
        }
        let injections = self.out_on(host);
        self.injections
            .iter_mut()
            .filter(|i| i.injection.host == *host)
            .for_each(|i| i.stop_asked = None);
        self.record(
            now,
            EventBody::HostReturned {
                host: host.clone(),
                injections,
                boot_id,
                rebooted,
                downtime_ms,
            },
        );
        let probes = self.probes.iter().any(|t| t.prober == host.as_str());
        if probes && matches!(self.phase, RunPhase::Before | RunPhase::During | RunPhase::After) {
            self.act(Action::ProbeAgain { host: host.clone() });
        }
    }

    fn out_on(&self, host: &HostName) -> Vec<InjectionId> {
        self.out().filter(|i| &i.host == host).map(|i| i.id.clone()).collect()
    }

    /// Events into state: the same for what is decided now and for what is read back after a restart.
    pub(crate) fn absorb(&mut self, at: Timestamp, body: &EventBody) {
        match body {
            EventBody::RunPhase { to, .. } => {
                (self.phase, self.phase_since) = (*to, at);
                if *to == RunPhase::Preflight {
                    self.started_at = Some(at);
                }
            }
            EventBody::HostPreflight { accepted, .. } => self.preflight_refused |= !accepted,
            EventBody::StepStarted { path, .. } => drop(self.steps.insert(path.clone(), StepTrack::new(at))),
            EventBody::StepEnded { path, outcome } => {
                let track = self.steps.entry(path.clone()).or_insert_with(|| StepTrack::new(at));
                track.ended = Some(*outcome);
            }
            EventBody::StopRequested { cause, .. } => self.stop = Some(*cause),
            EventBody::HostLost { host, .. } => self.absorb_connection(host, Some(at), at),
            EventBody::HostReturned { host, .. } => self.absorb_connection(host, None, at),
            EventBody::HypothesisRecovered { probe, .. } => drop(self.recovered.insert(probe.clone())),
            EventBody::HostVerified { host, proof } => {
                if let Some(track) = self.hosts.get_mut(host) {
                    track.proven = Some(proof.result);
                }
            }
            other => self.absorb_injection(at, other),
        }
    }

    fn absorb_connection(&mut self, host: &HostName, lost_at: Option<Timestamp>, at: Timestamp) {
        if let Some(track) = self.hosts.get_mut(host) {
            track.returned_from = track.lost_at;
            track.reconnect(lost_at.is_none(), lost_at.unwrap_or(at));
        }
    }

    /// A fact read back from the store is one whose repeats are left out.
    pub(crate) fn remember_fact(&mut self, event: &Event) {
        let (Some(source), Some(id)) = (&event.source, injection_of(&event.body)) else {
            return;
        };
        if let Some(i) = self.tracked(id) {
            i.seen.insert((source.boot_id.clone(), source.agent_seq));
        }
    }

    fn absorb_injection(&mut self, at: Timestamp, body: &EventBody) {
        let Some(id) = injection_of(body) else { return };
        let Some(i) = self.tracked(id) else { return };
        match body {
            EventBody::InjectionOrdered { .. } => (i.state, i.ordered_at) = (InjectionState::Ordered, Some(at)),
            EventBody::InjectionWithdrawn { .. } => i.state = InjectionState::Withdrawn,
            EventBody::InjectionRefused { refusal, .. } => {
                (i.state, i.ended_at) = (InjectionState::Refused, Some(at));
                i.refused = Some(refusal.code.clone());
            }
            EventBody::InjectionApplied { .. } => (i.state, i.applied_at) = (InjectionState::Holding, Some(at)),
            EventBody::InjectionEnding { ending, .. } => {
                (i.state, i.ending_at, i.ended_by) = (InjectionState::Undoing, Some(at), Some(ending.ended_by));
            }
            EventBody::InjectionUndone { undone, .. } => {
                (i.state, i.ended_at, i.ended_by) = (InjectionState::Undone, Some(at), Some(undone.ended_by));
                i.ending_at.get_or_insert(at);
            }
            EventBody::InjectionUndoFailed { .. } => i.state = InjectionState::UndoFailed,
            EventBody::InjectionSpent { .. } => {
                (i.state, i.ended_at) = (InjectionState::Spent, Some(at));
                i.ending_at.get_or_insert(at);
            }
            _ => {}
        }
    }
}

fn injection_of(body: &EventBody) -> Option<&InjectionId> {
    match body {
        EventBody::InjectionOrdered { id, .. }
        | EventBody::InjectionWithdrawn { id, .. }
        | EventBody::InjectionRefused { id, .. }
        | EventBody::InjectionApplied { id, .. }
        | EventBody::InjectionObserved { id, .. }
        | EventBody::InjectionEnding { id, .. }
        | EventBody::InjectionUndone { id, .. }
        | EventBody::InjectionUndoFailed { id, .. }
        | EventBody::InjectionSpent { id, .. } => Some(id),
        _ => None,
    }
}
