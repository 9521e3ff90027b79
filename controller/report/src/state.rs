//! The state of a run: the one fold over its events. Conductor, judge, reports, pages and caches read what it holds, not the events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proto_model::event::{Event, EventBody, RunPhase, StepOutcome, StopCause};
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{CleanProof, Cleanliness};
use proto_model::plan::Plan;
use proto_model::problem::Refusal;
use proto_model::steps::as_written;
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, Reason, RunEndedBy, Verdict};

use crate::injection_status::InjectionStatus;
use crate::samples::{KnownEnd, SampleCounts};

/// A run as far as it has got.
#[derive(Debug, Clone)]
pub struct RunState {
    pub run: RunId,
    pub by: String,
    pub created_at: Timestamp,
    pub digest: PlanDigest,
    pub plan: Arc<Plan>,
    pub phase: RunPhase,
    /// Every phase entered, in order.
    pub phases: Vec<(RunPhase, Timestamp)>,
    /// A controller restart was recorded before the judgement.
    pub restarted: bool,
    pub injections: Vec<InjectionStatus>,
    index: HashMap<InjectionId, usize>,
    /// By host, the places of its injections.
    by_host: BTreeMap<HostName, Vec<usize>>,
    /// By step, the places of its injections.
    of_step: BTreeMap<String, Vec<usize>>,
    /// All injections together, and by step.
    pub totals: InjectionCounts,
    by_step: BTreeMap<String, InjectionCounts>,
    pub steps: BTreeMap<String, StepStatus>,
    pub samples: SampleCounts,
    pub recovered: BTreeMap<String, u64>,
    /// The last preflight of each host.
    pub preflights: BTreeMap<HostName, PreflightStatus>,
    pub refusals: Vec<(HostName, Refusal)>,
    /// The first stop; later ones change nothing.
    pub stop: Option<StopStatus>,
    pub guards_broken: Vec<GuardBreak>,
    pub lost: BTreeSet<HostName>,
    /// Injections whose lease is on record as lapsed.
    pub lapsed: BTreeSet<InjectionId>,
    pub proofs: BTreeMap<HostName, ProofStatus>,
    pub judged: Option<Judged>,
    pub amended: Option<Cleanup>,
    pub last_seq: u64,
    pub last_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepStatus {
    pub started_at: Timestamp,
    pub ended: Option<(StepOutcome, Timestamp)>,
}

impl StepStatus {
    fn started(at: Timestamp) -> Self {
        Self {
            started_at: at,
            ended: None,
        }
    }

    pub fn outcome(&self) -> Option<StepOutcome> {
        self.ended.map(|(outcome, _)| outcome)
    }
}

/// Injections counted by what has become of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InjectionCounts {
    pub all: usize,
    pub planned: usize,
    /// Ordered and not over.
    pub out: usize,
    pub over: usize,
    pub failed: usize,
    pub first_ordered: Option<Timestamp>,
    pub first_applied: Option<Timestamp>,
    /// When the first that held began to end.
    pub first_ending: Option<Timestamp>,
    pub last_ended: Option<Timestamp>,
}

impl InjectionCounts {
    /// Whether none is still to come or out.
    pub fn are_over(&self) -> bool {
        self.over == self.all
    }

    fn leave(&mut self, i: &InjectionStatus) {
        self.planned -= usize::from(i.is_planned());
        self.out -= usize::from(i.is_out());
        self.over -= usize::from(i.state.is_terminal());
        self.failed -= usize::from(i.has_failed());
    }

    fn enter(&mut self, i: &InjectionStatus) {
        self.planned += usize::from(i.is_planned());
        self.out += usize::from(i.is_out());
        self.over += usize::from(i.state.is_terminal());
        self.failed += usize::from(i.has_failed());
        self.first_ordered = earlier(self.first_ordered, i.ordered_at);
        self.first_applied = earlier(self.first_applied, i.applied_at);
        self.first_ending = earlier(self.first_ending, i.ending_at.filter(|_| !i.has_failed()));
        self.last_ended = self.last_ended.max(i.ended_at);
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// What ran on a host when it was asked, and whether it would do what was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightStatus {
    pub accepted: bool,
    pub agent_version: String,
    pub kernel: String,
}

impl PreflightStatus {
    fn new(accepted: bool, agent_version: &str, kernel: &str) -> Self {
        Self {
            accepted,
            agent_version: agent_version.to_owned(),
            kernel: kernel.to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStatus {
    pub cause: StopCause,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardBreak {
    pub guard: String,
    pub consecutive: u32,
    pub last_error: Option<String>,
    pub at: Timestamp,
}

impl GuardBreak {
    fn new(at: Timestamp, guard: &str, consecutive: u32, last_error: Option<&str>) -> Self {
        Self {
            guard: guard.to_owned(),
            consecutive,
            last_error: last_error.map(str::to_owned),
            at,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProofStatus {
    pub proof: CleanProof,
    pub at: Timestamp,
}

/// The judgement on record: the first one is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub at: Timestamp,
    pub verdict: Verdict,
    pub cleanup: Cleanup,
    pub exit_code: u8,
    pub ended_by: RunEndedBy,
    pub reasons: Vec<Reason>,
    pub detection_ms: Option<u64>,
    pub recovery_ms: Option<u64>,
}

impl Judged {
    fn read(event: &Event) -> Option<Self> {
        let EventBody::RunJudged {
            verdict,
            cleanup,
            exit_code,
            ended_by,
            reasons,
            detection_ms,
            recovery_ms,
            judge_version: _,
        } = &event.body
        else {
            return None;
        };
        Some(Self {
            at: event.at,
            verdict: *verdict,
            cleanup: *cleanup,
            exit_code: *exit_code,
            ended_by: *ended_by,
            reasons: reasons.clone(),
            detection_ms: *detection_ms,
            recovery_ms: *recovery_ms,
        })
    }
}

impl RunState {
    /// `None` when the events do not begin with `run.accepted`.
    pub fn of(events: &[Event]) -> Option<Self> {
        let (first, rest) = events.split_first()?;
        let mut state = Self::begin(first)?;
        rest.iter().for_each(|event| state.apply(event));
        Some(state)
    }

    /// The state after the first event, which has to be `run.accepted`.
    pub fn begin(first: &Event) -> Option<Self> {
        let accepted = first.body.accepted()?;
        let mut state = Self {
            run: first.run_id.clone(),
            by: first.by.clone(),
            created_at: first.at,
            digest: accepted.digest.clone(),
            plan: Arc::new(accepted.plan.clone()),
            phase: RunPhase::Accepted,
            phases: vec![(RunPhase::Accepted, first.at)],
            restarted: false,
            injections: accepted.injections.iter().cloned().map(InjectionStatus::new).collect(),
            index: HashMap::new(),
            by_host: BTreeMap::new(),
            of_step: BTreeMap::new(),
            totals: InjectionCounts::default(),
            by_step: BTreeMap::new(),
            steps: BTreeMap::new(),
            samples: SampleCounts::default(),
            recovered: BTreeMap::new(),
            preflights: BTreeMap::new(),
            refusals: Vec::new(),
            stop: None,
            guards_broken: Vec::new(),
            lost: BTreeSet::new(),
            lapsed: BTreeSet::new(),
            proofs: BTreeMap::new(),
            judged: None,
            amended: None,
            last_seq: first.seq,
            last_at: first.at,
        };
        state.index_injections();
        Some(state)
    }

    fn index_injections(&mut self) {
        for (at, i) in self.injections.iter().enumerate() {
            self.index.insert(i.injection.id.clone(), at);
            self.by_host.entry(i.injection.host.clone()).or_default().push(at);
            self.of_step.entry(i.injection.step.clone()).or_default().push(at);
            for counts in [&mut self.totals, self.by_step.entry(i.injection.step.clone()).or_default()] {
                counts.all += 1;
                counts.enter(i);
            }
        }
    }

    /// What one more event changes. Every event by name: a new one does not compile until it is decided what it changes.
    pub fn apply(&mut self, event: &Event) {
        // A fact was before it was heard of.
        let at = event.happened_at();
        (self.last_seq, self.last_at) = (event.seq, event.at);
        self.remember_fact(event);
        match &event.body {
            // The first event has made this state, and there is one of it.
            EventBody::RunAccepted { .. } => {}
            EventBody::RunPhase { to, .. } => {
                self.phase = *to;
                self.phases.push((*to, at));
            }
            EventBody::ControllerRestarted { .. } => self.restarted |= self.phase != RunPhase::Finished,
            EventBody::HostPreflight {
                host,
                accepted,
                refusals,
                agent_version,
                kernel,
                ..
            } => {
                self.refusals.extend(refusals.iter().map(|refusal| (host.clone(), refusal.clone())));
                let status = PreflightStatus::new(*accepted, agent_version, kernel);
                self.preflights.insert(host.clone(), status);
            }
            EventBody::ProbeSampled { role, phase, sample } => {
                self.samples.take(*role, *phase, sample, &self.injections, self.totals.out > 0);
            }
            EventBody::GuardBroken {
                guard,
                consecutive,
                last_error,
                phase: _,
            } => self
                .guards_broken
                .push(GuardBreak::new(at, guard, *consecutive, last_error.as_deref())),
            EventBody::StepStarted { path, .. } => drop(self.steps.insert(path.clone(), StepStatus::started(at))),
            EventBody::StepEnded { path, outcome } => {
                let step = self.steps.entry(path.clone()).or_insert_with(|| StepStatus::started(at));
                step.ended = Some((*outcome, at));
            }
            EventBody::InjectionOrdered { id, .. } => self.change(id, |i| i.order(at)),
            EventBody::InjectionWithdrawn { id, reason } => self.change(id, |i| i.withdraw(reason)),
            EventBody::InjectionRefused { id, refusal } => self.change(id, |i| i.refuse(at, refusal)),
            EventBody::InjectionApplied { id, applied } => self.change(id, |i| i.hold(at, applied)),
            EventBody::InjectionObserved { id, observed } => self.change(id, |i| i.windows.add(observed)),
            EventBody::InjectionEnding { id, ending } => self.change(id, |i| i.end(at, ending)),
            EventBody::InjectionUndone { id, undone } => self.close(id, |i| i.undo(at, undone)),
            EventBody::InjectionUndoFailed { id, failed } => self.change(id, |i| i.fail_to_undo(failed)),
            EventBody::InjectionSpent { id, spent } => self.close(id, |i| i.spend(at, spent)),
            EventBody::ReportsDropped { id, reports, .. } => self.change(id, |i| i.reports_dropped = *reports),
            EventBody::LeaseLapsed { injections, .. } => self.lapsed.extend(injections.iter().cloned()),
            EventBody::HostLost { host, .. } => drop(self.lost.insert(host.clone())),
            EventBody::HostReturned { host, .. } => drop(self.lost.remove(host)),
            EventBody::StopRequested { cause, reason, .. } => self.take_stop(*cause, reason, at),
            EventBody::HostVerified { host, proof } => {
                let proof = proof.clone();
                self.proofs.insert(host.clone(), ProofStatus { proof, at });
            }
            EventBody::HypothesisRecovered { probe, recovery_ms } => drop(self.recovered.insert(probe.clone(), *recovery_ms)),
            EventBody::RunJudged { .. } => self.judged = self.judged.take().or_else(|| Judged::read(event)),
            EventBody::RunAmended { cleanup, .. } => self.amended = Some(*cleanup),
            // A person's words: shown on the timeline, and no part of what happened.
            EventBody::NoteAdded { .. } => {}
        }
    }

    /// Facts carry the number that their agent gave them: a repeat has the same one.
    fn remember_fact(&mut self, event: &Event) {
        if let (Some(source), Some(id)) = (&event.source, event.body.injection())
            && let Some(at) = self.position(id)
        {
            self.injections[at].remember_fact(&source.boot_id, source.agent_seq);
        }
    }

    /// Changes one injection until the run is judged: from then on nothing counts but an end that was not known.
    fn change(&mut self, id: &InjectionId, change: impl FnOnce(&mut InjectionStatus)) {
        if self.judged.is_none() {
            self.change_at(id, change);
        }
    }

    /// Ends one injection, also after the judgement; an end is final.
    fn close(&mut self, id: &InjectionId, change: impl FnOnce(&mut InjectionStatus)) {
        if self.judged.is_none() || self.injection(id).is_some_and(InjectionStatus::is_out) {
            self.change_at(id, change);
        }
    }

    /// Changes one injection, and with it the counts that it is part of.
    fn change_at(&mut self, id: &InjectionId, change: impl FnOnce(&mut InjectionStatus)) {
        let Some(at) = self.position(id) else { return };
        let i = &mut self.injections[at];
        let of_step = self.by_step.entry(i.injection.step.clone()).or_default();
        self.totals.leave(i);
        of_step.leave(i);
        change(i);
        self.totals.enter(i);
        of_step.enter(i);
        self.revise_samples(at);
    }

    /// Samples are counted anew when the end of what acted then is known.
    fn revise_samples(&mut self, at: usize) {
        let i = &self.injections[at];
        let Some(ending_at) = i.ending_at else { return };
        let end = KnownEnd {
            step: as_written(&i.injection.step),
            ending_at,
            last_undo_began: self.last_undo_began(),
            over_at: self.totals.last_ended.filter(|_| self.totals.are_over()),
            all_known: self.totals.out == 0,
            injections: &self.injections,
        };
        self.samples.revise(&end);
    }

    /// When the last of what held began to end: a step does with the first of its injections, and of several steps the last one
    /// counts. `None` while a step is still to come or holds all of its hosts.
    pub fn last_undo_began(&self) -> Option<Timestamp> {
        let mut last = None;
        for step in self.by_step.values() {
            if !step.are_over() && step.first_ending.is_none() {
                return None;
            }
            last = last.max(step.first_ending);
        }
        last.or(self.totals.last_ended)
    }

    pub fn injection(&self, id: &InjectionId) -> Option<&InjectionStatus> {
        self.position(id).map(|at| &self.injections[at])
    }

    /// Where the injection stands in `injections`.
    pub fn position(&self, id: &InjectionId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The places of a host's injections.
    pub fn positions_on(&self, host: &HostName) -> &[usize] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    pub fn injections_on(&self, host: &HostName) -> impl Iterator<Item = &InjectionStatus> {
        self.positions_on(host).iter().map(|at| &self.injections[*at])
    }

    pub fn injections_of_step(&self, path: &str) -> impl Iterator<Item = &InjectionStatus> {
        let places = self.of_step.get(path).map_or(&[][..], Vec::as_slice);
        places.iter().map(|at| &self.injections[*at])
    }

    pub fn counts_of_step(&self, path: &str) -> InjectionCounts {
        self.by_step.get(path).copied().unwrap_or_default()
    }

    pub fn entered_at(&self, phase: RunPhase) -> Option<Timestamp> {
        self.phases.iter().find(|(entered, _)| *entered == phase).map(|(_, at)| *at)
    }

    pub fn entered(&self, phase: RunPhase) -> bool {
        self.entered_at(phase).is_some()
    }

    pub fn cause_of_stop(&self) -> Option<StopCause> {
        self.stop.as_ref().map(|stop| stop.cause)
    }

    /// Whether anything was ordered on this host.
    pub fn touched(&self, host: &HostName) -> bool {
        self.injections_on(host).any(|i| i.ordered_at.is_some())
    }

    pub fn proof(&self, host: &HostName) -> Option<&CleanProof> {
        self.proofs.get(host).map(|status| &status.proof)
    }

    /// The worst of what the touched hosts proved; one that never answered is unproven.
    pub fn cleanup(&self) -> Cleanup {
        let mut worst = Cleanup::Proven;
        for i in self.injections.iter().filter(|i| i.ordered_at.is_some()) {
            match self.proof(&i.injection.host).map(|p| p.result) {
                Some(Cleanliness::Clean) => {}
                Some(Cleanliness::Dirty | Cleanliness::Faulted) => return Cleanup::Dirty,
                Some(Cleanliness::Unproven) | None => worst = Cleanup::Unproven,
            }
        }
        worst
    }

    fn take_stop(&mut self, cause: StopCause, reason: &str, at: Timestamp) {
        let reason = reason.to_owned();
        self.stop.get_or_insert(StopStatus { cause, reason, at });
    }
}
