//! What the warden knows of the injections of this host; it decides nothing and touches no host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_levers::History;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentReport, InjectionState};

use crate::active::{Active, Stage};
use crate::handle::InventoryItem;

/// Refusals and settled ids remembered, so that a repeated order is answered and never carried out twice.
const REMEMBERED: usize = 4_096;

/// What is remembered of an injection that has ended.
pub(crate) struct Ended {
    pub(crate) run: String,
    /// `Undone` or `Spent`.
    pub(crate) state: InjectionState,
}

impl Ended {
    pub(crate) fn of(history: &History) -> Self {
        let state = if history.is_spent() {
            InjectionState::Spent
        } else {
            InjectionState::Undone
        };
        Self {
            run: history.opened.run.clone(),
            state,
        }
    }
}

/// Every injection that was ordered here, until it is settled and a while beyond.
#[derive(Default)]
pub(crate) struct State {
    active: BTreeMap<InjectionId, Active>,
    /// Their journals are kept until settled.
    ended: BTreeMap<InjectionId, Ended>,
    /// Refused, or asked to stop before they were known: told until settled.
    refused: BTreeMap<InjectionId, AgentReport>,
    settled: VecDeque<InjectionId>,
    /// Journals that could not be opened, and why; their injections may still act.
    unopened: BTreeMap<InjectionId, String>,
    /// What the last proof found left behind, and the injections that it was asked for if it found or could not see something.
    residue: Vec<String>,
    suspects: BTreeSet<InjectionId>,
    /// What the last proof could not look at: whether anything is left is unknown until one sees everything.
    unproven: Option<String>,
}

impl State {
    pub(crate) fn active(&self, id: &InjectionId) -> Option<&Active> {
        self.active.get(id)
    }

    pub(crate) fn active_mut(&mut self, id: &InjectionId) -> Option<&mut Active> {
        self.active.get_mut(id)
    }

    /// Those that act or are being undone.
    pub(crate) fn actives(&self) -> impl Iterator<Item = &Active> {
        self.active.values()
    }

    pub(crate) fn active_ids(&self) -> BTreeSet<InjectionId> {
        self.active.keys().cloned().collect()
    }

    /// Those that may hold something: active, or with a journal that cannot be opened.
    pub(crate) fn open_ids(&self) -> Vec<InjectionId> {
        self.active.keys().chain(self.unopened.keys()).cloned().collect()
    }

    pub(crate) fn other_than(&self, id: &InjectionId) -> Vec<InjectionId> {
        self.active.keys().filter(|other| *other != id).cloned().collect()
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.active.values().any(|active| matches!(active.stage, Stage::Holding(_)))
    }

    pub(crate) fn keep(&mut self, active: Active) {
        self.active.insert(active.injection.clone(), active);
    }

    pub(crate) fn take(&mut self, id: &InjectionId) -> Option<Active> {
        self.active.remove(id)
    }

    pub(crate) fn ended(&self, id: &InjectionId) -> Option<&Ended> {
        self.ended.get(id)
    }

    pub(crate) fn remember_end(&mut self, history: &History) {
        self.ended.insert(history.opened.injection.clone(), Ended::of(history));
    }

    pub(crate) fn has_spent(&self, id: &InjectionId) -> bool {
        self.ended.get(id).is_some_and(|ended| ended.state == InjectionState::Spent)
    }

    /// What was told of one that never acted.
    pub(crate) fn refused(&self, id: &InjectionId) -> Option<&AgentReport> {
        self.refused.get(id)
    }

    pub(crate) fn remember_refused(&mut self, report: AgentReport) {
        while self.refused.len() >= REMEMBERED {
            self.refused.pop_first();
        }
        self.refused.insert(report.injection.clone(), report);
    }

    /// The controller has this end; a repeated order for it is still known and not carried out. True when its journal may go.
    pub(crate) fn settle(&mut self, id: &InjectionId) -> bool {
        let (refused, ended) = (self.refused.remove(id).is_some(), self.ended.remove(id).is_some());
        if refused || ended {
            self.remember_settled(id);
        }
        ended
    }

    fn remember_settled(&mut self, id: &InjectionId) {
        self.settled.push_back(id.clone());
        while self.settled.len() > REMEMBERED {
            self.settled.pop_front();
        }
    }

    /// A person answered for a journal that cannot be opened: a repeated order for its injection is known and not carried out.
    pub(crate) fn settle_unopened(&mut self, id: &InjectionId) {
        if self.unopened.remove(id).is_some() {
            self.remember_settled(id);
        }
    }

    pub(crate) fn is_known(&self, id: &InjectionId) -> bool {
        self.active.contains_key(id)
            || self.ended.contains_key(id)
            || self.refused.contains_key(id)
            || self.unopened.contains_key(id)
            || self.settled.contains(id)
    }

    /// Those of which something is to be told until it is settled.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &InjectionId> {
        self.active.keys().chain(self.ended.keys()).chain(self.refused.keys())
    }

    /// Ends that the controller does not have yet.
    pub(crate) fn unsettled_ends(&self) -> u32 {
        u32::try_from(self.ended.len() + self.refused.len()).unwrap_or(u32::MAX)
    }

    /// Why its journal cannot be opened.
    pub(crate) fn unopened(&self, id: &InjectionId) -> Option<&String> {
        self.unopened.get(id)
    }

    pub(crate) fn all_unopened(&self) -> &BTreeMap<InjectionId, String> {
        &self.unopened
    }

    /// True when that is news.
    pub(crate) fn mark_unopened(&mut self, id: InjectionId, why: String) -> bool {
        self.unopened.insert(id, why).is_none()
    }

    pub(crate) fn mark_opened(&mut self, id: &InjectionId) {
        self.unopened.remove(id);
    }

    /// Nothing is left that a guardian would have to undo.
    pub(crate) fn is_idle(&self) -> bool {
        self.active.is_empty() && self.unopened.is_empty()
    }

    pub(crate) fn has_residue(&self) -> bool {
        !self.residue.is_empty()
    }

    /// Injections that a proof found to have left something, or could not look at.
    pub(crate) fn suspects(&self) -> Vec<InjectionId> {
        self.suspects.iter().cloned().collect()
    }

    /// What a proof found left of these injections; true when it is something, and not what is known.
    pub(crate) fn remember_residue(&mut self, residue: Vec<String>, of: &[InjectionId]) -> bool {
        let is_news = residue != self.residue && !residue.is_empty();
        self.suspects = if residue.is_empty() {
            BTreeSet::new()
        } else {
            of.iter().cloned().collect()
        };
        self.residue = residue;
        is_news
    }

    /// What a proof of these injections could not look at, nothing where it saw everything; true when it is something, and not what is known.
    pub(crate) fn remember_unseen(&mut self, unseen: &[String], of: &[InjectionId]) -> bool {
        let why = (!unseen.is_empty()).then(|| unseen.join("; "));
        let is_news = why.is_some() && why != self.unproven;
        if why.is_some() {
            self.suspects.extend(of.iter().cloned());
        }
        self.unproven = why;
        is_news
    }

    /// Why it is unknown whether anything is left.
    pub(crate) fn unproven(&self) -> Option<&String> {
        self.unproven.as_ref()
    }

    /// A person can answer for what is known to be left, and not for what could not be looked at.
    pub(crate) fn accept_residue(&mut self) {
        self.residue.clear();
        if self.unproven.is_none() {
            self.suspects.clear();
        }
    }

    /// Everything known to be left behind, in words.
    pub(crate) fn all_residue(&self) -> Vec<String> {
        let failing = self.active.values().filter_map(Active::residue);
        failing
            .chain(self.unopened.values().cloned())
            .chain(self.residue.iter().cloned())
            .collect()
    }

    pub(crate) fn inventory(&self) -> Vec<InventoryItem> {
        let item = |injection: &InjectionId, run: &str, state, finished| InventoryItem {
            injection: injection.clone(),
            run: run.to_owned(),
            state,
            finished,
        };
        let active = self.active.values().map(|a| item(&a.injection, &a.run, a.state(), false));
        let unopened = self.unopened.keys().map(|id| item(id, "", InjectionState::UndoFailed, false));
        let ended = self.ended.iter().map(|(id, ended)| item(id, &ended.run, ended.state, true));
        let refused = self
            .refused
            .values()
            .map(|r| item(&r.injection, &r.run, InjectionState::Refused, true));
        active.chain(unopened).chain(ended).chain(refused).collect()
    }
}
