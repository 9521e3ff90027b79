//! What the warden tells when it is asked: inventory, reports again, proofs, status; none of it changes an injection.
use agent_levers::History;
use agent_levers::prove;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentReport, CleanProof, Cleanliness};

use super::Warden;
use crate::causes::chain;
use crate::handle::{AgentStatus, WardenError};

impl Warden {
    /// Sends what was told of this injection once more.
    pub(super) fn tell_again(&self, id: &InjectionId) {
        for report in self.told(id) {
            self.send(report);
        }
    }

    fn told(&self, id: &InjectionId) -> Vec<AgentReport> {
        if let Some(report) = self.state.refused(id) {
            return vec![report.clone()];
        }
        if let Some(active) = self.state.active(id) {
            return active.journal.history().reports.clone();
        }
        if self.state.ended(id).is_none() {
            return Vec::new();
        }
        match self.executor.journal_store().read(id) {
            Ok(history) => history.reports,
            Err(error) => {
                tracing::error!(%error, injection = %id, "an ended injection's journal cannot be read");
                Vec::new()
            }
        }
    }

    pub(super) fn unsettled(&self) -> Vec<AgentReport> {
        self.state.unsettled().flat_map(|id| self.told(id)).collect()
    }

    /// Looks whether these injections, and the host, are clean. An injection that still acts and is asked for is residue.
    pub(super) fn verify(&mut self, ids: &[InjectionId]) -> CleanProof {
        let mut holding: Vec<InjectionId> = self.state.active_ids().into_iter().collect();
        holding.retain(|id| !ids.contains(id));
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for id in ids.iter().filter(|id| self.state.ended(id).is_some()) {
            match self.executor.journal_store().read(id) {
                Ok(history) => read.push(history),
                Err(error) => unread.push(error),
            }
        }
        let acting = ids
            .iter()
            .filter_map(|id| self.state.active(id))
            .map(|active| active.journal.history());
        let histories: Vec<&History> = read.iter().chain(acting).collect();
        let mut proof = prove(&histories, &holding, self.view());
        if !proof.owned_left.is_empty() {
            let swept = self.executor.sweep(&self.state.open_ids());
            if !swept.removed.is_empty() {
                proof = prove(&histories, &holding, self.executor.view().as_ref());
                let removed = |what| format!("{what}: belonged to no injection, and was removed");
                proof.drift.extend(swept.removed.into_iter().map(removed));
            }
        }
        let mut proof = with_strays(proof, self.state.all_unopened().values());
        if let Some(error) = unread.first()
            && proof.result == Cleanliness::Clean
        {
            tracing::error!(error = chain(error), "a journal cannot be read, so nobody knows what it touched");
            proof.result = Cleanliness::Unproven;
        }
        if !ids.iter().any(|id| self.state.active(id).is_some()) {
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
        let words = residue.join("; ");
        if self.state.remember_residue(residue, ids) {
            tracing::error!(residue = words, "the host is dirty");
        }
    }

    pub(super) fn status(&self) -> AgentStatus {
        let (boot_id, now) = (self.view().boot_id(), self.view().boot_ms());
        let residue = self.state.all_residue();
        let cleanliness = match (residue.is_empty(), self.state.actives().next().is_none()) {
            (false, _) => Cleanliness::Dirty,
            (true, false) => Cleanliness::Faulted,
            (true, true) => Cleanliness::Clean,
        };
        AgentStatus {
            cleanliness,
            residue,
            halted: self.latches.engaged(),
            halt_epoch: self.latches.epoch(),
            active: self.state.actives().map(|active| active.glance(&boot_id, now)).collect(),
            unsettled: self.state.unsettled_ends(),
            guarded: self.guardian.is_guarded(),
            boot_id,
            boot_ms: now,
        }
    }

    pub(super) fn local_release(&mut self) -> Result<(), WardenError> {
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
