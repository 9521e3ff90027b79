//! One injection as far as the run's events tell of it: its state, its times, what was measured of its effect.

use std::collections::BTreeMap;

use proto_model::injection::{Applied, EffectState, EndedBy, Ending, Injection, InjectionState, Observed, Spent, UndoFailed, Undone};
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;

/// Share of mismatched windows, in percent, from which an effect counts as mismatched although some window confirmed it.
const MISMATCH_PERCENT: u32 = 20;

#[derive(Debug, Clone)]
pub struct InjectionStatus {
    pub injection: Injection,
    pub state: InjectionState,
    pub ordered_at: Option<Timestamp>,
    pub applied_at: Option<Timestamp>,
    /// The host found itself past the target: nothing was done.
    pub noop: bool,
    pub windows: Windows,
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
    /// Reports over the quota, which were left out.
    pub reports_dropped: u64,
    /// By boot of its host, the newest fact on record: an agent numbers them in order.
    facts: BTreeMap<String, u64>,
}

impl InjectionStatus {
    pub(crate) fn new(injection: Injection) -> Self {
        Self {
            injection,
            state: InjectionState::Planned,
            ordered_at: None,
            applied_at: None,
            noop: false,
            windows: Windows::default(),
            ending_at: None,
            ended_by: None,
            ended_at: None,
            undone: None,
            refusal: None,
            undo_error: None,
            reason: None,
            consequences: Vec::new(),
            reports_dropped: 0,
            facts: BTreeMap::new(),
        }
    }

    pub(crate) fn order(&mut self, at: Timestamp) {
        (self.state, self.ordered_at) = (InjectionState::Ordered, Some(at));
    }

    pub(crate) fn withdraw(&mut self, reason: &str) {
        (self.state, self.reason) = (InjectionState::Withdrawn, Some(reason.to_owned()));
    }

    pub(crate) fn refuse(&mut self, at: Timestamp, refusal: &Refusal) {
        (self.state, self.ended_at) = (InjectionState::Refused, Some(at));
        self.refusal = Some(refusal.clone());
    }

    pub(crate) fn hold(&mut self, at: Timestamp, applied: &Applied) {
        (self.state, self.applied_at, self.noop) = (InjectionState::Holding, Some(at), applied.noop);
    }

    pub(crate) fn end(&mut self, at: Timestamp, ending: &Ending) {
        (self.state, self.ending_at, self.ended_by) = (InjectionState::Undoing, Some(at), Some(ending.ended_by));
        self.reason.clone_from(&ending.reason);
    }

    pub(crate) fn undo(&mut self, at: Timestamp, undone: &Undone) {
        (self.state, self.ended_at, self.ended_by) = (InjectionState::Undone, Some(at), Some(undone.ended_by));
        self.ending_at.get_or_insert(at);
        self.undone = Some(undone.clone());
    }

    pub(crate) fn fail_to_undo(&mut self, failed: &UndoFailed) {
        self.state = InjectionState::UndoFailed;
        self.undo_error = Some(format!("{}: {}", failed.undo, failed.error));
    }

    pub(crate) fn spend(&mut self, at: Timestamp, spent: &Spent) {
        (self.state, self.ended_at) = (InjectionState::Spent, Some(at));
        // What is spent has been applied, whether its host has reported that or not.
        self.applied_at.get_or_insert(at);
        self.ending_at.get_or_insert(at);
        self.consequences.clone_from(&spent.consequences);
    }

    pub(crate) fn remember_fact(&mut self, boot_id: &str, agent_seq: u64) {
        let newest = self.facts.entry(boot_id.to_owned()).or_default();
        *newest = agent_seq.max(*newest);
    }

    /// Whether the fact of this number, or one after it, is on record.
    pub fn knows_fact(&self, boot_id: &str, agent_seq: u64) -> bool {
        self.facts.get(boot_id).is_some_and(|newest| agent_seq <= *newest)
    }

    /// Not ordered, and not withdrawn.
    pub fn is_planned(&self) -> bool {
        self.state == InjectionState::Planned
    }

    /// Ordered and not yet over.
    pub fn is_out(&self) -> bool {
        self.ordered_at.is_some() && !self.state.is_terminal()
    }

    /// The host refused it, could not do it, or did not hold it to its end.
    pub fn has_failed(&self) -> bool {
        let ended = matches!(self.ended_by, Some(EndedBy::ApplyFailed | EndedBy::EndedEarly));
        ended || self.state == InjectionState::Refused
    }

    /// The end of its time by the controller's clock.
    pub fn deadline(&self) -> Option<Timestamp> {
        let from = self.applied_at.or(self.ordered_at)?;
        Some(from.plus_ms(self.injection.wish.duration_ms))
    }

    /// Whether its effect was seen. That a fault cannot be undone does not say that it worked.
    pub fn is_confirmed(&self) -> bool {
        self.effect() == EffectState::Confirmed
    }

    pub fn effect(&self) -> EffectState {
        self.windows.effect()
    }

    /// The window that speaks for the effect: the last one in that state, else the last.
    pub fn telling_window(&self) -> Option<&Observed> {
        let windows = &self.windows;
        windows.last_in(self.effect()).or_else(|| windows.last_in(windows.newest?))
    }

    /// Whether it held its fault at this moment.
    pub(crate) fn acted_at(&self, at: Timestamp) -> bool {
        self.applied_at.is_some_and(|applied| applied <= at) && self.ending_at.or(self.ended_at).is_none_or(|end| at <= end)
    }
}

/// Observation windows counted by what they showed, with the last of each kind.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    confirmed: Seen,
    mismatch: Seen,
    unexercised: Seen,
    unknown: Seen,
    newest: Option<EffectState>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    count: u32,
    last: Option<Observed>,
}

impl Windows {
    pub(crate) fn add(&mut self, observed: &Observed) {
        let seen = match observed.observation.state {
            EffectState::Confirmed => &mut self.confirmed,
            EffectState::Mismatch => &mut self.mismatch,
            EffectState::Unexercised => &mut self.unexercised,
            EffectState::Unknown => &mut self.unknown,
        };
        seen.count += 1;
        seen.last = Some(observed.clone());
        self.newest = Some(observed.observation.state);
    }

    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    fn count(&self) -> u32 {
        self.confirmed.count + self.mismatch.count + self.unexercised.count + self.unknown.count
    }

    /// A confirmed window and under a fifth mismatched; else what was seen most plainly.
    fn effect(&self) -> EffectState {
        let mismatched = self.mismatch.count;
        if self.confirmed.count > 0 && mismatched * 100 < self.count() * MISMATCH_PERCENT {
            EffectState::Confirmed
        } else if mismatched > 0 {
            EffectState::Mismatch
        } else if self.unexercised.count > 0 {
            EffectState::Unexercised
        } else {
            EffectState::Unknown
        }
    }

    fn last_in(&self, state: EffectState) -> Option<&Observed> {
        let seen = match state {
            EffectState::Confirmed => &self.confirmed,
            EffectState::Mismatch => &self.mismatch,
            EffectState::Unexercised => &self.unexercised,
            EffectState::Unknown => &self.unknown,
        };
        seen.last.as_ref()
    }
}
