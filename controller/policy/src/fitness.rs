//! Whether a host may be injected now: connected, clean, open, enrolled, and not under an injection.

use proto_model::host::{Availability, Connection, Host, Membership};
use proto_model::injection::Cleanliness;
use proto_model::plan::Origin;

use crate::occupancy::Occupancy;

/// Why a host may not be injected now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfitness {
    /// `locked`, `dirty`, `lost`, `unproven`, `cordoned`, `halted` or `injected`.
    pub code: &'static str,
    /// A sentence that follows the host's name.
    pub why: String,
}

impl Unfitness {
    pub(crate) const LOST: &'static str = "lost";
    const INJECTED: &'static str = "injected";

    fn new(code: &'static str, why: impl Into<String>) -> Option<Self> {
        Some(Self { code, why: why.into() })
    }

    /// Two attacks may share a host as far as the host accepts both; an experiment needs its hosts for itself, because its verdict
    /// would otherwise be about the fault of another run.
    pub fn bars(&self, origin: Origin) -> bool {
        origin != Origin::Attack || self.code != Self::INJECTED
    }
}

/// What speaks against injecting the host, whoever asks.
pub fn unfitness(host: &Host) -> Option<Unfitness> {
    state(host).or_else(|| match Occupancy::shows_injection(host) {
        true => Unfitness::new(Unfitness::INJECTED, "is already under an injection"),
        false => None,
    })
}

/// The same without regard to what is injected.
pub(crate) fn state(host: &Host) -> Option<Unfitness> {
    let because = |note: &Option<String>| note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
    match (host.membership, host.connection, host.cleanliness, host.availability) {
        (Membership::Locked | Membership::Removed, ..) => Unfitness::new("locked", "is locked"),
        (_, _, Cleanliness::Dirty, _) => Unfitness::new("dirty", format!("is dirty{}", because(&host.note))),
        (_, Connection::Lost, ..) => {
            let seen = host.last_seen.map(|at| format!(", last seen {at}")).unwrap_or_default();
            Unfitness::new(Unfitness::LOST, format!("is not connected{seen}"))
        }
        (_, _, Cleanliness::Unproven, _) => Unfitness::new("unproven", "is not proven clean"),
        (.., Availability::Cordoned) => Unfitness::new("cordoned", format!("is cordoned{}", because(&host.note))),
        (.., Availability::Halted) => Unfitness::new("halted", format!("is halted{}", because(&host.note))),
        _ => None,
    }
}
