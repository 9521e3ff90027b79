//! What the warden tells when it is asked: inventory, reports again, proofs, status; none of it changes an injection.
use agent_levers::{Findings, History, inspect};
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
        let mut found = inspect(&histories, &holding, self.view());
        // A look and a sweep may take seconds each; the guardian must not take them together for silence.
        self.guardian.tick(self.executor.view().boot_ms());
        let mut left: Vec<String> = self.state.all_unopened().values().cloned().collect();
        if !found.seen.owned_left.is_empty() {
            let swept = self.executor.sweep(&self.state.open_ids());
            left.extend(swept.failed);
            self.guardian.tick(self.executor.view().boot_ms());
            if !swept.removed.is_empty() {
                found = inspect(&histories, &holding, self.executor.view().as_ref());
                let removed = |what| format!("{what}: belonged to no injection, and was removed");
                self.guardian.tick(self.executor.view().boot_ms());
                found.seen.drift.extend(swept.removed.into_iter().map(removed));
            }
        }
        found.seen = with_left(found.seen, left);
        let mut proof = found.proof();
        if let Some(error) = unread.first()
            && proof.result == Cleanliness::Clean
        {
            tracing::error!(error = chain(error), "a journal cannot be read, so nobody knows what it touched");
            proof.result = Cleanliness::Unproven;
            return proof;
        }
        if !ids.iter().any(|id| self.state.active(id).is_some()) {
            self.remember(&found, ids);
        }
        proof
    }

    /// Removes what belongs to no injection, then looks: what an earlier process knew to be left has ended with its memory. A look that fails
    /// does not keep the agent from its start; the host is unproven until one succeeds.
    pub(super) fn prove_at_start(&mut self) {
        let swept = self.executor.sweep(&self.state.open_ids());
        self.still_here();
        let holding: Vec<InjectionId> = self.state.active_ids().into_iter().collect();
        // It is not swept a second time: what cannot be removed now is tried again from the first tick on.
        let mut found = inspect::<History>(&[], &holding, self.view());
        found.seen = with_left(found.seen, swept.failed);
        self.remember(&found, &[]);
    }

    /// What could not be looked at is no residue, and what was known to be left may be there unseen.
    fn remember(&mut self, found: &Findings, ids: &[InjectionId]) {
        let residue: Vec<String> = found.seen.owned_left.iter().chain(&found.seen.not_restored).cloned().collect();
        let unseen = found.unseen();
        if !residue.is_empty() || unseen.is_empty() {
            let words = residue.join("; ");
            if self.state.remember_residue(residue, ids) {
                tracing::error!(residue = words, "the host is dirty");
            }
        }
        self.remember_unseen(&unseen, ids);
    }

    pub(super) fn remember_unseen(&mut self, unseen: &[String], ids: &[InjectionId]) {
        if self.state.remember_unseen(unseen, ids) {
            tracing::error!(
                why = unseen.join("; "),
                "whether anything is left on this host is unknown: nothing is admitted until it can be looked at"
            );
        }
    }

    pub(super) fn status(&self) -> AgentStatus {
        let (boot_id, now) = (self.view().boot_id(), self.view().boot_ms());
        let mut residue = self.state.all_residue();
        let unproven = self.state.unproven();
        let cleanliness = match (residue.is_empty(), unproven, self.state.actives().next()) {
            (false, ..) => Cleanliness::Dirty,
            (true, Some(_), _) => Cleanliness::Unproven,
            (true, None, Some(_)) => Cleanliness::Faulted,
            (true, None, None) => Cleanliness::Clean,
        };
        residue.extend(unproven.cloned());
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

/// A journal that cannot be opened, and what cannot be removed, with its cause, are things of ours that are left.
fn with_left(proof: CleanProof, left: Vec<String>) -> CleanProof {
    if left.is_empty() {
        return proof;
    }
    let owned = proof.owned_left.into_iter().chain(left).collect();
    CleanProof::of(owned, proof.not_restored, proof.drift, proof.consequences, &proof.boot_id)
}
