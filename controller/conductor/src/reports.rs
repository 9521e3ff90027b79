//! What hosts say, taken in: preflight answers, facts about injections, losing and finding hosts.

use controller_report::InjectionStatus;
use proto_model::event::{AgentSource, EventBody, RunPhase, StopCause};
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::{AgentFact, AgentReport, EndedBy, InjectionState, Spent, UndoAnswer, Undone};
use proto_model::probe::SampledBy;
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;

use crate::admissible::{bounded, may_follow, size};
use crate::host_gateway::{GatewayError, PreflightReply};
use crate::machine::{Action, Conductor};
use crate::track::InjectionDrive;

impl Conductor {
    pub(crate) fn take_preflight(&mut self, now: Timestamp, host: &HostName, reply: Result<PreflightReply, GatewayError>) {
        if self.phase() == RunPhase::Preflight && self.unanswered_preflights.remove(host) {
            self.progress_at = now;
            self.keep_preflight(now, host, reply);
        }
    }

    pub(crate) fn keep_preflight(&mut self, now: Timestamp, host: &HostName, reply: Result<PreflightReply, GatewayError>) {
        let asked = self.state.positions_on(host).len();
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

    /// A fact counts from the host of its injection and for this run, once, where it may follow, and within its quota. Ends of
    /// this host's injections are settled in any case.
    pub(crate) fn take_report(&mut self, now: Timestamp, host: &HostName, report: AgentReport, happened_at: Timestamp) {
        let Some(at) = self.state.position(&report.injection) else { return };
        let status = &self.state.injections[at];
        if status.injection.host != *host || report.run != self.state.run.as_str() {
            return tracing::debug!(%host, injection = %report.injection, "a report about an injection of another host or run is left out");
        }
        let terminal = report.fact.is_terminal();
        self.changed.push(at);
        let fresh = !status.knows_fact(&report.boot_id, report.agent_seq) && may_follow(status, &report.fact);
        let (duration_ms, ordered_at) = (status.injection.wish.duration_ms, status.ordered_at.unwrap_or(now));
        if fresh && (terminal || self.drives[at].quota.take(duration_ms, size(&report.fact))) {
            let source = AgentSource {
                boot_id: report.boot_id,
                boot_ms: report.boot_ms,
                agent_seq: report.agent_seq,
                happened_at: Some(happened_at.clamp(ordered_at, now.max(ordered_at))),
            };
            let fact = bounded(report.fact);
            let body = EventBody::from_fact(report.injection.clone(), fact.clone());
            self.record_from(now, body, Some(source), Some(host.as_str()));
            self.note_lapse(now, host, &report.injection, &fact);
            if terminal {
                self.progress_at = now;
                self.place_samples(now);
            }
        }
        if terminal {
            self.act(Action::Settle {
                host: host.clone(),
                injections: vec![report.injection],
            });
        }
    }

    /// What was over a quota is on record as a number.
    pub(crate) fn record_dropped(&mut self, now: Timestamp) {
        let dropped = |(status, drive): (&InjectionStatus, &InjectionDrive)| {
            (drive.quota.dropped > 0).then(|| EventBody::ReportsDropped {
                id: status.injection.id.clone(),
                host: status.injection.host.clone(),
                reports: drive.quota.dropped,
                bytes: drive.quota.dropped_bytes,
            })
        };
        let events: Vec<EventBody> = self.state.injections.iter().zip(&self.drives).filter_map(dropped).collect();
        events.into_iter().for_each(|event| self.record(now, event));
    }

    /// What a host tells of its end by itself is also told as a lapse of its lease, once.
    fn note_lapse(&mut self, now: Timestamp, host: &HostName, id: &InjectionId, fact: &AgentFact) {
        let ended_by = match fact {
            AgentFact::Ending(ending) => ending.ended_by,
            AgentFact::Undone(undone) => undone.ended_by,
            _ => return,
        };
        let lapsed = matches!(ended_by, EndedBy::LeaseLost | EndedBy::KernelExpiry);
        if lapsed && !self.state.lapsed.contains(id) {
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
        let ordered = self.state.injection(injection).filter(|i| i.state == InjectionState::Ordered);
        let Some(status) = ordered else {
            return;
        };
        let name = format!("{} on {}", status.injection.wish.fault, status.injection.host);
        let refusal = match error {
            GatewayError::OrderRefused { code, message, .. } => Some(Refusal::new(code, "", message.clone())),
            GatewayError::Halted(why) => Some(Refusal::new("halted", "", format!("halted: {why}"))),
            GatewayError::Lost(_) | GatewayError::Timeout { .. } | GatewayError::Busy { .. } => None,
        };
        self.changed.extend(self.state.position(injection));
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
        let forgotten = |i: &&InjectionStatus| {
            let before = i.ordered_at.is_some_and(|at| at <= lost_at);
            i.is_out() && before && !inventory.contains(&i.injection.id)
        };
        let forgotten: Vec<(InjectionId, bool)> = self
            .state
            .injections_on(host)
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
        let of = self.state.injection(id);
        of.is_some_and(|i| self.state.plan.irreversible().any(|(path, ..)| path == i.injection.step))
    }

    pub(crate) fn host_lost(&mut self, now: Timestamp, host: &HostName, last_seen: Timestamp) {
        if self.hosts.get(host).is_none_or(|h| !h.connected) || self.is_finished() {
            return;
        }
        self.thorough = true;
        self.set_connection(host, Some(now), now);
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
        self.thorough = true;
        self.set_connection(host, None, now);
        let injections = self.out_on(host);
        for at in self.state.positions_on(host) {
            self.drives[*at].stop_asked = None;
        }
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
        let probes = self.probes.iter().any(|t| t.prober == SampledBy::Host(host.clone()));
        if probes && self.probing {
            self.act(Action::ProbeAgain { host: host.clone() });
        }
    }

    fn out_on(&self, host: &HostName) -> Vec<InjectionId> {
        self.state
            .injections_on(host)
            .filter(|i| i.is_out())
            .map(|i| i.injection.id.clone())
            .collect()
    }

    fn set_connection(&mut self, host: &HostName, lost_at: Option<Timestamp>, at: Timestamp) {
        if let Some(track) = self.hosts.get_mut(host) {
            track.returned_from = track.lost_at;
            track.reconnect(lost_at.is_none(), at);
        }
    }
}
