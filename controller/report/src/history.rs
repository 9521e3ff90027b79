//! A run's events put in order of what they are about: phases, steps, injections, hosts. No judgement here.

use std::collections::BTreeMap;

use proto_model::event::{Event, EventBody, RunPhase, StepOutcome, StopCause};
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::{Applied, CleanProof, Cleanliness, EffectState, EndedBy, Injection, InjectionState, Observed, Undone};
use proto_model::plan::Plan;
use proto_model::probe::{Phase, ProbeRole, Sample};
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;
use proto_model::verdict::Cleanup;

/// Share of mismatched windows, in percent, from which an effect counts as mismatched although some window confirmed it.
const MISMATCH_PERCENT: usize = 20;

/// One injection's life.
#[derive(Debug, Clone)]
pub struct InjectionHistory {
    pub injection: Injection,
    pub state: InjectionState,
    pub ordered_at: Option<Timestamp>,
    pub applied_at: Option<Timestamp>,
    pub applied: Option<Applied>,
    pub windows: Vec<Observed>,
    pub ending_at: Option<Timestamp>,
    pub ended_by: Option<EndedBy>,
    pub ended_at: Option<Timestamp>,
    pub undone: Option<Undone>,
    pub refusal: Option<Refusal>,
    pub undo_error: Option<String>,
    /// Why it ended, when the agent gave a reason.
    pub reason: Option<String>,
    /// What was declared to stay changed.
    pub consequences: Vec<String>,
}

impl InjectionHistory {
    fn new(injection: Injection) -> Self {
        Self {
            injection,
            state: InjectionState::Planned,
            ordered_at: None,
            applied_at: None,
            applied: None,
            windows: Vec::new(),
            ending_at: None,
            ended_by: None,
            ended_at: None,
            undone: None,
            refusal: None,
            undo_error: None,
            reason: None,
            consequences: Vec::new(),
        }
    }

    /// Whether its effect was seen. That a deed cannot be taken back does not say that it worked.
    pub fn is_confirmed(&self) -> bool {
        self.effect() == EffectState::Confirmed
    }

    pub fn is_noop(&self) -> bool {
        self.applied.as_ref().is_some_and(|a| a.noop)
    }

    /// A confirmed window and under a fifth mismatched; else what was seen most plainly.
    pub fn effect(&self) -> EffectState {
        let count = |state: EffectState| self.windows.iter().filter(|w| w.observation.state == state).count();
        let (confirmed, mismatched) = (count(EffectState::Confirmed), count(EffectState::Mismatch));
        if confirmed > 0 && mismatched * 100 < self.windows.len() * MISMATCH_PERCENT {
            return EffectState::Confirmed;
        }
        if mismatched > 0 {
            return EffectState::Mismatch;
        }
        if count(EffectState::Unexercised) > 0 {
            EffectState::Unexercised
        } else {
            EffectState::Unknown
        }
    }

    /// The window that speaks for the effect: the last one in that state, else the last.
    pub fn telling_window(&self) -> Option<&Observed> {
        let state = self.effect();
        self.windows
            .iter()
            .rev()
            .find(|w| w.observation.state == state)
            .or(self.windows.last())
    }
}

/// A run as far as it has got.
#[derive(Debug, Clone)]
pub struct History {
    pub plan: Plan,
    pub phase: RunPhase,
    /// Every phase entered, in order.
    pub phases: Vec<RunPhase>,
    /// A controller restart was recorded before the judgement.
    pub restarted: bool,
    pub injections: Vec<InjectionHistory>,
    pub steps: BTreeMap<String, Option<StepOutcome>>,
    pub samples: Vec<(Phase, ProbeRole, Sample)>,
    pub recovered: BTreeMap<String, u64>,
    pub refusals: Vec<(HostName, Refusal)>,
    /// The first stop; later ones change nothing.
    pub stop: Option<(StopCause, String)>,
    pub guard_broken: Option<(String, Timestamp)>,
    pub lost: Vec<HostName>,
    pub proofs: BTreeMap<HostName, CleanProof>,
    pub amended: Option<Cleanup>,
}

impl History {
    /// `None` when the events do not begin with `run.accepted`.
    pub fn of(events: &[Event]) -> Option<Self> {
        let first = events.first()?;
        let EventBody::RunAccepted { plan, injections, .. } = &first.body else {
            return None;
        };
        let mut history = Self {
            plan: (**plan).clone(),
            phase: RunPhase::Accepted,
            phases: vec![RunPhase::Accepted],
            restarted: false,
            injections: injections.iter().cloned().map(InjectionHistory::new).collect(),
            steps: BTreeMap::new(),
            samples: Vec::new(),
            recovered: BTreeMap::new(),
            refusals: Vec::new(),
            stop: None,
            guard_broken: None,
            lost: Vec::new(),
            proofs: BTreeMap::new(),
            amended: None,
        };
        events.iter().skip(1).for_each(|event| history.take(event));
        Some(history)
    }

    pub fn first_applied(&self) -> Option<Timestamp> {
        self.injections.iter().filter_map(|i| i.applied_at).min()
    }

    pub fn last_undone(&self) -> Option<Timestamp> {
        self.injections.iter().filter_map(|i| i.ended_at).max()
    }

    pub fn entered(&self, phase: RunPhase) -> bool {
        self.phases.contains(&phase)
    }

    /// Whether anything was ordered on this host.
    pub fn touched(&self, host: &HostName) -> bool {
        self.injections.iter().any(|i| &i.injection.host == host && i.ordered_at.is_some())
    }

    /// The worst of what the touched hosts proved; one that never answered is unproven.
    pub fn cleanup(&self) -> Cleanup {
        let mut worst = Cleanup::Proven;
        for i in self.injections.iter().filter(|i| i.ordered_at.is_some()) {
            match self.proofs.get(&i.injection.host).map(|p| p.result) {
                Some(Cleanliness::Clean) => {}
                Some(Cleanliness::Dirty | Cleanliness::Faulted) => return Cleanup::Dirty,
                Some(Cleanliness::Unproven) | None => worst = Cleanup::Unproven,
            }
        }
        worst
    }

    fn take(&mut self, event: &Event) {
        let at = event.at;
        match &event.body {
            EventBody::RunPhase { to, .. } => {
                self.phase = *to;
                self.phases.push(*to);
            }
            EventBody::ControllerRestarted { .. } => self.restarted |= self.phase != RunPhase::Finished,
            EventBody::HostPreflight { host, refusals, .. } => self.refusals.extend(refusals.iter().map(|r| (host.clone(), r.clone()))),
            EventBody::ProbeSampled { role, phase, sample } => self.samples.push((*phase, *role, sample.clone())),
            EventBody::GuardBroken { guard, .. } => drop(self.guard_broken.get_or_insert((guard.clone(), at))),
            EventBody::StepStarted { path, .. } => drop(self.steps.insert(path.clone(), None)),
            EventBody::StepEnded { path, outcome } => drop(self.steps.insert(path.clone(), Some(*outcome))),
            EventBody::HostLost { host, .. } => self.lost.push(host.clone()),
            EventBody::HostReturned { host, .. } => self.lost.retain(|lost| lost != host),
            EventBody::StopRequested { cause, reason, .. } => drop(self.stop.get_or_insert((*cause, reason.clone()))),
            EventBody::HostVerified { host, proof } => drop(self.proofs.insert(host.clone(), proof.clone())),
            EventBody::HypothesisRecovered { probe, recovery_ms } => drop(self.recovered.insert(probe.clone(), *recovery_ms)),
            EventBody::RunAmended { cleanup, .. } => self.amended = Some(*cleanup),
            other => self.take_injection(at, other),
        }
    }

    fn take_injection(&mut self, at: Timestamp, body: &EventBody) {
        match body {
            EventBody::InjectionOrdered { id, .. } => self.with(id, |i| (i.state, i.ordered_at) = (InjectionState::Ordered, Some(at))),
            EventBody::InjectionWithdrawn { id, reason } => {
                self.with(id, |i| (i.state, i.reason) = (InjectionState::Withdrawn, Some(reason.clone())))
            }
            EventBody::InjectionRefused { id, refusal } => {
                self.with(id, |i| {
                    (i.state, i.refusal, i.ended_at) = (InjectionState::Refused, Some(refusal.clone()), Some(at))
                });
            }
            EventBody::InjectionApplied { id, applied } => {
                self.with(id, |i| {
                    (i.state, i.applied, i.applied_at) = (InjectionState::Holding, Some(applied.clone()), Some(at))
                });
            }
            EventBody::InjectionObserved { id, observed } => self.with(id, |i| i.windows.push(observed.clone())),
            EventBody::InjectionEnding { id, ending } => self.with(id, |i| {
                (i.state, i.ending_at, i.ended_by) = (InjectionState::Undoing, Some(at), Some(ending.ended_by));
                i.reason.clone_from(&ending.reason);
            }),
            EventBody::InjectionUndone { id, undone } => self.with(id, |i| {
                (i.state, i.ended_at, i.ended_by) = (InjectionState::Undone, Some(at), Some(undone.ended_by));
                i.undone = Some(undone.clone());
            }),
            EventBody::InjectionUndoFailed { id, failed } => self.with(id, |i| {
                (i.state, i.undo_error) = (InjectionState::UndoFailed, Some(format!("{}: {}", failed.undo, failed.error)));
            }),
            EventBody::InjectionSpent { id, spent } => self.with(id, |i| {
                (i.state, i.ended_at) = (InjectionState::Spent, Some(at));
                // What is spent has been applied, told or not.
                i.applied_at.get_or_insert(at);
                i.consequences.clone_from(&spent.consequences);
            }),
            _ => {}
        }
    }

    fn with(&mut self, id: &InjectionId, change: impl FnOnce(&mut InjectionHistory)) {
        if let Some(injection) = self.injections.iter_mut().find(|i| &i.injection.id == id) {
            change(injection);
        }
    }
}
