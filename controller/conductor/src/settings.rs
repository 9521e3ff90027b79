//! How long the conductor waits for what; every figure in one place.

use crate::mass_loss::MassLossRule;

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an agent may hold an injection without word from here.
    pub lease_ms: u64,
    /// How long hosts have to answer preflight, from the last answer of any of them on.
    pub preflight_within_ms: u64,
    /// How long the count over all runs may take before a step is ordered.
    pub room_within_ms: u64,
    /// How long an ordered injection may take to act.
    pub apply_within_ms: u64,
    /// How long after its deadline an injection may still be undoing before the run is stopped.
    pub undo_within_ms: u64,
    /// How long connected hosts have for their proof, from the last proof of any of them on.
    pub verify_within_ms: u64,
    /// How often an unanswered stop or an unclean proof is asked for again.
    pub ask_again_ms: u64,
    /// How long a lost host is waited for after max(deadline, lease end).
    pub lost_grace_ms: u64,
    /// When so many hosts are lost at once that everything is halted.
    pub mass_loss: MassLossRule,
}

impl Settings {
    /// Everything that follows from the lease.
    pub fn with_lease(lease_ms: u64) -> Self {
        Self {
            lease_ms,
            preflight_within_ms: 20_000,
            room_within_ms: 5_000,
            apply_within_ms: 15_000,
            undo_within_ms: 12_000,
            verify_within_ms: 30_000,
            ask_again_ms: 2_000,
            lost_grace_ms: 15_000,
            mass_loss: MassLossRule::default(),
        }
    }

    /// How long a host under an injection may be away before the run is stopped: a redial within a renewal is no loss.
    pub fn blip_ms(&self) -> u64 {
        self.lease_ms / 3
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::with_lease(15_000)
    }
}
