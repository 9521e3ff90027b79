//! What the warden tells when it is asked: inventory, reports again, proofs, status; none of it changes an injection.
use agent_levers::History;
use agent_levers::prove;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentReport, CleanProof, Cleanliness, InjectionState};

use crate::handle::{AgentStatus, InventoryItem, WardenError};
use crate::start::chain;
use crate::warden::Warden;

impl Warden {
    pub(crate) fn is_known(&self, id: &InjectionId) -> bool {
        self.active.contains_key(id)
            || self.ended.contains_key(id)
            || self.refused.contains_key(id)
            || self.strays.contains_key(id)
            || self.was_settled(id)
    }

    /// Sends what was told of this injection once more.
    pub(crate) fn tell_again(&self, id: &InjectionId) {
        for report in self.told(id) {
            self.send(report);
        }
    }

    fn told(&self, id: &InjectionId) -> Vec<AgentReport> {
        if let Some(report) = self.refused.get(id) {
            return vec![report.clone()];
        }
        if let Some(active) = self.active.get(id) {
            return active.journal.history().reports.clone();
        }
        if !self.ended.contains_key(id) {
            return Vec::new();
        }
        match self.shelf.read(id) {
            Ok(history) => history.reports,
            Err(error) => {
                tracing::error!(%error, injection = %id, "an ended injection's journal cannot be read");
                Vec::new()
            }
        }
    }

    pub(crate) fn unsettled(&self) -> Vec<AgentReport> {
        let known = self.active.keys().chain(self.ended.keys()).chain(self.refused.keys());
        known.flat_map(|id| self.told(id)).collect()
    }

    pub(crate) fn inventory(&self) -> Vec<InventoryItem> {
        let item = |injection: &InjectionId, run: &str, state, finished| InventoryItem {
            injection: injection.clone(),
            run: run.to_owned(),
            state,
            finished,
        };
        let active = self.active.values().map(|a| item(&a.injection, &a.run, a.state(), false));
        let strays = self.strays.keys().map(|id| item(id, "", InjectionState::UndoFailed, false));
        let ended = self.ended.iter().map(|(id, ended)| item(id, &ended.run, ended.state, true));
        let refused = self
            .refused
            .values()
            .map(|r| item(&r.injection, &r.run, InjectionState::Refused, true));
        active.chain(strays).chain(ended).chain(refused).collect()
    }

    /// Looks whether these injections, and the host, are clean. An injection that still acts and is asked for is residue.
    pub(crate) fn verify(&mut self, ids: &[InjectionId]) -> CleanProof {
        let holding: Vec<InjectionId> = self.active.keys().filter(|id| !ids.contains(id)).cloned().collect();
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for id in ids.iter().filter(|id| self.ended.contains_key(id)) {
            match self.shelf.read(id) {
                Ok(history) => read.push(history),
                Err(error) => unread.push(error),
            }
        }
        let acting = ids
            .iter()
            .filter_map(|id| self.active.get(id))
            .map(|active| active.journal.history());
        let histories: Vec<&History> = read.iter().chain(acting).collect();
        let proof = prove(&histories, &holding, self.view.as_ref());
        let mut proof = with_strays(proof, self.strays.values());
        if let Some(error) = unread.first()
            && proof.result == Cleanliness::Clean
        {
            tracing::error!(error = chain(error), "a journal cannot be read, so nobody knows what it touched");
            proof.result = Cleanliness::Unproven;
        }
        if !ids.iter().any(|id| self.active.contains_key(id)) {
            self.remember(&proof, ids);
        }
        proof
    }

    fn remember(&mut self, proof: &CleanProof, ids: &[InjectionId]) {
        // What could not be looked at is no residue.
        if proof.result == Cleanliness::Unproven {
            return;
        }
        let residue: Vec<String> = proof.owned_left.iter().chain(&proof.not_restored).cloned().collect();
        if residue != self.residue && !residue.is_empty() {
            tracing::error!(residue = residue.join("; "), "the host is dirty");
        }
        self.suspects = if residue.is_empty() {
            Default::default()
        } else {
            ids.iter().cloned().collect()
        };
        self.residue = residue;
    }

    /// Everything known to be left behind, in words.
    pub(crate) fn all_residue(&self) -> Vec<String> {
        let failing = self.active.values().filter_map(crate::active::Active::residue);
        failing
            .chain(self.strays.values().cloned())
            .chain(self.residue.iter().cloned())
            .collect()
    }

    pub(crate) fn status(&self) -> AgentStatus {
        let now = self.view.boot_ms();
        let residue = self.all_residue();
        let cleanliness = match (residue.is_empty(), self.active.is_empty()) {
            (false, _) => Cleanliness::Dirty,
            (true, false) => Cleanliness::Faulted,
            (true, true) => Cleanliness::Clean,
        };
        AgentStatus {
            cleanliness,
            residue,
            halted: self.latches.engaged(),
            halt_epoch: self.latches.epoch(),
            active: self.active.values().map(|active| active.glance(now)).collect(),
            unsettled: u32::try_from(self.ended.len() + self.refused.len()).unwrap_or(u32::MAX),
            guarded: self.attendant.is_guarded(),
            boot_id: self.view.boot_id(),
            boot_ms: now,
        }
    }

    pub(crate) fn local_release(&mut self) -> Result<(), WardenError> {
        let released = self.latches.release_host();
        released.map_err(|e| WardenError::Refused(format!("release the host's halt: {e}")))
    }
}

/// A journal that cannot be opened is something of ours that is left.
fn with_strays<'a>(proof: CleanProof, strays: impl Iterator<Item = &'a String>) -> CleanProof {
    let strays: Vec<String> = strays.cloned().collect();
    if strays.is_empty() {
        return proof;
    }
    let owned = proof.owned_left.into_iter().chain(strays).collect();
    CleanProof::of(owned, proof.not_restored, proof.drift, proof.consequences, &proof.boot_id)
}
